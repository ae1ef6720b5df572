"""One driver per sweep: an flock on results/<sweep>/driver.lock, which the kernel releases when the driver dies.

On object storage, which has no such locks, a claim with a heartbeat does the same: see results/object_lock.py.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterator
from typing import BinaryIO

from flexres_tune.errors import ResultsError, describe_os_error
from flexres_tune.results.holder import Holder
from flexres_tune.results.object_lock import exit_when_lost, find_claim_holder, hold_claim
from flexres_tune.results.paths import SweepPaths
from flexres_tune.storage import is_remote, open_file
from flexres_tune.storage.file_lock import is_locked, lock_file


@contextlib.contextmanager
def sweep_lock(paths: SweepPaths) -> Iterator[None]:
    """Context in which this process is the sweep's only driver.

    The file is never deleted: a process that deletes it could remove the name after another driver has locked the file.
    On network file systems that are mounted without locks (NFS with `nolock`), drivers on other machines are not seen.

    Raises:
        ResultsError: another driver holds the lock (named by host, pid and start), or the folder cannot be written.
    """
    path = paths.lock
    if is_remote(path):
        with hold_claim(path, paths.sweep, functools.partial(exit_when_lost, paths.sweep)):
            yield
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A link is not followed: in a stranger's folder it could lead to any file, which is emptied below.
        file = open_file(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, "rb+")
    except OSError as error:
        raise ResultsError(f"{path}: cannot be written: {describe_os_error(error)}") from error
    with file:  # closing it releases the lock
        try:
            is_ours = lock_file(file)
            if is_ours:
                file.truncate(0)
                file.write(Holder.of_this_process().to_json())
                file.flush()
        except OSError as error:
            raise ResultsError(f"{path}: cannot be locked: {describe_os_error(error)}") from error
        if not is_ours:
            raise _read(file).refusal(path, paths.sweep)
        yield


def find_holder(paths: SweepPaths) -> Holder | None:
    """The driver that runs the sweep now; None if none does."""
    if is_remote(paths.lock):
        return find_claim_holder(paths.lock)
    with contextlib.suppress(OSError), open_file(paths.lock) as file:  # never run, or a file system without locks
        return _read(file) if is_locked(file) else None
    return None


def _read(file: BinaryIO) -> Holder:
    file.seek(0)
    return Holder.from_json(file.read(10_000))
