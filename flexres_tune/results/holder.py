"""Holder: which driver process holds a sweep's lock, as the lock's content says."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from flexres_tune.errors import ResultsError
from flexres_tune.storage import AnyPath, parse_json

_SAME_START_S = 3.0  # the boot time that the system reports may vary by a second


@dataclass(frozen=True)
class Holder:
    """A driver process. Fields that a damaged or older lock does not contain are unknown."""

    host: str = "unknown"
    pid: int | None = None
    started_at: str = "unknown"  # when the lock was taken, ISO 8601 in UTC
    machine: str | None = None  # one boot of one machine, and the container in it, whose processes are numbered apart
    born: float | None = None  # s from the machine's boot to the process's start: differs if the pid is used again

    @classmethod
    def of_this_process(cls) -> Holder:
        """What this process writes into a lock."""
        pid = os.getpid()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return cls(host=socket.gethostname(), pid=pid, started_at=now, machine=_this_machine(), born=_born(pid))

    @classmethod
    def from_json(cls, content: bytes) -> Holder:
        """Parse a lock's content. Damaged content and fields of other types become unknown."""
        try:
            found = parse_json(content)
        except ValueError:
            found = None
        found = found if isinstance(found, dict) else {}
        kinds = {"host": str, "pid": int, "started_at": str, "machine": str, "born": float}
        return cls(**{name: found[name] for name, kind in kinds.items() if isinstance(found.get(name), kind)})

    def to_json(self) -> bytes:
        return json.dumps(asdict(self)).encode()

    @property
    def is_alive_here(self) -> bool | None:
        """Whether the process runs on this machine; None if it is another machine's, or cannot be known."""
        if self.machine is None or self.machine != _this_machine() or self.pid is None or self.born is None:
            return None
        born = _born(self.pid)
        return born is not None and abs(born - self.born) < _SAME_START_S

    def refusal(self, lock: AnyPath, sweep: str) -> ResultsError:
        """The error of another driver that finds the lock taken."""
        return ResultsError(
            f"{lock}: sweep {sweep} is already run by another driver, {self}; wait for it, stop it, or give this sweep "
            "another name"
        )

    def __str__(self) -> str:
        pid = "unknown" if self.pid is None else self.pid
        return f"on host {self.host[:100]}, pid {pid}, started {self.started_at[:100]}"


def _this_machine() -> str | None:
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return None


def _born(pid: int) -> float | None:
    """Seconds from the machine's boot to the start of a process; None if it has ended.

    Not its time of day, which changes for a living process if the clock is set.
    """
    import psutil  # imported here because queries do not need it

    try:
        process = psutil.Process(pid)
        if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
            return None
        return process.create_time() - psutil.boot_time()
    except (psutil.Error, ValueError, OverflowError):
        return None
