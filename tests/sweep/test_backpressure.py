import pytest

from flexres_tune.errors import ResultsError
from flexres_tune.sweep import backpressure as module
from flexres_tune.sweep.backpressure import PAUSE, Backpressure
from flexres_tune.sweep.signals import Signals


class Disk:
    """A writer whose disk is full for a while."""

    def __init__(self, full_for):
        self.full_for, self.num_waiting = full_for, 3

    def maybe_flush(self, now):
        self.full_for -= 1
        if self.full_for >= 0:
            raise ResultsError("part-1: cannot be written: No space left on device")
        self.num_waiting = 0

    def flush(self):
        self.maybe_flush(0)


def test_sweep_is_held_while_rows_wait_and_says_so_once():
    said = []
    hold = Backpressure(Disk(full_for=3), said.append)
    assert [hold.flush(now) for now in (0, 2, 4, 6)] == [True, True, True, False]
    assert len(said) == 2
    assert "No space left on device; no trial starts until 3 waiting rows are written" in said[0]
    assert said[1] == "all rows are written, after 6 s; the sweep goes on"


def test_person_is_reminded_every_minute():
    said = []
    hold = Backpressure(Disk(full_for=100), said.append)
    for now in range(0, 130, 2):
        hold.flush(now)
    assert len(said) == 3


def test_end_of_a_sweep_waits_for_space(monkeypatch):
    said = []
    interrupt = Signals()
    waited = []
    monkeypatch.setattr(interrupt, "wait", waited.append)
    Backpressure(Disk(full_for=2), said.append).finish(interrupt)
    assert len(waited) == 2
    assert said[-1].endswith("the sweep goes on")


def test_interrupted_while_the_disk_is_full_says_what_is_lost():
    interrupt = Signals()
    interrupt._handle(2, None)
    with pytest.raises(ResultsError, match="No space left on device; 3 rows were lost: the same command runs"):
        Backpressure(Disk(full_for=9), print).finish(interrupt)


def test_write_that_took_long_to_fail_is_not_tried_again_at_once(monkeypatch):
    """Tune's thread waits for it, and has trials to hear."""
    disk, clock = Disk(full_for=2), iter([0.0, 5.0, 100.0, 105.0, 200.0, 200.0])
    monkeypatch.setattr(module.time, "monotonic", lambda: next(clock))
    hold = Backpressure(disk, lambda text: None)
    assert [hold.flush(now) for now in (0, 2, 5 + 5 * PAUSE - 1)] == [True] * 3
    assert disk.full_for == 1
    assert hold.flush(5 + 5 * PAUSE) and disk.full_for == 0
    assert hold.flush(1000) is False
