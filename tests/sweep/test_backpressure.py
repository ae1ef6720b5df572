import os
import signal
import threading
import time

import pytest

from flexres_tune.errors import ResultsError
from flexres_tune.sweep.backpressure import BACKOFF_FACTOR, REMIND_S, Backpressure
from flexres_tune.sweep.signals import Signals


class Disk:
    """A writer whose disk is full for a number of attempts."""

    def __init__(self, full_for, on_attempt=lambda: None):
        self.full_for, self.num_waiting, self.on_attempt = full_for, 3, on_attempt

    def maybe_flush(self, now):
        self.on_attempt()
        self.full_for -= 1
        if self.full_for >= 0:
            raise ResultsError("part-1: cannot be written: No space left on device")
        self.num_waiting = 0

    def flush(self):
        self.maybe_flush(0)


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class NoWait(Signals):
    """Signals of a sweep that nobody interrupts; waiting takes no time."""

    num_waits = 0

    def wait(self, seconds):
        self.num_waits += 1


def make(disk, on_message=print, clock=time.monotonic):
    return Backpressure(disk, threading.RLock(), on_message, clock)


def flush_at(backpressure, clock, now):
    clock.now = now
    backpressure.flush()
    return backpressure.must_wait()


def test_trials_wait_while_rows_wait_and_one_message_says_so():
    messages, clock = [], Clock()
    backpressure = make(Disk(full_for=3), messages.append, clock)
    assert [flush_at(backpressure, clock, now) for now in (0, 2, 4, 6)] == [True, True, True, False]
    assert len(messages) == 2
    assert "No space left on device; no trial starts until 3 waiting rows are written" in messages[0]
    assert messages[1] == "all rows are written, after 6 s; the sweep continues"


def test_message_is_repeated_every_minute():
    messages, clock = [], Clock()
    backpressure = make(Disk(full_for=100), messages.append, clock)
    for now in range(0, int(2 * REMIND_S) + 10, 2):
        flush_at(backpressure, clock, now)
    assert len(messages) == 3


def test_end_of_a_sweep_waits_for_space():
    messages, signals = [], NoWait()
    make(Disk(full_for=2), messages.append).finish(signals)
    assert signals.num_waits == 2
    assert messages[-1].endswith("the sweep continues")


def test_interrupted_while_the_disk_is_full_says_what_is_lost():
    with Signals() as signals:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(ResultsError, match="No space left on device; 3 rows are lost: the same command runs"):
            make(Disk(full_for=9)).finish(signals)


def test_write_that_took_long_to_fail_is_not_retried_at_once():
    """It holds the lock that Tune's thread needs for the reports of running trials."""
    clock = Clock()

    def take_five_seconds():
        clock.now += 5

    disk = Disk(full_for=2, on_attempt=take_five_seconds)
    backpressure = make(disk, lambda text: None, clock)
    pause = 5 * BACKOFF_FACTOR
    assert [flush_at(backpressure, clock, now) for now in (0, 6, 5 + pause - 1)] == [True] * 3
    assert disk.full_for == 1
    assert flush_at(backpressure, clock, 5 + pause) and disk.full_for == 0
    assert not flush_at(backpressure, clock, 1000)


def test_rows_are_written_while_the_context_is_open_and_the_lock_is_free():
    written, lock = threading.Event(), threading.RLock()
    backpressure = Backpressure(Disk(full_for=0, on_attempt=written.set), lock, print)
    with lock, backpressure:
        assert not written.wait(0.3), "the journal's lock is held"
    assert not written.is_set(), "the context ended before the lock was free"
    with Backpressure(Disk(full_for=0, on_attempt=written.set), lock, print):
        assert written.wait(10)


def test_error_that_is_no_full_disk_ends_the_sweep():
    def fail():
        raise TypeError("a bug")

    backpressure = make(Disk(full_for=0, on_attempt=fail))
    deadline = time.monotonic() + 10
    with backpressure, pytest.raises(TypeError, match="a bug"):
        while time.monotonic() < deadline:
            backpressure.must_wait()
            time.sleep(0.01)
