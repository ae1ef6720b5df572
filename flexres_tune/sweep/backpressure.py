"""Back-pressure: while rows cannot be written, no new trial starts; the rows wait in memory until they are written."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from flexres_tune.errors import ResultsError
from flexres_tune.results.writer import SweepWriter
from flexres_tune.sweep.signals import Signals

POLL_PERIOD_S = 0.1  # between two looks whether rows are due; the writer itself says when they are
BACKOFF_FACTOR = (
    3.0  # after a write that failed in t seconds, wait 3 t: a write holds the lock that Tune's thread needs
)
REMIND_S = 60.0  # between two messages about the same failure
RETRY_S = 2.0  # between two attempts once all trials have ended


class Backpressure(AbstractContextManager):
    """The one place that writes a sweep's rows, and that decides whether trials must wait until they are written.

    While the context is open, a thread of its own writes what is due: a slow write must not delay the main thread,
    which handles signals. Running trials continue: their epochs are a few hundred bytes each. A trial that starts would
    occupy a slot for results that may never be written.

    lock: held while rows are written, and by everyone who adds rows.
    clock: seconds, as time.monotonic.
    """

    def __init__(
        self,
        writer: SweepWriter,
        lock: AbstractContextManager,
        on_message: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._writer = writer
        self._lock = lock
        self._on_message = on_message
        self._clock = clock
        self._failing_since: float | None = None
        self._reminded_at = -math.inf
        self._not_before = -math.inf
        self._is_over = threading.Event()
        self._error: Exception | None = None

    def __enter__(self) -> Backpressure:
        threading.Thread(target=self._run, name="rows", daemon=True).start()
        return self

    def __exit__(self, *exc_info) -> None:
        self._is_over.set()

    def must_wait(self) -> bool:
        """Whether rows wait because they could not be written, so that no trial may start.

        Raises:
            Exception: an error other than ResultsError has ended the writing thread.
        """
        if self._error is not None:
            raise self._error
        return self._failing_since is not None

    def flush(self) -> None:
        """Write the rows that are due; after a failure, only once the back-off is over."""
        started = self._clock()
        if started < self._not_before:
            return
        try:
            self._writer.maybe_flush(started)
        except ResultsError as error:
            took = self._clock() - started  # nothing for a full disk, seconds for a server that does not answer
            self._not_before = started + took * (1 + BACKOFF_FACTOR)
            self._report_failure(error, started)
        else:
            if self._failing_since is not None and not self._writer.num_waiting:
                self._report_success(started)

    def finish(self, signals: Signals) -> None:
        """Write everything, retrying as long as it takes; after a signal, only once more.

        Raises:
            ResultsError: interrupted while rows cannot be written; says how many are lost.
        """
        was_interrupted = signals.requested
        while True:
            try:
                self._writer.flush()
                if self._failing_since is not None:
                    self._report_success(self._clock())
                return
            except ResultsError as error:
                if was_interrupted or signals.requested:
                    raise ResultsError(
                        f"{error}; {self._writer.num_waiting} rows are lost: the same command runs those trials again, "
                        "or resumes them from their checkpoints"
                    ) from None
                self._report_failure(error, self._clock())
            signals.wait(RETRY_S)

    def _run(self) -> None:
        while not self._is_over.wait(POLL_PERIOD_S):
            with self._lock:
                if self._is_over.is_set():  # the main thread has closed the journal and calls finish()
                    return
                try:
                    self.flush()
                except Exception as error:  # a bug: must_wait() raises it in Tune's thread, which ends the sweep
                    self._error = error
                    return

    def _report_failure(self, error: ResultsError, now: float) -> None:
        if self._failing_since is None:
            self._failing_since = now
        if now - self._reminded_at >= REMIND_S:
            self._reminded_at = now
            self._on_message(
                f"{error}; no trial starts until {self._writer.num_waiting} waiting rows are written; retrying every "
                "few seconds"
            )

    def _report_success(self, now: float) -> None:
        self._on_message(f"all rows are written, after {now - self._failing_since:.0f} s; the sweep continues")
        self._failing_since, self._reminded_at = None, -math.inf
