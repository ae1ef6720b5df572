"""The statistics against known truth, with fixed seeds; simulate_statistics.py beside this file does it at length."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def simulation():
    path = Path(__file__).with_name("simulate_statistics.py")
    spec = importlib.util.spec_from_file_location("simulate_statistics", path)
    module = sys.modules["simulate_statistics"] = importlib.util.module_from_spec(spec)  # dataclasses look there
    spec.loader.exec_module(module)
    yield module
    del sys.modules["simulate_statistics"]


def test_intervals_hold_the_truth_as_often_as_they_say(simulation):
    held = simulation.simulate_coverage(4000, n=5)  # one share has a standard error of 0.0034
    assert all(0.94 <= share <= 0.96 for share in held.values()), held


@pytest.mark.parametrize(("num_configs", "shared"), [(2, True), (2, False), (3, True), (5, True)])
def test_equal_configurations_are_rarely_called_separable(simulation, num_configs, shared):
    share = simulation.simulate_equals(2000, num_configs, 5, shared)
    assert share <= 0.05 + 2 * simulation.monte_carlo_error(0.05, 2000)


def test_leader_needs_more_than_holm_because_it_was_picked_by_the_same_values(simulation):
    """Holm over K - 1 comparisons alone, for the record of why adjust_for_chosen_leader is there."""
    from flexres_tune.analysis.statistics import holm

    correct = simulation.simulate_equals(1000, 10, 5, True)
    assert simulation.simulate_equals(1000, 10, 5, True, adjust=holm) > 0.06 > 0.05 > correct


def test_confirmation_names_the_true_best_more_often_than_screening_alone(simulation):
    figures = simulation.simulate_ladder(80, grid=False)
    assert figures["confirm names the best"] > figures["asha names the best"]
    assert figures["confirm points lost"] < figures["asha points lost"]
    assert figures["asha epochs"] < figures["confirm epochs"] < figures["full grid epochs"]
    assert figures["called separable though no better"] <= 0.05
