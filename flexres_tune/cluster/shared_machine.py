"""SharedMachine: sweeps that run at once on one machine, each with its own Ray, divide its CPUs among themselves.

Each driver keeps a locked file in one folder, with what its trials take. All drivers compute the same division from
these files, so none has to lead. For sweeps in one Ray cluster see cluster/shared_cluster.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from flexres_tune.cluster.connection import ray_folder
from flexres_tune.cluster.resources import NodeResources, TrialResources
from flexres_tune.storage.file_lock import is_locked, lock_file
from flexres_tune.text import excerpt, join_words

FOLDER = "flexres_tune_drivers"
RECORD_BYTES = 2048  # of a file: constant, so that it is written by one call and never seen half written
REFRESH_PERIOD_S = 1.0
MAX_WANTED = 10_000  # trials at once; bounds the work that a file of another user can cause


@dataclass(frozen=True)
class LocalDriver:
    """A driver that runs trials on this machine, in its own Ray."""

    sweep: str
    pid: int
    cpu: float  # of one trial
    gpu: float
    num_wanted: int  # trials at once if no other driver were there
    num_running: int

    @classmethod
    def from_json(cls, content: bytes) -> LocalDriver | None:
        """Parse a driver's file, which another user may have written; None if it is damaged."""
        try:
            found = json.loads(content)
            sweep, pid, *numbers = (found[name] for name in cls.__dataclass_fields__)
            cpu, gpu, num_wanted, num_running = (min(max(0.0, float(number)), MAX_WANTED) for number in numbers)
            return cls(excerpt(sweep), int(pid), cpu, gpu, int(num_wanted), int(num_running))
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            return None

    def __str__(self) -> str:
        return f"sweep {self.sweep} (process {self.pid})"


def divide(drivers: Sequence[LocalDriver], num_cpus: float) -> list[int]:
    """How many trials each driver may run at once, eldest driver first: one each in turn, as long as they fit.

    GPUs are not divided, because each Ray would give its trials the first one: the eldest driver has them.
    """
    granted = [0] * len(drivers)
    free = num_cpus
    with_gpu = next((index for index, driver in enumerate(drivers) if driver.gpu), None)
    may_grow = True
    while may_grow:
        may_grow = False
        for index, driver in enumerate(drivers):
            if granted[index] < driver.num_wanted and driver.cpu <= free and (not driver.gpu or index == with_gpu):
                granted[index] += 1
                free -= driver.cpu
                may_grow = True
    return granted


class SharedMachine:
    """This driver's place among those of this machine; a context manager."""

    def __init__(
        self, node: NodeResources | None, sweep: str, resources: TrialResources, on_message: Callable[[str], None]
    ):
        """`node` is this machine; None: Ray was not started here for this sweep, and counts for all its sweeps."""
        self._node, self._on_message = node, on_message
        self._folder = ray_folder().parent / FOLDER
        self._me = LocalDriver(sweep, os.getpid(), resources.cpu, resources.gpu, resources.num_concurrent, 0)
        self._running: set[str] = set()  # trial_ids
        self._others: list[LocalDriver] = []
        self._num_allowed = resources.num_concurrent
        self._has_room, self._checked_at = True, 0.0  # at the last check
        self._path: Path | None = None
        self._handle: int | None = None

    def __enter__(self) -> SharedMachine:
        if self._node is None:
            return self
        # the name orders drivers by age; the file gets it when it is locked, or others would remove it
        name = f"{time.time_ns():020d}-{os.getpid()}"
        hidden = self._folder / f".{name}"
        with contextlib.suppress(OSError):
            self._folder.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(PermissionError):
                self._folder.chmod(0o1777)  # as /tmp: for all users, and only the owner of a file may remove it
            self._handle = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write(0)
            self._path = hidden.rename(self._folder / name)
        return self

    def __exit__(self, *exc_info) -> None:
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        if self._handle is not None:
            os.close(self._handle)
        self._path = self._handle = None  # rows of interrupted trials are written later

    def may_start(self) -> bool:
        """Whether one more trial may start now; it is counted at once. Prints when another driver has come or gone."""
        if self._path is None:
            return True
        if not self._has_room and time.monotonic() - self._checked_at < REFRESH_PERIOD_S:
            return False
        with contextlib.suppress(OSError), contextlib.ExitStack() as stack:  # the folder may have been removed
            folder = os.open(self._folder, os.O_RDONLY)
            stack.callback(os.close, folder)
            if not lock_file(folder):  # or two drivers could take the same CPU
                return False
            self._checked_at = time.monotonic()
            self._update()
            self._has_room = len(self._running) < self._num_allowed
            self._write(len(self._running) + self._has_room)
        return self._has_room

    @property
    def num_free(self) -> None:
        """None: idle processes take no CPU, so they need no share."""

    def started(self, trial_id: str) -> None:
        self._running.add(trial_id)
        self._write(len(self._running))

    def ended(self, trial_id: str) -> None:
        self._running.discard(trial_id)
        self._write(len(self._running))

    def _update(self) -> None:
        before, elder, younger = self._others, *self._find_others()
        self._others = elder + younger
        index, drivers = len(elder), [*elder, self._me, *younger]
        granted = divide(drivers, self._node.num_cpus)
        # a driver that had the machine alone runs more than its share until those trials end
        taken = sum(
            driver.cpu * max(number, driver.num_running)
            for driver, number in zip(drivers, granted, strict=True)
            if driver is not self._me
        )
        fits = int((self._node.num_cpus - taken) / self._me.cpu + 1e-9)
        self._num_allowed = max(0, min(granted[index], fits)) if self._others else self._me.num_wanted
        if {str(driver) for driver in before} != {str(driver) for driver in self._others}:
            self._on_message(self._describe(granted[index]))

    def _describe(self, num_granted: int) -> str:
        if not self._others:
            return f"no other sweep runs on this machine now: {self._num_allowed} at once"
        others = f"{join_words(map(str, self._others[:5]), 'and')} {'runs' if len(self._others) == 1 else 'run'}"
        if not num_granted:
            return f"{others} on this machine and leaves no room: waiting until it ends; Ctrl-C stops waiting"
        text = f"{others} on this machine, too: {num_granted} at once here instead of {self._me.num_wanted}"
        return text if self._num_allowed else f"{text}, as soon as a trial there ends"

    def _find_others(self) -> tuple[list[LocalDriver], list[LocalDriver]]:
        """(drivers that started before this one, those that started later), each from the eldest on."""
        found = {}
        for name in sorted(os.listdir(self._folder)):
            if name != self._path.name and not name.startswith("."):
                with contextlib.suppress(OSError):
                    found[name] = _read_driver(self._folder / name)
        elder = [driver for name, driver in found.items() if driver and name < self._path.name]
        return elder, [driver for name, driver in found.items() if driver and name > self._path.name]

    def _write(self, num_running: int) -> None:
        if self._handle is not None:
            self._me = replace(self._me, num_running=num_running)
            record = json.dumps(asdict(self._me)).encode().ljust(RECORD_BYTES)
            with contextlib.suppress(OSError):  # a full disk: the others see the last record
                os.pwrite(self._handle, record, 0)


def _read_driver(path: Path) -> LocalDriver | None:
    """The driver that holds a file; None, and the file is removed, if it has ended. Raises OSError if unreadable."""
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    with open(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        if is_locked(file):
            return LocalDriver.from_json(file.read(RECORD_BYTES))
    path.unlink()
    return None
