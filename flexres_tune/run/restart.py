"""Start the run command again: after Ray's own processes have died, or to read the sweep file again.

A process cannot start Ray a second time, and trials resume from their checkpoints.
"""

from __future__ import annotations

import os
import shlex
import sys
from dataclasses import dataclass
from typing import NoReturn

from flexres_tune.cli import EXIT_FAILED
from flexres_tune.cluster.ray_processes import RayLostError, kill_children


class ReloadRequested(Exception):
    """A person asked the driver to read the sweep file again; all rows and checkpoints are written."""


MAX_RESTARTS = 3
NUM_RESTARTS = "FLEXRES_TUNE_RAY_LOSSES"  # environment variable that counts them, from one process to the next


def typed_command() -> str:
    """What the user has typed; typing it again resumes the sweep."""
    return shlex.join(["python", "-m", "flexres_tune.run", *sys.argv[1:]])


@dataclass(frozen=True)
class Caller:
    """Who runs a session, and how it is run again."""

    again: str  # runs what is missing
    retry: str  # also runs failed trials again
    ends_process: bool = True  # a second signal ends the process; False: it raises KeyboardInterrupt

    @property
    def interrupted_line(self) -> str:
        """The last line of a sweep that a signal has ended."""
        return f"interrupted; to resume: {self.again}"


def typed_caller() -> Caller:
    """The person who has typed the command."""
    command = typed_command()
    has_retry = any(each == "--retry" or each.startswith("--retry=") for each in sys.argv)
    return Caller(command, command if has_retry else f"{command} --retry failed")


def restart_command(error: RayLostError) -> NoReturn:
    """Replace this process by the same command, which runs what is missing; after MAX_RESTARTS, exit instead."""
    num_losses = int(os.environ.get(NUM_RESTARTS, 0)) + 1
    if num_losses > MAX_RESTARTS:
        print(f"{error}, for the {num_losses}th time; run the same command to resume", file=sys.stderr, flush=True)
        os._exit(EXIT_FAILED)  # sys.exit would wait for Tune's thread, which waits for ever
    print(f"{error}; restarting the command, trials resume from their checkpoints", flush=True)
    os.environ[NUM_RESTARTS] = str(num_losses)
    _start_again()


def reload_command(request: ReloadRequested) -> NoReturn:
    """Replace this process by the same command, which reads the sweep file as it is now."""
    print(request, flush=True)
    _start_again()


def _start_again() -> NoReturn:
    sys.stderr.flush()
    kill_children()
    os.execv(sys.executable, [sys.executable, "-m", "flexres_tune.run", *sys.argv[1:]])
