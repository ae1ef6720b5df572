"""RunFolder: ~/.flexres_tune/<sweep>/ on the head: the code that was sent, the log, the exit status, and a lock."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from flexres_tune.errors import ResultsError
from flexres_tune.names import name_problem
from flexres_tune.storage import atomic_write_text, parse_json
from flexres_tune.storage.file_lock import is_locked, lock_file

FOLDER = ".flexres_tune"  # in the head's home
HEAD_MODULE = "flexres_tune.submit.head"


class RunFolder:
    """Files of the last run of a sweep that was submitted; `home` is the user's home on the head."""

    def __init__(self, home: Path, sweep: str):
        if problem := name_problem(sweep):
            raise ResultsError(f"{home}: the sweep's name {problem}")
        self.home, self.sweep = home, sweep
        self.folder = home / FOLDER / sweep
        self.tree = self.folder / "tree"  # each sweep has its own: submitting one does not change the code of another
        self.log = self.folder / "log.txt"
        self._record = self.folder / "run.json"
        self._status = self.folder / "status"
        self._lock = self.folder / "lock"

    def acquire(self) -> BinaryIO | None:
        """The locked file, which the run's supervisor inherits; None if a run holds the lock."""
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = open(self._lock, "ab")  # noqa: SIM115 - open while the run lasts
        if lock_file(file):
            return file
        file.close()
        return None

    def is_running(self) -> bool:
        """Whether a run holds the lock; the kernel releases it when the run's supervisor ends."""
        with contextlib.suppress(FileNotFoundError), open(self._lock, "rb") as file:
            return is_locked(file)
        return False

    def unpack(self, archive: Path) -> None:
        """Unpack the code that was sent, and remove what the last run left. Call it with the lock held."""
        self._status.unlink(missing_ok=True)
        self._record.unlink(missing_ok=True)
        self.log.write_bytes(b"")
        folder = self.folder / f"tree-{secrets.token_hex(4)}"
        with zipfile.ZipFile(archive) as source:
            source.extractall(folder)  # never writes outside the folder
        if self.tree.exists():
            shutil.rmtree(self.tree)
        os.rename(folder, self.tree)

    def start_supervisor(self, lock: BinaryIO, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Start a process that calls `supervise(command)` in `tree` and holds the lock until it ends.

        It has its own session, so that neither a lost connection nor a closed terminal sends it a signal.
        """
        with lock, open(self.log, "ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", HEAD_MODULE, "--", "supervise", self.sweep, *command],
                cwd=self.tree,
                env=os.environ | {"PYTHONPATH": str(self.tree)} | dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
                start_new_session=True,
            )

    def supervise(self, command: Sequence[str]) -> int:
        """Run the command to its end; write and return its exit status, which is 128 + N if signal N ended it."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # at a shutdown, too, the run must end first
            signal.signal(number, lambda number, frame: None)  # not SIG_IGN, which the run would inherit
        process = subprocess.Popen(command)
        started_at = datetime.now(UTC).isoformat(timespec="seconds")
        atomic_write_text(self._record, json.dumps({"pid": process.pid, "started_at": started_at}))
        status = process.wait()
        status = 128 - status if status < 0 else status
        atomic_write_text(self._status, f"{status}\n")
        return status

    def read_record(self) -> dict:
        """`pid` of the run and `started_at`; empty if it has not started."""
        try:
            record = parse_json(self._record.read_text())
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def read_status(self) -> int | None:
        """Exit status of the last run; None if its supervisor was killed before it could write one."""
        try:
            return int(self._status.read_text())
        except (OSError, ValueError):
            return None
