"""Driver: `python -m flexres_tune.run` as a separate process, whose descendants a test may kill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil

ROOT = Path(__file__).parents[2]


class Driver:
    """A running sweep. Kills only its own descendants."""

    def __init__(
        self,
        *args: object,
        env: dict[str, str] | None = None,
        prefix: tuple[str, ...] = (),
        module: str = "flexres_tune.run",
        cwd: Path = ROOT,
    ):
        self.output = b""
        command = [*prefix, sys.executable, "-m", module, *map(str, args)]
        read, write = os.pipe()
        self._read = read
        self.process = subprocess.Popen(
            command,
            stdout=write,
            stderr=write,
            cwd=cwd,
            env=os.environ | (env or {}),
            start_new_session=True,
            preexec_fn=_receive_hang_ups,
        )
        os.close(write)
        os.set_blocking(read, False)
        self._known: set[psutil.Process] = set()

    def descendants(self) -> list[psutil.Process]:
        """Processes that this driver has started, and those that they have started."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            found = []
        self._known.update(found)
        return found

    def trials(self) -> list[int]:
        """Processes of trials."""
        return [process.pid for process in self.descendants() if command_line(process).startswith("ray::ImplicitFunc")]

    def raylets(self) -> list[int]:
        return [process.pid for process in self.descendants() if "/raylet/raylet " in command_line(process)]

    def kill(self, pid: int) -> bool:
        """Send SIGKILL to one of its processes; returns whether it still existed."""
        try:
            os.kill(pid, signal.SIGKILL)
            return True
        except ProcessLookupError:
            return False

    def wait_for(self, condition, timeout_s: float = 120) -> None:
        """Wait until condition() is true; fails with the output if the driver ends before."""
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.text()}"
            assert time.monotonic() < deadline, f"nothing after {timeout_s} s: {self.text()}"
            self.text()
            time.sleep(0.1)

    def wait(self, timeout_s: float = 180) -> int:
        """Its exit status."""
        deadline = time.monotonic() + timeout_s
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"still running after {timeout_s} s: {self.text()}"
            self.text()
            time.sleep(0.05)
        return self.process.returncode

    def text(self) -> str:
        """What it has printed so far."""
        with contextlib.suppress(BlockingIOError):
            while chunk := os.read(self._read, 1 << 16):
                self.output += chunk
        return self.output.decode(errors="replace")

    def clean_up(self) -> None:
        """Kill what is left of it, including orphans that were seen before."""
        known = self._known | set(self.descendants())
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for process in known:
            with contextlib.suppress(psutil.NoSuchProcess):  # it checks that the number is not another process's
                process.kill()
        os.close(self._read)


def _receive_hang_ups() -> None:
    """Undo nohup, under which the tests may run: its children ignore SIGHUP."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def command_line(process: psutil.Process) -> str:
    """Its command and arguments, joined by spaces; empty if it has ended."""
    try:
        return " ".join(process.cmdline())
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""
