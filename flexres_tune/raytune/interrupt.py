"""Ctrl-C and SIGTERM: the first winds the sweep down, the second ends the process at once; without ray."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupt:
    """Context in which a signal sets `requested` in place of raising KeyboardInterrupt inside Ray."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._old: dict[int, object] = {}

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    def __enter__(self) -> Interrupt:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            self._old = {number: signal.signal(number, self._handle) for number in SIGNALS}
        return self

    def __exit__(self, *exc_info) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._event.is_set():
            os._exit(128 + number)
        self._event.set()
