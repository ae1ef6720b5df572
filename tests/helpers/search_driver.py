"""Runs a search without trials: the ends of its assignments are invented."""

from flexres_tune.search.base import DONE, Assignment


def drive(search, end, slots):
    """Ask and tell until a search is done: its assignments, in order. `end` makes the Outcome of an assignment."""
    given, running = [], []
    while True:
        while len(running) < slots and isinstance(step := search.ask(), Assignment):
            running.append(step)
            given.append(step)
        if not running:
            assert step is DONE
            return given
        search.tell(end(running.pop(0)))
