"""Driver: `python -m flexres_tune.run` as a process of its own, whose own processes a test may kill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Driver:
    """A running sweep. Kills only what it has started itself: its descendants, by /proc."""

    def __init__(self, *args: object, env: dict[str, str] | None = None, prefix: tuple[str, ...] = ()):
        self.output = b""
        command = [*prefix, sys.executable, "-m", "flexres_tune.run", *map(str, args)]
        read, write = os.pipe()
        self._read = read
        self.process = subprocess.Popen(
            command,
            stdout=write,
            stderr=write,
            cwd=ROOT,
            env=os.environ | (env or {}),
            start_new_session=True,
            preexec_fn=_hear_hang_ups,
        )
        os.close(write)
        os.set_blocking(read, False)
        self._known: set[int] = set()

    def descendants(self) -> list[int]:
        """Processes that this driver has started, and those that they have."""
        children: dict[int, list[int]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            if (parent := _parent(int(folder.name))) is not None:
                children.setdefault(parent, []).append(int(folder.name))
        found, todo = [], [self.process.pid]
        while todo:
            for child in children.get(todo.pop(), []):
                found.append(child)
                todo.append(child)
        self._known.update(found)
        return found

    def trials(self) -> list[int]:
        """Processes of trials."""
        return [pid for pid in self.descendants() if _command(pid).startswith("ray::ImplicitFunc")]

    def raylets(self) -> list[int]:
        return [pid for pid in self.descendants() if "/raylet/raylet " in _command(pid)]

    def kill(self, pid: int) -> bool:
        """SIGKILL one of its processes; whether it was still there."""
        try:
            os.kill(pid, signal.SIGKILL)
            return True
        except ProcessLookupError:
            return False

    def wait_for(self, condition, timeout_s: float = 120) -> None:
        """Until condition() is true; fails with the output where the driver ends before."""
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
        """Kill what is left of it: orphans, too, as far as they were seen."""
        known = self._known | set(self.descendants())
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        for pid in known:
            if "ray" in _command(pid):  # a number may have gone to another process by now
                self.kill(pid)
        os.close(self._read)


def _hear_hang_ups() -> None:
    """The tests themselves may run under nohup, whose children ignore SIGHUP."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _parent(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return None


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
