"""How many further trials may run at once: never fewer than follow, and none as soon as none follows."""

import random

import pytest
from search.test_resume import DRAWING_SEARCHES, SEARCHES

from flexres_tune.records import TrialStatus
from flexres_tune.search.base import Assignment, History, Outcome


def play(search, num_slots, seed):
    """Run a search to its end. Yields (what it says is to come, assignments not given yet) after each event, as lists."""
    rng, running, log, given = random.Random(seed), [], [], 0
    while True:
        while len(running) < num_slots and isinstance(step := search.ask(), Assignment):
            running.append(step)
            given += 1
        log.append((search.most_to_come(), len(running), given))
        if not running:
            return log, given
        step = running.pop(rng.randrange(len(running)))
        is_end = step.until_epoch == step.trial.config.epochs
        status = TrialStatus.COMPLETED if is_end else TrialStatus.PAUSED
        score = rng.random()
        search.tell(Outcome(step, status, score, score, step.until_epoch, 1.0))


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("num_slots", [1, 3, 64])
def test_processes_are_kept_for_all_that_follow_and_for_none_afterwards(name, num_slots):
    for seed in range(10):
        check_what_is_to_come(SEARCHES[name](History()), num_slots, seed)


@pytest.mark.parametrize("name", DRAWING_SEARCHES)
def test_processes_are_kept_for_all_that_will_be_drawn(name):
    search = DRAWING_SEARCHES[name](History())
    assert search.most_to_come() >= search.work.num_todo
    check_what_is_to_come(search, 3, 0)


def check_what_is_to_come(search, num_slots, seed):
    log, total = play(search, num_slots, seed)
    for to_come, _, given in log:
        assert to_come >= 0
        if given < total:
            assert to_come > 0, "another one follows"
    for (to_come, _, given), (_, _, later) in zip(log, log[1:], strict=False):
        assert later - given <= max(to_come, 0), "those that begin at the next event were announced"
    assert log[-1][0] == 0, "nothing is kept at the end"


@pytest.mark.parametrize("name", SEARCHES)
@pytest.mark.parametrize("num_slots", [1, 3, 64])
def test_machine_that_a_search_cannot_use_any_more_is_never_needed_again(name, num_slots):
    for seed in range(10):
        log, _ = play(SEARCHES[name](History()), num_slots, seed)
        for position, (to_come, running, _) in enumerate(log):
            assert max(later for _, later, _ in log[position:]) <= running + to_come


@pytest.mark.parametrize("name", ["halving", "promotion", "adaptive"])
def test_last_trials_hold_no_further_slots(name):
    """While the last assignments run, no idle process is kept for a successor."""
    log, total = play(SEARCHES[name](History()), 4, 0)
    last = [to_come for to_come, _, given in log if given == total]
    assert last == [0] * len(last)
