"""Comparisons with the leader: against SciPy, and what cannot be known is not made up."""

import numpy as np
import pytest
from scipy import stats

from flexres_tune.analysis.leaderboard import leaderboards, verdict
from flexres_tune.results import open_results
from flexres_tune.uncertainty.comparisons import compare_with_leader, range_p_values


def drawn(num_configs, num_seeds, seed=0, step=0.0):
    """Samples whose means fall by `step` each, the best mean first."""
    values = 0.9 + 0.009 * np.random.default_rng(seed).standard_normal((num_configs, num_seeds))
    values -= step * np.arange(num_configs)[:, None]
    return [dict(enumerate(values[index].tolist())) for index in np.argsort(-values.mean(axis=1))]


def test_range_is_the_studentized_range_of_scipy():
    q = np.array([3.0, 5.0, 10.0, 13.0, 8.0, 6.0, 5.3, 30.0])
    num = np.array([24, 24, 3, 5, 10, 2, 81, 4])
    freedom = np.array([72.0, 14.0, 2.0, 2.5, 3.0, 4.0, 200.0, 1.0])
    assert range_p_values(q, num, freedom) == pytest.approx(stats.studentized_range.sf(q, num, freedom), abs=5e-4)


def test_two_configurations_on_the_same_seeds_are_a_paired_t_test():
    a, b = drawn(2, 5)
    [found] = compare_with_leader(a, [b])
    expected = stats.ttest_rel(list(a.values()), list(b.values()))
    low, high = expected.confidence_interval(0.95)
    assert (found.test, found.p_value) == ("paired", pytest.approx(expected.pvalue, abs=5e-4))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_two_configurations_on_other_seeds_are_close_to_welch():
    a, b = drawn(2, 8)
    [found] = compare_with_leader(a, [{seed + 100: value for seed, value in b.items()}])
    expected = stats.ttest_ind(list(a.values()), list(b.values()), equal_var=False)
    assert (found.test, found.p_value) == ("unpaired", pytest.approx(expected.pvalue, abs=1e-3))


def test_many_configurations_lend_two_seeds_their_spread():
    pair = drawn(2, 2, seed=3, step=0.05)
    assert verdict(compare_with_leader(pair[0], pair[1:])[0], 2) == "2 seeds cannot show it"
    board = drawn(20, 2, seed=3, step=0.05)
    last = compare_with_leader(board[0], board[1:])[-1]
    assert last.p_value < 0.01 and verdict(last, 2) == "yes"


def test_a_gap_of_46_points_without_spread_is_not_called_equal():
    [found] = compare_with_leader({0: 0.70, 1: 0.70}, [{0: 0.24, 1: 0.24}])
    assert (found.test, found.low) == ("exact", None) and verdict(found, 2) == "2 seeds cannot show it"
    [found] = compare_with_leader({0: 0.67, 1: 0.73}, [{0: 0.21, 1: 0.27}])  # seeds as blocks leave no spread
    assert found.test == "unpaired" and found.p_value < 0.05
    [found] = compare_with_leader(dict.fromkeys(range(3), 0.7), [dict.fromkeys(range(3), 0.7)])
    assert found.p_value == 1.0 and verdict(found, 3) == "3 seeds cannot show it"


def test_one_seed_is_no_evidence_and_does_not_join_the_pool():
    leader, other = drawn(2, 4)
    alone, beside = compare_with_leader(leader, [other]), compare_with_leader(leader, [{0: 0.5}, other])
    assert beside[0].test == "none" and beside[0].p_value is None
    assert beside[1] == alone[0]
    assert compare_with_leader({0: 0.9}, [other])[0].p_value is None


def test_p_values_rise_towards_the_leader_and_the_far_ones_cost_the_near_ones_nothing():
    board = drawn(5, 5, step=0.02)
    p_values = [each.p_value for each in compare_with_leader(board[0], board[1:])]
    assert p_values == sorted(p_values, reverse=True) and p_values[-1] < 0.001
    assert p_values[0] < 0.2


def test_seeds_that_add_the_same_to_all_configurations_are_taken_out():
    board = drawn(6, 5, step=0.004)
    luck = np.random.default_rng(9).normal(0, 0.05, 5)
    shifted = [{seed: value + luck[seed] for seed, value in each.items()} for each in board]
    for a, b in zip(
        compare_with_leader(board[0], board[1:]), compare_with_leader(shifted[0], shifted[1:]), strict=True
    ):
        assert a.p_value == pytest.approx(b.p_value) and a.error == pytest.approx(b.error)


def test_real_board_separates_at_least_15_of_23():
    """24 configurations x 4 seeds on real images; a t test for each pair with Holm's correction separated none."""
    try:
        results = open_results("../shared/data/board")
    except Exception:
        pytest.skip("shared/data/board is not here")
    verdicts = [row.separable_from_leader for row in leaderboards(results)[0].ranked]
    assert len(verdicts) == 24 and verdicts.count("yes") >= 15
