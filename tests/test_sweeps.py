"""Every sweep file in sweeps/ loads, fits its budget and has a laptop form, whatever it asks."""

from pathlib import Path

import pytest

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.spec import expand_trials, load_sweep

SWEEPS = sorted((Path(__file__).parents[1] / "sweeps").rglob("*.yaml"))


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
@pytest.mark.parametrize("profile", ["none", "laptop"])
def test_sweep_expands_within_its_budget(path, profile):
    spec = load_sweep(path, profile=profile)
    trials = expand_trials(spec, describe_dataset)
    assert trials
    assert spec.description.endswith("?"), "a description is the question"
    assert all(trial.num_parameters <= spec.max_parameters <= 5_000_000 for trial in trials)


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_laptop_profile_needs_no_network_and_no_gpu(path):
    spec = load_sweep(path, profile="laptop")
    trials = expand_trials(spec, describe_dataset)
    assert {trial.config.dataset for trial in trials} == {"digits"}
    assert spec.resources_per_trial.gpu == 0
    assert spec.resources_per_trial.cpu <= 2


@pytest.mark.parametrize("path", SWEEPS, ids=lambda path: path.stem)
def test_laptop_profile_asks_a_question_of_its_own(path):
    """It trains another network on other images, so its report must not show the file's question."""
    description = load_sweep(path, profile="laptop").description
    assert description != load_sweep(path).description
    assert "8x8 digits" in description and description.endswith("?")


def test_the_five_questions_are_there():
    assert {"optim", "mixup", "lr", "batch_size", "epochs"} <= {path.stem for path in SWEEPS}


def test_no_optimizer_is_given_another_ones_learning_rates_alone():
    trials = expand_trials(load_sweep(SWEEPS[0].parent / "optim.yaml"), describe_dataset)
    rates = {}
    for trial in trials:
        rates.setdefault(trial.config.optimizer, set()).add(trial.config.lr)
    assert set(map(len, rates.values())) == {3}
    assert rates["sgd"] != rates["adam"]
