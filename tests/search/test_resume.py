"""A search that is rebuilt from the tables after every event asks for what the killed one would have asked for."""

import copy
import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flexres_tune.records import TrialStatus
from flexres_tune.search.adaptive import AdaptiveConfirmation
from flexres_tune.search.base import Assignment, History, Outcome, PastTrial
from flexres_tune.search.ladders import Candidate, Rung, make_brackets, make_rungs
from flexres_tune.search.lists import FirstSeedSearch, ListSearch
from flexres_tune.search.methods import make_search
from flexres_tune.search.rungs import RungSearch
from flexres_tune.search.tpe import TpeSearch
from flexres_tune.search.tpe_rungs import TpeRungSearch
from flexres_tune.spec import PlannedTrial, SweepSpec, TrialConfig

EPOCHS = 27


def make_candidate(index, num_seeds, group=None):
    configs = [
        TrialConfig(model="tiny", dataset="digits", lr=0.001 * (index + 1), epochs=EPOCHS, seed=seed)
        for seed in range(num_seeds)
    ]
    return Candidate(configs[0].config_id, tuple(PlannedTrial(config, {}, 1) for config in configs), group)


PAIRS = [make_candidate(i, 2, i % 2) for i in range(8)]
ALONE = [Candidate(each.config_id, each.trials[:1]) for each in PAIRS]
LEVELS = [Candidate(each.config_id, each.trials[:1], each.group) for each in PAIRS]
MANY = [make_candidate(i, 9, i % 2) for i in range(4)]
TRIALS = [trial for each in PAIRS for trial in each.trials]
NAMES = {0: "zero", 1: "one", None: "all"}
BRACKETS = make_brackets(LEVELS, 2, 3, EPOCHS, 2)


def make_tpe(seeds, early_terminate, num_trials=12, **changes):
    values = {
        "name": "test",
        "method": "tpe",
        "num_trials": num_trials,
        "seeds": seeds,
        "base": {"model": "tiny", "dataset": "digits", "epochs": EPOCHS},
        "parameters": {"lr": {"min": 1e-4, "max": 1.0, "distribution": "log_uniform_values"}},
        "early_terminate": early_terminate,
    }
    spec = SweepSpec.model_validate(values | changes)
    return lambda history: make_search(spec, (), history or History())


PROMOTION = {"type": "asha", "variant": "promotion", "grace_period": 3}
LR = {"min": 1e-4, "max": 1.0, "distribution": "log_uniform_values"}
IN_LEVELS = {"parameters": {"optimizer": {"values": ["sgd", "adam"]}, "lr": LR}, "compare": "optimizer"}
IN_MAPPINGS = [
    {"optimizer": {"value": "sgd"}, "lr": LR},
    {"optimizer": {"value": "sgd"}, "lr": LR, "batch_size": {"values": [32, 64]}},
    {"optimizer": {"value": "adam"}, "lr": {"values": [0.001, 0.01, 0.1]}},
]
SHARED = [{"lr": LR}, {"lr": LR, "batch_size": {"values": [32, 128]}}, {"lr": LR, "optimizer": {"value": "adam"}}]
SEARCHES = {
    "list": lambda history: ListSearch(TRIALS, history),
    "first seeds": lambda history: FirstSeedSearch(TRIALS, 0, history),
    "halving": lambda history: RungSearch(
        PAIRS, {0: [Rung(8, 3), Rung(12, 2)], 1: [Rung(8, 2, num_seeds=1), Rung(12, 1)]}, EPOCHS, False, history, NAMES
    ),
    "promotion": lambda history: RungSearch(ALONE, {None: [Rung(8, 4), Rung(12, 2)]}, EPOCHS, True, history, NAMES),
    "promotion in levels": lambda history: RungSearch(
        LEVELS, dict.fromkeys((0, 1), [Rung(6, 2), Rung(11, 1)]), EPOCHS, True, history, NAMES
    ),
    "promotion of pairs": lambda history: RungSearch(
        PAIRS, dict.fromkeys((0, 1), make_rungs(4, 1, EPOCHS)), EPOCHS, True, history, NAMES
    ),
    "hyperband": lambda history: RungSearch(*BRACKETS, EPOCHS, True, history, dict.fromkeys(BRACKETS[1], "bracket")),
    "adaptive": lambda history: AdaptiveConfirmation(MANY, 14, history),
    "adaptive after a screening": lambda history: AdaptiveConfirmation(
        MANY, 9, history, {each.config_id: 0.5 + 0.01 * k for k, each in enumerate(MANY)}
    ),
}
DRAWING_SEARCHES = {
    "tpe": make_tpe([0], "none"),
    "tpe, pairs": make_tpe([0, 1], "none"),
    "tpe, first seeds": make_tpe([0, 1], {"type": "asha", "variant": "stopping", "grace_period": 3}),
    "tpe, halving of pairs": make_tpe([0, 1], {"type": "halving", "rungs": [{"epochs": 6, "keep": 4}]}),
    "tpe, promotion": make_tpe([0], PROMOTION),
    "tpe, promotion of pairs": make_tpe([0, 1], PROMOTION),
    "tpe, levels": make_tpe([0], "none", **IN_LEVELS),
    "tpe, promotion in levels": make_tpe([0], PROMOTION, **IN_LEVELS),
    "tpe, halving of pairs in levels": make_tpe(
        [0, 1], {"type": "halving", "rungs": [{"epochs": 6, "keep": 2}]}, **IN_LEVELS
    ),
    "tpe, first seeds in mappings": make_tpe(
        [0, 1], {"type": "asha", "variant": "stopping", "grace_period": 3}, parameters=IN_MAPPINGS, compare="optimizer"
    ),
    "tpe, promotion in mappings that share configurations": make_tpe([0], PROMOTION, parameters=SHARED),
}


def past(trial, status, scores, until_epoch):
    config, best = trial.config, max(scores.values(), default=None)
    return PastTrial(
        *(config.trial_id, config.config_id, config.seed, "screen", status, 1, best, best),
        is_done=status.is_final,
        scores=dict(scores),
        until_epoch=until_epoch,
        values={key: getattr(config, key) for key in ("lr", "optimizer", "batch_size")},
    )


def name(step):
    return (step.trial.config.trial_id, step.until_epoch) if isinstance(step, Assignment) else step


class Tables:
    """The rows that a driver writes. One that is killed leaves no row of what runs, but the decisions about it.

    Method tpe has a row from the first start of a trial, because nothing else says what was drawn.
    """

    def __init__(self, leaves_rows, is_drawn):
        self.leaves_rows, self.is_drawn = leaves_rows, is_drawn
        self.rows, self.scores, self.until = {}, {}, {}

    def decide(self, search):
        for row in search.take_decisions():
            if row.action == "promote":
                self.until[row.trial_id] = row.until_epoch
                self.rows[row.trial_id] = replace(self.rows[row.trial_id], until_epoch=row.until_epoch)

    def start(self, step):
        trial_id = step.trial.config.trial_id
        if self.leaves_rows or (self.is_drawn and trial_id not in self.rows):
            scores = self.scores.get(trial_id, {})
            self.rows[trial_id] = past(step.trial, TrialStatus.INTERRUPTED, scores, self.until.get(trial_id))

    def end(self, step, value):
        trial_id = step.trial.config.trial_id
        status = TrialStatus.COMPLETED if step.until_epoch == EPOCHS else TrialStatus.PAUSED
        self.scores.setdefault(trial_id, {})[step.until_epoch] = value
        self.rows[trial_id] = past(step.trial, status, self.scores[trial_id], self.until.get(trial_id))
        return Outcome(step, status, max(self.scores[trial_id].values()), value)


def all_steps(search):
    """What it asks for until something ends."""
    steps = [search.ask()]
    while isinstance(steps[-1], Assignment):
        steps.append(search.ask())
    return [*map(name, steps)]


EVENTS = {"seed": st.integers(0, 10_000), "slots": st.integers(1, 5), "kills_at_once": st.booleans()}


@pytest.mark.parametrize("make", SEARCHES.values(), ids=SEARCHES)
@settings(deadline=None, max_examples=12)
@given(**EVENTS)
def test_a_search_that_is_killed_after_any_event_continues_as_it_would_have(make, seed, slots, kills_at_once):
    kill_after_every_event(make, seed, slots, kills_at_once)


@pytest.mark.parametrize("make", DRAWING_SEARCHES.values(), ids=DRAWING_SEARCHES)
@settings(deadline=None, max_examples=3)
@given(**EVENTS)
def test_a_search_that_draws_continues_with_the_same_draws(make, seed, slots, kills_at_once):
    kill_after_every_event(make, seed, slots, kills_at_once)


def kill_after_every_event(make, seed, slots, kills_at_once):
    generator, search, running = random.Random(seed), make(None), []
    is_drawn = isinstance(search, TpeSearch | TpeRungSearch)
    tables = Tables(not kills_at_once or isinstance(search, AdaptiveConfirmation), is_drawn)
    while True:
        while len(running) < slots and isinstance(step := search.ask(), Assignment):
            running.append(step)
            tables.decide(search)
            tables.start(step)
        killed, rebuilt = copy.deepcopy(search), make(History(dict(tables.rows)))
        expected, found = [*map(name, running)], all_steps(rebuilt)
        if not kills_at_once:  # what was interrupted comes first
            assert sorted(found[: len(running)]) == sorted(expected)
        assert sorted(map(str, found)) == sorted(map(str, expected + all_steps(killed)))
        if not running:
            return
        done = running.pop(generator.randrange(len(running)))
        search.tell(tables.end(done, generator.gauss(0.5, 0.1)))
        tables.decide(search)
