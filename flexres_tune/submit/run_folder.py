"""RunFolder: ~/.flexres_tune/<sweep>/ on the head: the tree that was sent, the log, the exit status, and a lock."""

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
_PATIENCE_S = 0.5  # is_running() takes the lock for an instant to look; a run that starts just then tries again


@dataclass(frozen=True)
class RunFolder:
    """Files of the last run of a sweep that was submitted; `home` is the user's on the head."""

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
        """Of this sweep alone: another that is submitted does not change the code of one that runs."""
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
        """The lock as a file descriptor, which the run's keeper inherits; None where a run holds it."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return handle
            except BlockingIOError:
                if time.monotonic() > end:
                    os.close(handle)
                    return None
                time.sleep(0.05)

    def is_running(self) -> bool:
        """Whether a run holds the lock; the kernel lets go of it when the run's keeper dies."""
        with contextlib.suppress(FileNotFoundError), open(self.lock, "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def begin(self) -> None:
        """Forget the last run: under the lock, before the next."""
        self.status.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)
        self.log.write_bytes(b"")

    def write_record(self, pid: int) -> None:
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        atomic_write_text(self.record, json.dumps({"pid": pid, "started_at": started_at}))

    def read_record(self) -> dict:
        """`pid` of the run and `started_at`; empty where it has not begun."""
        try:
            record = json.loads(self.record.read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def write_status(self, status: int) -> None:
        atomic_write_text(self.status, f"{status}\n")

    def read_status(self) -> int | None:
        """Exit status of the last run; None where nobody was left to write it."""
        try:
            return int(self.status.read_text())
        except (OSError, ValueError):
            return None

    def replace_tree(self, fresh: Path) -> None:
        """A folder that was made beside takes the tree's place."""
        if self.tree.exists():
            shutil.rmtree(self.tree)
        os.rename(fresh, self.tree)
