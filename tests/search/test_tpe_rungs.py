"""Method tpe with rungs: what it draws pauses and continues as whole configurations, and the draws learn from rungs."""

import math

import pytest
from helpers.factories import make_sweep
from helpers.search_driver import drive

from flexres_tune.errors import SpecError
from flexres_tune.records import TrialStatus
from flexres_tune.search.base import History, Outcome
from flexres_tune.search.budget import make_budgeted_searches
from flexres_tune.search.ladders import Rung
from flexres_tune.search.methods import make_search
from flexres_tune.search.pausing import plan_rungs
from flexres_tune.spec.load import load_sweep

EPOCHS = 9
HALVING = {"type": "halving", "rungs": [{"epochs": 3, "keep": 4}]}
PROMOTION = {"type": "asha", "variant": "promotion", "grace_period": 1}


def make_spec(early_terminate, num_trials=12, **changes):
    values = {
        "method": "tpe",
        "num_trials": num_trials,
        "base": {"model": "tiny", "dataset": "digits", "epochs": EPOCHS},
        "parameters": {"lr": {"min": 1e-4, "max": 1.0, "distribution": "log_uniform_values"}},
        "early_terminate": early_terminate,
    }
    return make_sweep(**values | changes)


def quality(config):
    """Best at lr = 0.03."""
    return -abs(math.log10(config.lr) - math.log10(0.03))


def drain(search, score=quality, slots=2):
    """Run a search to its end: the assignments, in order."""

    def end(done):
        value = score(done.trial.config)
        status = TrialStatus.COMPLETED if done.until_epoch == EPOCHS else TrialStatus.PAUSED
        return Outcome(done, TrialStatus.DIVERGED if value is None else status, value, value, done.until_epoch)

    return drive(search, end, slots)


def reached(given):
    """The last epoch of each trial."""
    return {step.trial.config.trial_id: step.until_epoch for step in given}


@pytest.mark.parametrize("early", [HALVING, PROMOTION], ids=["halving", "promotion"])
def test_drawn_configurations_pause_and_continue_with_all_their_seeds(early):
    search = make_search(make_spec(early, seeds=[0, 1]), (), History())
    last = reached(drain(search))
    by_config = {}
    for trial_id, epoch in last.items():
        by_config.setdefault(trial_id.partition("-")[0], set()).add(epoch)
    assert len(last) == 24 and len(by_config) == 12
    assert all(len(epochs) == 1 for epochs in by_config.values()), "both seeds end at the same rung"
    assert {EPOCHS} in by_config.values() and len(set(map(min, by_config.values()))) > 1
    rows = search.take_decisions()
    assert {row.action for row in rows} == {"pause", "promote"}
    assert all(row.rank <= row.num_compared and row.cutoff is not None for row in rows if row.action == "promote")


def test_halving_continues_the_best_of_all_that_were_drawn():
    given = drain(make_search(make_spec(HALVING), (), History()))
    ranked = sorted({step.trial.config.trial_id: step.trial.config for step in given}.values(), key=quality)
    whole = {trial_id for trial_id, epoch in reached(given).items() if epoch == EPOCHS}
    assert whole == {config.trial_id for config in ranked[-4:]}


def test_draws_learn_from_paused_trials():
    spec = make_spec({"type": "halving", "rungs": [{"epochs": 1, "keep": 1}]}, num_trials=30)
    given = [step.trial.config for step in drain(make_search(spec, (), History())) if step.until_epoch == 1]
    assert sum(map(quality, given[-10:])) / 10 > -0.7, "-1.06 is the mean of uniform draws"


def test_rungs_close_when_the_space_holds_nothing_new():
    spec = make_spec(HALVING, parameters={"lr": {"values": [0.1, 0.2, 0.3, 0.4, 0.5]}})
    given = drain(make_search(spec, (), History()))
    assert sorted(reached(given).values()) == [3, 9, 9, 9, 9]


def test_configuration_that_diverges_does_not_continue():
    spec = make_spec(HALVING)
    given = drain(make_search(spec, (), History()), lambda config: None if config.lr > 0.03 else quality(config))
    assert all(step.trial.config.lr <= 0.03 for step in given if step.until_epoch == EPOCHS)
    assert sum(step.until_epoch == EPOCHS for step in given) == 4


def test_budget_draws_what_can_go_through_all_rungs():
    spec = make_spec(HALVING, num_trials=40, budget={"epochs": 60})
    searches = make_budgeted_searches(spec, (), History(), {})
    assert searches.num_reduced == 40 - 12, "12 x 3 epochs to the rung and 4 x 6 from there"
    last = reached(drain(searches.screen))
    assert sum(last.values()) == 60 and sorted(last.values())[-4:] == [9, 9, 9, 9]


def test_plan_counts_the_configurations_that_will_be_drawn():
    plan = plan_rungs(make_spec(PROMOTION), ())
    ((group, rungs),) = plan.rungs.items()
    assert rungs == (Rung(1, 4), Rung(3, 1)) and plan.sizes[group] == 12 and plan.eager


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["parameters={epochs: {values: [3, 9]}, lr: {min: 0.1, max: 0.2}}"], "parameters.epochs: must be one number"),
        (["early_terminate={type: hyperband, variant: promotion}"], "rungs that all configurations share"),
        (["parameters=[{epochs: {value: 3}}, {epochs: {value: 9}}]"], "parameters.1..epochs: must be one number"),
    ],
)
def test_what_draws_cannot_do_is_refused_with_the_reason(changes, message, tmp_path):
    file = tmp_path / "tpe.yaml"
    file.write_text(
        "name: tpe\nmethod: tpe\nnum_trials: 4\nbase: {model: tiny, dataset: digits, epochs: 9}\n"
        "parameters: {lr: {min: 0.1, max: 0.2}}\nearly_terminate: {type: asha, variant: promotion}\n"
    )
    with pytest.raises(SpecError, match=message):
        load_sweep(file, overrides=changes)
