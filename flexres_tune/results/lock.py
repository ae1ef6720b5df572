"""One driver per sweep: an flock on results/<sweep>/driver.lock, which the kernel releases when the driver dies.

On object storage, which has no such locks, a claim with a heartbeat does the same: see results/object_lock.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from flexres_tune.errors import ResultsError, describe_os_error
from flexres_tune.results.holder import Holder
from flexres_tune.results.object_lock import ObjectLock, exit_when_lost, find_claim_holder
from flexres_tune.results.paths import SweepPaths
from flexres_tune.storage import is_remote
from flexres_tune.storage.file_lock import is_locked, lock_file


class SweepLock:
    """Held while a driver runs a sweep; a context manager.

    The file is never deleted: a process that deletes it could remove the name after another driver has locked the file.
    On network file systems that are mounted without locks (NFS with `nolock`), drivers on other machines are not seen.

    Raises:
        ResultsError: another driver holds the lock (named by host, pid and start), or the folder cannot be written.
    """

    def __init__(self, paths: SweepPaths, on_lost: Callable[[], None] | None = None):
        """Prepare the lock without taking it.

        Args:
            on_lost: on object storage, called if another driver has taken the sweep over; by default the process exits.
        """
        self.paths = paths
        self._on_lost = on_lost or exit_when_lost(paths.sweep)
        self._file: BinaryIO | None = None
        self._object: ObjectLock | None = None

    def __enter__(self) -> SweepLock:
        self.acquire()
        return self

    def __exit__(self, *exc_info) -> None:
        self.release()

    def acquire(self) -> None:
        path = self.paths.lock
        if is_remote(path):
            lock = ObjectLock(path, self.paths.sweep, self._on_lost)
            lock.acquire()
            self._object = lock
        else:
            self._file = _lock_file(path, self.paths.sweep)

    def release(self) -> None:
        if self._file is not None:
            self._file.close()  # releases the lock
            self._file = None
        if self._object is not None:
            self._object.release()
            self._object = None


def find_holder(paths: SweepPaths) -> Holder | None:
    """The driver that runs the sweep now; None if none does."""
    if is_remote(paths.lock):
        return find_claim_holder(paths.lock)
    try:
        with open(paths.lock, "rb") as file:
            return _read(file) if is_locked(file) else None
    except OSError:
        return None  # the sweep was never run, or the file system has no locks


def _lock_file(path: Path, sweep: str) -> BinaryIO:
    """The open file, locked and with this process as its content; closing it releases the lock."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "ab+")  # noqa: SIM115 - open while the lock is held
    except OSError as error:
        raise ResultsError(f"{path}: cannot be written: {describe_os_error(error)}") from error
    try:
        if lock_file(file):
            file.truncate(0)
            file.write(Holder.of_this_process().to_json())
            file.flush()
            return file
        holder = _read(file)
    except OSError as error:
        file.close()
        raise ResultsError(f"{path}: cannot be locked: {describe_os_error(error)}") from error
    file.close()
    raise holder.refusal(path, sweep)


def _read(file: BinaryIO) -> Holder:
    file.seek(0)
    return Holder.from_json(file.read(10_000))
