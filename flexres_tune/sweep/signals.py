"""Ctrl-C, SIGTERM and SIGHUP: the first stops the sweep in an orderly way, the second ends the process at once.

The constants below are all times of an interruption, in the order in which it proceeds. The command must end within
10 s of the signal: `docker stop`, for example, sends SIGKILL then.
"""

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

# 0 s: the driver creates the stop file, and starts no further trial. Every worker polls for the file between two
# training steps, saves a checkpoint and ends:
STOP_PERIOD_S = 0.25  # polling a file: on a network file system each poll takes a round trip
REMOTE_STOP_PERIOD_S = 1.0  # polling object storage, in a thread beside the training: each request costs money
# Tune stops the trials that have not ended by themselves. They must have had time for a poll, a step and a checkpoint:
SAVE_S = 1.5  # > STOP_PERIOD_S
REMOTE_SAVE_S = 4.0  # > REMOTE_STOP_PERIOD_S, and the checkpoint is uploaded
# The driver no longer waits for Tune's thread, and writes the rows of all trials:
WIND_DOWN_S = 6.0  # > REMOTE_SAVE_S; leaves time to write the rows within the 10 s
# A notebook or a script continues after the sweep, and cannot start another Ray while Tune's thread uses this one:
WIND_DOWN_IN_LIBRARY_S = 60.0
# All rows are written. The report is written only if this time has not passed, so that the command ends in time:
REPORT_WITHIN_S = 5.0  # < WIND_DOWN_S: no report if Tune did not end by itself

# Python runs a handler only when the main thread is between two of its instructions. If it is inside C for so long, a
# thread does what the handler would have done, in steps that end with the first signal:
STUCK_S = 0.2

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # Ctrl-C; Slurm, Kubernetes, spot machines; a lost terminal
_SHOW_CURSOR = "\x1b[?25h\x1b[0m\n"


class Signals:
    """Context in which a signal sets `requested` instead of raising KeyboardInterrupt inside Ray.

    `ends_process`: the second signal ends the process. A notebook or a script must outlive the sweep that it runs:
    with False the second signal raises KeyboardInterrupt instead.
    """

    def __init__(self, ends_process: bool = True) -> None:
        self._ends_process = ends_process
        self._event = threading.Event()
        self._requested_at = 0.0
        self._old: dict[int, object] = {}
        self._wakeup: tuple[int, int] | None = None  # a pipe into which Python writes each signal's number at once
        self.must_reload = False  # the request is a person's, to read the sweep file again
        self._message: str | None = None  # None: the first signal does not end the process

    @property
    def wind_down_s(self) -> float:
        """How long after a signal the driver waits for Tune's thread."""
        return WIND_DOWN_S if self._ends_process else WIND_DOWN_IN_LIBRARY_S

    @property
    def requested(self) -> bool:
        """Whether a signal has arrived."""
        return self._event.is_set()

    @property
    def seconds_since(self) -> float:
        """Seconds since the first signal; 0 before it."""
        return time.monotonic() - self._requested_at if self.requested else 0.0

    def request_reload(self) -> None:
        """Stop the sweep as a signal does, so that the command can start again with the sweep file as it is now."""
        self.must_reload = True
        self._requested_at = time.monotonic()
        self._event.set()

    def wait(self, seconds: float) -> bool:
        """Sleep until a signal arrives, at most `seconds`; whether one has arrived."""
        return self._event.wait(seconds)

    def __enter__(self) -> Signals:
        self.install()
        return self

    def __exit__(self, *exc_info) -> None:
        if self._wakeup is not None:
            signal.set_wakeup_fd(-1)
            os.close(self._wakeup[1])  # the thread reads the end of the pipe
            self._wakeup = None
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}

    def install(self) -> None:
        """Install the handlers; call it again after `ray.init`, which replaces the one for SIGTERM."""
        if threading.current_thread() is not threading.main_thread():  # Python allows handlers only there
            return
        for number in SIGNALS:
            if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # under nohup the sweep must outlive the terminal
            old = signal.signal(number, self._handle)
            self._old.setdefault(number, old)
        if self._wakeup is None and self._ends_process:  # a thread cannot raise KeyboardInterrupt in the main thread
            self._wakeup = os.pipe()
            os.set_blocking(self._wakeup[1], False)
            signal.set_wakeup_fd(self._wakeup[1], warn_on_full_buffer=False)
            threading.Thread(target=self._watch, args=[self._wakeup[0]], name="signals", daemon=True).start()

    def _watch(self, pipe: int) -> None:
        """End the process if a signal must do so, and the main thread, which is inside C, does not."""
        while numbers := os.read(pipe, 100):
            time.sleep(STUCK_S)
            if self._message is not None and set(numbers) & set(SIGNALS):
                self.exit_now()
        os.close(pipe)

    @contextlib.contextmanager
    def exit_on_first(self, message: str) -> Iterator[None]:
        """Context in which the first signal prints `message` and ends the process at once, or raises KeyboardInterrupt.

        For steps that cannot be interrupted and before which nothing is lost: Ray starts, data are downloaded,
        devices are measured. Processes that Ray has started end with this one (PR_SET_PDEATHSIG).
        """
        self._message = message
        try:
            yield
        finally:
            self._message = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._event.is_set() or self._message is not None:
            self.exit_now()
        self._requested_at = time.monotonic()
        self._event.set()

    def exit_now(self) -> NoReturn:
        """End the process without cleaning up and without a traceback; it loses what `kill -9` loses.

        Raises:
            KeyboardInterrupt: the process is not ours to end.
        """
        if not self._ends_process:
            raise KeyboardInterrupt(self._message or "interrupted")
        with contextlib.suppress(OSError, ValueError):
            if sys.stdout.isatty():
                os.write(sys.stdout.fileno(), _SHOW_CURSOR.encode())  # the progress bar has hidden the cursor
            if self._message:
                os.write(sys.stdout.fileno(), (self._message + "\n").encode(errors="replace"))
        os._exit(EXIT_INTERRUPTED)
