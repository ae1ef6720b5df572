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


CASES = [(k, n, sds, paired) for k in (3, 24) for n in (2, 4) for sds in ("equal", "half") for paired in (True, False)]
MORE = [  # those with the most errors of all that simulate_statistics.py runs, and the largest boards
    (3, 10, "half", True),
    (3, 4, "one", False),
    (8, 4, "one", False),
    (8, 4, "half", True),
    (24, 3, "half", False),
    (81, 2, "half", True),
    (81, 10, "half", False),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_boards_of_equal_configurations_are_rarely_told_apart(simulation, case):
    share = simulation.share_separable(simulation.Boards(*case), 2000)
    assert share <= 0.05 + 2.5 * simulation.monte_carlo_error(0.05, 2000)


@pytest.mark.slow
@pytest.mark.parametrize("case", MORE, ids=str)
def test_boards_of_equal_configurations_are_rarely_told_apart_at_length(simulation, case):
    share = simulation.share_separable(simulation.Boards(*case), 10_000)
    assert share <= 0.05 + 3 * simulation.monte_carlo_error(0.05, 10_000)


@pytest.mark.parametrize("paired", [True, False])
def test_three_points_are_found_with_four_seeds(simulation, paired):
    """Seeds vary by 0.9 points, and 23 other configurations are equal."""
    boards = simulation.Boards(24, 4, is_paired=paired, behind=3 / 0.9)
    assert simulation.share_separable(boards, 2000) >= 0.9


def test_the_boards_of_the_simulation_are_judged_as_the_leaderboard_judges(simulation):
    rng = simulation.np.random.default_rng(1)
    for is_paired in (True, False):
        values = simulation.Boards(6, 4, is_paired=is_paired, behind=3.0).draw(60, rng)
        found = simulation.moments(values, is_paired)
        gap = simulation.gaps(found, found.mean.argmax(axis=-1)[:, None])
        fast = 2**0.5 * gap.difference / gap.error > simulation.critical_values(6, gap.freedom)
        for board, is_apart in zip(values, fast, strict=True):
            first = [0] * 6 if is_paired else range(0, 60, 10)
            samples = {k: dict(enumerate(row.tolist(), first[k])) for k, row in enumerate(board)}
            assert ("yes" in simulation.separable(samples).values()) == is_apart.any()


def test_confirmation_names_the_true_best_more_often_than_screening_alone(simulation):
    figures = simulation.simulate_ladder(80, grid=False)
    assert figures["confirm names the best"] > figures["asha names the best"]
    assert figures["confirm points lost"] < figures["asha points lost"]
    assert figures["asha epochs"] < figures["confirm epochs"] < figures["full grid epochs"]
    assert figures["called separable though no better"] <= 0.05
