"""The process on the head that starts a run, outlives the connection, and writes the run's exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from flexres_tune.submit.run_folder import RunFolder


def start_supervisor(run: RunFolder, lock: int, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Start a supervisor, which runs `command` in the code that was sent and holds the lock `lock` until it ends.

    It has its own session, so that neither a lost connection nor a closed terminal sends it a signal.
    """
    with open(run.log, "ab") as log:
        subprocess.Popen(
            [sys.executable, "-m", "flexres_tune.submit.supervisor", str(run.home), run.sweep, *command],
            cwd=run.tree,
            env=os.environ | {"PYTHONPATH": str(run.tree)} | dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            start_new_session=True,
        )
    os.close(lock)


def supervise(run: RunFolder, command: Sequence[str]) -> None:
    """Run the command to its end and write its exit status, which is 128 + N if signal N ended it."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # at a shutdown, too, the run must end first
        signal.signal(number, lambda number, frame: None)  # not SIG_IGN, which the run would inherit
    process = subprocess.Popen(command)
    run.write_record(process.pid)
    status = process.wait()
    run.write_status(128 - status if status < 0 else status)


if __name__ == "__main__":
    supervise(RunFolder(Path(sys.argv[1]), sys.argv[2]), sys.argv[3:])
