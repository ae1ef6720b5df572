"""The data of a report: the summary of the trials that ran."""

import pytest

from flexres_tune.report.data import extent_of, plan_or_none
from flexres_tune.results import open_results
from flexres_tune.results.writer import SweepWriter


@pytest.fixture
def trials(paths, make_config, make_trial):
    """Write (configuration, columns of the trial) pairs, and return the table `trials` of the sweep."""

    def write(*pairs):
        with SweepWriter(paths) as writer:
            for seed, (changes, columns) in enumerate(pairs):
                config = make_config(seed=seed, **changes)
                writer.add_trial(make_trial(config, **columns), config)
        return open_results(paths.root).trials("demo")

    return write


def test_extent_is_listed_per_data_set(trials):
    table = trials(
        ({"dataset": "digits", "epochs": 3}, {}),
        ({"dataset": "cifar10", "epochs": 9, "model": "small"}, {}),
        ({"dataset": "digits", "epochs": 3}, {}),
    )
    parts = extent_of(table).split("; ")
    assert sorted(parts) == ["small on cifar10, 9 epochs, 1 trial", "tiny on digits, 3 epochs, 2 trials"]


def test_extent_has_the_range_of_epochs_of_completed_trials(trials):
    stopped = {"status": "stopped", "epochs_run": 1}
    table = trials(({"epochs": 3}, {}), ({"epochs": 12}, {}), ({"epochs": 50}, stopped))
    assert extent_of(table) == "tiny on digits, 3 to 12 epochs, 3 trials"


def test_extent_has_the_most_epochs_run_if_no_trial_completed(trials):
    stopped = {"status": "stopped", "epochs_run": 4}
    failed = {"status": "failed", "epochs_run": 0, "best": None, "error": "boom"}
    assert extent_of(trials(({"epochs": 9}, stopped), ({"epochs": 9}, failed))) == (
        "tiny on digits, at most 4 epochs, 2 trials"
    )


def test_extent_has_the_number_of_models_if_there_are_more_than_three(trials):
    table = trials(*(({"epochs": 2, "model": model}, {}) for model in ("tiny", "small", "resnet18", "resnet22_2")))
    assert extent_of(table) == "4 models on digits, 2 epochs, 4 trials"


def test_extent_does_not_need_a_plan(trials, paths):
    table = trials(({"epochs": 2}, {}))
    assert plan_or_none(paths) is None
    assert extent_of(table) == "tiny on digits, 2 epochs, 1 trial"


def test_extent_of_no_trials_is_empty(trials):
    assert extent_of(trials(({}, {})).slice(0, 0)) == ""


def test_damaged_plan_is_no_plan(paths):
    paths.folder.mkdir(parents=True, exist_ok=True)
    paths.plan.write_text("{")
    assert plan_or_none(paths) is None
