"""Ctrl-C, SIGTERM and SIGHUP: the first winds the sweep down, the second ends the process at once; without ray."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn

from flexres_tune.cli import EXIT_INTERRUPTED

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # a person; Slurm, Kubernetes, a spot notice; a lost terminal
_SHOW_CURSOR = "\x1b[?25h\x1b[0m\n"


class Signals:
    """Context in which a signal sets `requested` in place of raising KeyboardInterrupt inside Ray."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._requested_at = 0.0
        self._old: dict[int, object] = {}
        self._farewell: str | None = None

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    @property
    def seconds(self) -> float:
        """Since the first signal; 0 where none has come."""
        return time.monotonic() - self._requested_at if self.requested else 0.0

    def wait(self, seconds: float) -> bool:
        """Sleep, or less: until a signal comes; whether one has."""
        return self._event.wait(seconds)

    def __enter__(self) -> Signals:
        self.install()
        return self

    def __exit__(self, *exc_info) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}

    def install(self) -> None:
        """Take the signals; once more after `ray.init`, which takes SIGTERM for itself."""
        if threading.current_thread() is not threading.main_thread():  # elsewhere Python allows no handlers
            return
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # under nohup: the person has said that the sweep is to outlive the terminal
            old = signal.signal(number, self._handle)
            self._old.setdefault(number, old)

    @contextlib.contextmanager
    def nothing_to_lose(self, farewell: str) -> Iterator[None]:
        """While Ray starts, which nothing can hurry: the first signal already ends the process, saying farewell.

        The processes that Ray has started by then die with this one (PR_SET_PDEATHSIG).
        """
        self._farewell = farewell
        try:
            yield
        finally:
            self._farewell = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._event.is_set() or self._farewell is not None:
            self.leave()
        self._requested_at = time.monotonic()
        self._event.set()

    def leave(self) -> NoReturn:
        """End the process, without cleaning up or a traceback: it loses what a killed driver loses, and no more."""
        with contextlib.suppress(OSError, ValueError):
            if sys.stdout.isatty():
                os.write(sys.stdout.fileno(), _SHOW_CURSOR.encode())  # the bar has hidden it
            if self._farewell:
                os.write(sys.stdout.fileno(), (self._farewell + "\n").encode(errors="replace"))
        os._exit(EXIT_INTERRUPTED)
