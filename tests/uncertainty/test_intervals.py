"""Intervals and tests agree with scipy.stats; what cannot be known is not made up."""

import numpy as np
import pytest
from scipy import stats

from flexres_tune.uncertainty.intervals import (
    compare,
    compare_all,
    half_width,
)


def drawn(n, seed, mean=0.9, sd=0.01, first=0):
    values = np.random.default_rng(seed).normal(mean, sd, n)
    return dict(enumerate(values.tolist(), first))


def test_interval_is_students():
    values = list(drawn(5, 1).values())
    mean, (low, high) = np.mean(values), stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    half = half_width(np.std(values, ddof=1), len(values))
    assert (mean - half, mean + half) == pytest.approx((low, high))


def test_shared_seeds_are_compared_in_pairs():
    a, b = drawn(6, 1), drawn(4, 2, mean=0.89)  # two seeds of a have no partner
    found, expected = compare(a, b), stats.ttest_rel([a[s] for s in range(4)], [b[s] for s in range(4)])
    low, high = expected.confidence_interval(0.95)
    assert (found.test, found.p_value) == ("paired", pytest.approx(expected.pvalue))
    assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize("first", [100, 4], ids=["none shared", "one shared"])
def test_seeds_that_are_not_shared_are_compared_by_welch(first):
    a, b = drawn(5, 1), drawn(3, 2, mean=0.89, sd=0.03, first=first)
    found, expected = compare(a, b), stats.ttest_ind(list(a.values()), list(b.values()), equal_var=False)
    low, high = expected.confidence_interval(0.95)
    assert (found.test, found.p_value) == ("welch", pytest.approx(expected.pvalue))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_one_seed_is_no_evidence():
    found = compare({0: 0.9}, {0: 0.8})
    assert (found.test, found.low, found.high, found.p_value) == ("none", None, None, None)
    assert found.difference == pytest.approx(0.1)
    assert compare(drawn(5, 1), {9: 0.8}).test == "none"


def test_differences_without_spread_are_no_certainty():
    """A t test would divide by zero and call 3 images of 300 in two runs infinitely significant."""
    found = compare({0: 0.90, 1: 0.92}, {0: 0.89, 1: 0.91})
    assert (found.test, found.p_value, found.low) == ("exact", 0.5, None)
    assert compare({0: 0.9, 1: 0.9}, {2: 0.8, 3: 0.8}).p_value == pytest.approx(2 / 6)
    assert compare({0: 0.9, 1: 0.8}, {0: 0.9, 1: 0.8}).p_value == 1.0


def test_many_are_compared_as_each_alone():
    a = drawn(5, 0)
    others = [drawn(5, 1), drawn(3, 2), drawn(4, 3, first=50), {0: 0.5}, drawn(5, 4), dict(a)]
    for together, alone in zip(compare_all(a, others), (compare(a, b) for b in others), strict=True):
        assert together.test == alone.test
        assert together.difference == pytest.approx(alone.difference, abs=1e-15)
        assert together.p_value is alone.p_value is None or together.p_value == pytest.approx(alone.p_value)
