"""Hold: while rows cannot be written, no new trial starts; they wait in memory until there is space again."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from flexres_tune.errors import ResultsError
from flexres_tune.results.writer import SweepWriter
from flexres_tune.sweep.signals import Signals

PAUSE = 3.0  # times as long as a failing write took is waited: Tune's thread, which waits for it, has trials to hear
REMIND_S = 60.0  # between two messages about the same thing
RETRY_S = 2.0


class Backpressure:
    """Writes a sweep's rows, and says what it waits for where they cannot be written.

    Trials that run go on: their epochs are a few hundred bytes each. A trial that starts would take a slot for
    results that may never be written.
    """

    def __init__(self, writer: SweepWriter, on_message: Callable[[str], None]):
        self._writer = writer
        self._on_message = on_message
        self._since: float | None = None
        self._said_at = -math.inf
        self._not_before = -math.inf

    def flush(self, now: float) -> bool:
        """Write what is due; whether rows wait because they could not be written."""
        if now < self._not_before:
            return True
        began = time.monotonic()
        try:
            self._writer.maybe_flush(now)
        except ResultsError as error:
            took = time.monotonic() - began  # nothing for a full disk, seconds for a server that is away
            self._not_before = now + took * (1 + PAUSE)
            self._begin(error, now)
        else:
            if self._since is not None and not self._writer.num_waiting:
                self._end(now)
        return self._since is not None

    def finish(self, interrupt: Signals) -> None:
        """Write everything, however long it takes; interrupted, once more and no longer.

        Raises:
            ResultsError: interrupted while rows cannot be written; says how many are lost.
        """
        was_interrupted = interrupt.requested
        while True:
            try:
                self._writer.flush()
                if self._since is not None:
                    self._end(time.monotonic())
                return
            except ResultsError as error:
                if was_interrupted or interrupt.requested:
                    raise ResultsError(
                        f"{error}; {self._writer.num_waiting} rows were lost: the same command runs those trials "
                        "again, or takes them up at their checkpoints"
                    ) from None
                self._begin(error, time.monotonic())
            interrupt.wait(RETRY_S)

    def _begin(self, error: ResultsError, now: float) -> None:
        if self._since is None:
            self._since = now
        if now - self._said_at >= REMIND_S:
            self._said_at = now
            self._on_message(
                f"{error}; no trial starts until {self._writer.num_waiting} waiting rows are written, which is tried "
                "again every few seconds"
            )

    def _end(self, now: float) -> None:
        self._on_message(f"all rows are written, after {now - self._since:.0f} s; the sweep goes on")
        self._since, self._said_at = None, -math.inf
