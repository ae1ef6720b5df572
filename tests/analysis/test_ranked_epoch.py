"""Which epoch should rank a trial: what docs/statistics.md says of it, in fewer draws, and the warning that follows from it."""

from pathlib import Path

import pytest
from analysis.simulate_ranked_epoch import SWEEPS, simulate
from helpers.factories import make_sweep

from flexres_tune.spec import load_sweep
from flexres_tune.spec.rules import ranking_warning

FILES = sorted(Path("sweeps").glob("*.yaml"))


@pytest.mark.parametrize(
    ("name", "at"),
    [
        ("cosine, 5 to 80 epochs", "last"),
        ("cosine, half of them overfit", "last"),
        ("half cosine, half constant", "last"),
        ("constant, equal epochs", "best"),
    ],
)
def test_simulation_names_the_truly_best_more_often_by(name, at):
    found = simulate(SWEEPS[name], 1_500)
    other = {"last": "best", "best": "last"}[at]
    assert found[at].named > found[other].named and found[at].lost < found[other].lost


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
@pytest.mark.parametrize("profile", ["none", "laptop"])
def test_the_packages_own_sweeps_rank_by_the_last_epoch_because_they_use_cosine(file, profile):
    spec = load_sweep(str(file), profile=profile)
    assert spec.metric.at == "last" and spec.base["lr_schedule"] == "cosine"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"parameters": {"epochs": {"values": [5, 20]}}}, "trials have 5 to 20 epochs"),
        ({"parameters": {"epochs": {"min": 5, "max": 9}}, "method": "random", "num_trials": 3}, "5 to 9 epochs"),
        ({"parameters": [{"epochs": {"value": 3}}, {"epochs": {"value": 4}}]}, "3 to 4 epochs"),
        ({"parameters": {"lr_schedule": {"values": ["cosine", "constant"]}}}, "schedules constant and cosine"),
        ({"parameters": {"lr": {"values": [0.1, 0.2]}}}, None),
        ({"parameters": {"epochs": {"value": 5}}}, None),
    ],
)
def test_best_epoch_of_unlike_trials_is_warned_of(changes, reason):
    warning = ranking_warning(make_sweep(**changes))
    assert warning is None if reason is None else reason in str(warning) and "write at: last" in str(warning)
    assert ranking_warning(make_sweep(**changes, metric={"at": "last"})) is None
