"""RunFolder: ~/.flexres_tune/<sweep>/ on the head: the code that was sent, the log, the exit status, and a lock."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from flexres_tune.errors import ResultsError
from flexres_tune.names import name_problem
from flexres_tune.storage import atomic_write_text

FOLDER = ".flexres_tune"  # in the head's home
LOCK_TIMEOUT_S = 0.5  # is_running() holds the lock for an instant; a run that starts at that moment tries again
LOCK_POLL_PERIOD_S = 0.05


@dataclass(frozen=True)
class RunFolder:
    """Files of the last run of a sweep that was submitted; `home` is the user's home on the head."""

    home: Path
    sweep: str

    def __post_init__(self):
        if problem := name_problem(self.sweep):
            raise ResultsError(f"{self.home}: the sweep's name {problem}")

    @property
    def folder(self) -> Path:
        return self.home / FOLDER / self.sweep

    @property
    def tree(self) -> Path:
        """The code that was sent. Each sweep has its own: submitting one does not change the code of another's run."""
        return self.folder / "tree"

    @property
    def log(self) -> Path:
        return self.folder / "log.txt"

    @property
    def record(self) -> Path:
        return self.folder / "run.json"

    @property
    def status(self) -> Path:
        return self.folder / "status"

    @property
    def lock(self) -> Path:
        return self.folder / "lock"

    def acquire(self) -> int | None:
        """The lock as a file descriptor, which the run's supervisor inherits; None if a run holds it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        end = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                if time.monotonic() > end:
                    os.close(handle)
                    return None
                time.sleep(LOCK_POLL_PERIOD_S)

    def is_running(self) -> bool:
        """Whether a run holds the lock; the kernel releases it when the run's supervisor ends."""
        with contextlib.suppress(FileNotFoundError), open(self.lock, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def clear(self) -> None:
        """Remove log, record and status of the last run. Call it with the lock held."""
        self.status.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)
        self.log.write_bytes(b"")

    def replace_tree(self, folder: Path) -> None:
        """Move a folder to `tree`, in place of the code that was sent before."""
        if self.tree.exists():
            shutil.rmtree(self.tree)
        os.rename(folder, self.tree)

    def write_record(self, pid: int) -> None:
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        atomic_write_text(self.record, json.dumps({"pid": pid, "started_at": started_at}))

    def read_record(self) -> dict:
        """`pid` of the run and `started_at`; empty if it has not started."""
        try:
            record = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def write_status(self, status: int) -> None:
        atomic_write_text(self.status, f"{status}\n")

    def read_status(self) -> int | None:
        """Exit status of the last run; None if its supervisor was killed before it could write one."""
        try:
            return int(self.status.read_text())
        except (OSError, ValueError):
            return None
