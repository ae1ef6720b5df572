"""One driver a sweep: an flock on results/<sweep>/driver.lock, which the kernel lets go of when the driver dies.

On object storage a claim with a heartbeat takes its place: results/remote_lock.py.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import BinaryIO

from flexres_tune.errors import ResultsError, describe_os_error
from flexres_tune.results.object_lock import HeldError, RemoteLock, lost_for, refusal, remote_holder
from flexres_tune.results.paths import SweepPaths
from flexres_tune.storage import RemotePath, is_remote

_PATIENCE_S = 0.5  # holder() takes the lock for an instant to look; a driver that starts just then tries again


class SweepLock:
    """Held while a driver runs a sweep; a context manager.

    The file is never deleted: whoever deletes it could take the name from under a driver that has just locked it.
    On network file systems mounted without locks (NFS with `nolock`) a driver on another machine is not seen.

    Raises:
        ResultsError: another driver holds it, named by host, pid and start; or the folder cannot be written.
    """

    def __init__(self, paths: SweepPaths, on_lost: Callable[[], None] | None = None):
        """Args:
        on_lost: on object storage, what happens where another driver has taken this one for dead; by default the
            process ends at once.
        """
        self.paths = paths
        self._on_lost = on_lost or lost_for(paths.sweep)
        self._file: BinaryIO | None = None
        self._remote: RemoteLock | None = None

    def __enter__(self) -> SweepLock:
        self.acquire()
        return self

    def __exit__(self, *exc_info) -> None:
        self.release()

    def acquire(self) -> None:
        path = self.paths.lock
        if is_remote(path):
            return self._claim(path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = open(path, "ab+")  # noqa: SIM115 - open as long as the lock is held
        except OSError as error:
            raise ResultsError(f"{path}: cannot be written: {describe_os_error(error)}") from error
        try:
            _lock(file, time.monotonic() + _PATIENCE_S)
            file.truncate(0)
            now = datetime.now(UTC).isoformat(timespec="seconds")
            file.write(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "started_at": now}).encode())
            file.flush()
        except BlockingIOError:
            other = _read(file)
            file.close()
            raise ResultsError(
                f"{path}: sweep {self.paths.sweep} is already run by another driver, {_name(other)}; wait for it, "
                "stop it, or give this sweep another name"
            ) from None
        except OSError as error:
            file.close()
            raise ResultsError(f"{path}: cannot be locked: {describe_os_error(error)}") from error
        self._file = file

    def release(self) -> None:
        if self._file is not None:
            self._file.close()  # closing lets go of the lock
            self._file = None
        if self._remote is not None:
            self._remote.release()
            self._remote = None

    def _claim(self, path: RemotePath) -> None:
        lock = RemoteLock(path, self._on_lost)
        try:
            lock.acquire()
        except HeldError as held:
            raise refusal(path, self.paths.sweep, _name(held.other)) from None
        self._remote = lock


def holder(paths: SweepPaths) -> dict | None:
    """`host`, `pid` and `started_at` of the driver that runs the sweep now; None if none does."""
    if is_remote(paths.lock):
        return remote_holder(paths.lock)
    try:
        with open(paths.lock, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _read(file)
    except OSError:
        pass  # never run, or on a file system without locks
    return None


def _lock(file: BinaryIO, deadline: float) -> None:
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _read(file: BinaryIO) -> dict:
    file.seek(0)
    try:
        content = json.loads(file.read(10_000))
    except ValueError:
        content = None
    return content if isinstance(content, dict) else {}


def _name(other: dict) -> str:
    values = (str(other.get(key, "unknown"))[:100] for key in ("host", "pid", "started_at"))
    return "on host {}, pid {}, started {}".format(*values)
