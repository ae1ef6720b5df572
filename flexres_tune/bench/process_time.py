"""The CPU time of this process and of every process that it starts, measured by looking at them again and again."""

from __future__ import annotations

import contextlib
import threading
import time
from contextlib import AbstractContextManager

import psutil

PERIOD_S = 0.2  # between two looks; what a process does after the last look before its end is not counted


class ProcessTime(AbstractContextManager):
    """A clock that runs while the context is open.

    The operating system's own sum over children lacks the processes of Ray, which end unwaited for.
    """

    def __init__(self, period_s: float = PERIOD_S):
        self.cpu_seconds = 0.0  # both are set at the end of the context
        self.wall_seconds = 0.0
        self._period_s = period_s
        self._is_over = threading.Event()
        self._seen: dict[tuple[int, float], float] = {}  # (process id, start) -> CPU time at the last look
        self._before: dict[tuple[int, float], float] = {}
        self._thread = threading.Thread(target=self._watch, name="process time", daemon=True)

    def __enter__(self) -> ProcessTime:
        self._look()
        self._before, self._started = dict(self._seen), time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, *exc_info) -> None:
        self.wall_seconds = time.perf_counter() - self._started
        self._is_over.set()
        self._thread.join()
        self._look()
        self.cpu_seconds = sum(self._seen.values()) - sum(self._before.values())

    def _watch(self) -> None:
        while not self._is_over.wait(self._period_s):
            self._look()

    def _look(self) -> None:
        this = psutil.Process()
        for process in [this, *this.children(recursive=True)]:
            with contextlib.suppress(psutil.Error):  # it has ended since
                times = process.cpu_times()
                self._seen[process.pid, process.create_time()] = times.user + times.system
