"""The baseline is confirmed with the best configurations, once, whether it is one of them or not."""

import pytest
from helpers.factories import make_sweep

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.errors import SpecError
from flexres_tune.records import TrialStatus
from flexres_tune.search.base import History, PastTrial
from flexres_tune.search.confirmation import make_confirmation
from flexres_tune.spec import expand_trials

GRID = {"parameters": [{"lr": {"values": [0.01, 0.1, 0.3]}}]}


def confirmed(baseline, confirm):
    """(lr, seed) of the trials that are confirmed, if the accuracy of the screening is 1 - lr."""
    spec = make_sweep(**GRID, baseline=baseline, confirm=confirm)
    trials = expand_trials(spec, describe_dataset)
    past = {
        trial.config.trial_id: PastTrial(
            *(trial.config.trial_id, trial.config.config_id, trial.config.seed, "screen", TrialStatus.COMPLETED, 1),
            val_accuracy=1 - trial.config.lr,
            score=1 - trial.config.lr,
            is_done=True,
        )
        for trial in trials
    }
    history = History(past)
    search = make_confirmation(spec, trials, history)
    return sorted((trial.config.lr, trial.config.seed) for trial in search.work.trials)


def test_baseline_is_confirmed_with_the_best():
    seeds = {"top": 1, "seeds": [10, 11]}
    assert confirmed({"lr": 0.3}, seeds) == [(0.01, 10), (0.01, 11), (0.3, 10), (0.3, 11)]
    assert confirmed({"lr": 0.5}, seeds) == [(0.01, 10), (0.01, 11), (0.5, 10), (0.5, 11)]  # not of the grid
    assert confirmed({"lr": 0.01}, seeds) == [(0.01, 10), (0.01, 11)]
    assert [lr for lr, _ in confirmed({"lr": 0.3}, {"top": 1, "num_runs": 4})] == [0.01, 0.3]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"baseline": {"lr": 0.3}}, "a baseline must have confirm"),
        ({"baseline": {"optimiser": "sgd"}, "confirm": {"top": 1, "seeds": [9]}}, "optimiser.*did you mean"),
        ({"baseline": {"lr": 0.3}, "confirm": {"top": 2, "num_runs": 2}}, "top 2 and 2 for the baseline"),
    ],
)
def test_baseline_that_cannot_be_confirmed_is_refused(changes, problem, tmp_path):
    from flexres_tune.spec import load_sweep

    file = tmp_path / "demo.yaml"
    lines = ["name: demo", "base: {model: tiny, dataset: digits}", "parameters: {lr: {values: [0.01, 0.1]}}"]
    file.write_text("\n".join([*lines, *(f"{key}: {value}".replace("'", "") for key, value in changes.items())]))
    with pytest.raises(SpecError, match=problem):
        load_sweep(file, describe=describe_dataset)
