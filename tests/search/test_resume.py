"""A search that is rebuilt from the tables after every event asks for what the killed one would have asked for."""

import copy
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexres_tune.records import TrialStatus
from flexres_tune.search.adaptive import AdaptiveConfirmation
from flexres_tune.search.base import Assignment, History, Outcome, PastTrial
from flexres_tune.search.rungs import Candidate, Rung, RungSearch
from flexres_tune.spec import PlannedTrial, TrialConfig

EPOCHS = 27


def make_candidate(index, num_seeds, group=None):
    configs = [
        TrialConfig(model="tiny", dataset="digits", lr=0.001 * (index + 1), epochs=EPOCHS, seed=seed)
        for seed in range(num_seeds)
    ]
    return Candidate(configs[0].config_id, tuple(PlannedTrial(config, {}, 1) for config in configs), group)


PAIRS = [make_candidate(i, 2, i % 2) for i in range(8)]
ALONE = [Candidate(each.config_id, each.trials[:1]) for each in PAIRS]
MANY = [make_candidate(i, 9, i % 2) for i in range(4)]
SEARCHES = {
    "halving": lambda history: RungSearch(
        PAIRS, {0: [Rung(8, 3), Rung(12, 2)], 1: [Rung(8, 2, num_seeds=1), Rung(12, 1)]}, EPOCHS, history=history
    ),
    "promotion": lambda history: RungSearch(
        ALONE, {None: [Rung(8, 4), Rung(12, 2)]}, EPOCHS, eager=True, history=history
    ),
    "adaptive": lambda history: AdaptiveConfirmation(MANY, 14, history),
}


def past(trial, status, scores, until_epoch):
    config, best = trial.config, max(scores.values(), default=None)
    return PastTrial(
        *(config.trial_id, config.config_id, config.seed, "screen", status, 1, best, best),
        is_done=status.is_final,
        scores=dict(scores),
        until_epoch=until_epoch,
    )


def name(step):
    return (step.trial.config.trial_id, step.until_epoch) if isinstance(step, Assignment) else step


@pytest.mark.parametrize("make", SEARCHES.values(), ids=SEARCHES)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 10_000), slots=st.integers(1, 5))
def test_a_search_that_is_killed_after_any_event_continues_as_it_would_have(make, seed, slots):
    generator, search, running = random.Random(seed), make(None), []
    rows, scores = {}, {}
    while True:
        while len(running) < slots and isinstance(step := search.ask(), Assignment):
            running.append(step)
            trial_id = step.trial.config.trial_id
            rows[trial_id] = past(step.trial, TrialStatus.INTERRUPTED, scores.get(trial_id, {}), step.until_epoch)
        killed, rebuilt = copy.deepcopy(search), make(History(dict(rows)))
        again = [name(rebuilt.ask()) for _ in running]
        assert sorted(again) == sorted(map(name, running))
        assert [name(rebuilt.ask()) for _ in range(3)] == [name(killed.ask()) for _ in range(3)]
        if not running:
            return
        done = running.pop(generator.randrange(len(running)))
        trial_id, value = done.trial.config.trial_id, generator.gauss(0.5, 0.1)
        status = TrialStatus.COMPLETED if done.until_epoch == EPOCHS else TrialStatus.PAUSED
        scores.setdefault(trial_id, {})[done.until_epoch] = value
        rows[trial_id] = past(done.trial, status, scores[trial_id], done.until_epoch)
        search.tell(Outcome(done, status, max(scores[trial_id].values()), value))
