"""Keeper: the process on the head that starts a run, outlives the connection, and writes the run's exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from flexres_tune.submit.run_folder import RunFolder


def start_keeper(run: RunFolder, lock: int, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Start a keeper in a session of its own: neither a lost connection nor a closed terminal reaches it.

    Args:
        lock: descriptor of the run's lock, which the keeper holds from now on.
        command: the run, which is started in the tree that was sent.
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


def keep(run: RunFolder, command: Sequence[str]) -> int:
    """Run the command to its end; its exit status as a shell would say it."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # at a shutdown, too, the run ends first
        signal.signal(number, _stay)  # a handler, and not SIG_IGN, which the run would inherit
    process = subprocess.Popen(command)
    run.write_record(process.pid)
    status = process.wait()
    status = 128 - status if status < 0 else status
    run.write_status(status)
    return status


def _stay(number: int, frame: FrameType | None) -> None:
    pass


if __name__ == "__main__":
    keep(RunFolder(Path(sys.argv[1]), sys.argv[2]), sys.argv[3:])
