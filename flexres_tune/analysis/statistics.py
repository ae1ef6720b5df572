"""How sure: t intervals of means, paired and Welch t tests, Holm's correction. SciPy computes them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided t interval; `low`, `high` and `sd` are None for fewer than two values."""

    mean: float
    sd: float | None  # of the sample, n - 1
    n: int
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Comparison:
    """Mean of a less mean of b, the interval of that difference, and how surprising it is if both are equal.

    `test` is what was computed: `paired` on the seeds both share, `welch` where they share none, `exact` where the
    values have no spread (every difference the same: a t test would claim certainty; p is the sign test's or the
    permutation test's, and there is no interval), `none` where one side has a single value.
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    test: Literal["paired", "welch", "exact", "none"]
    n: int  # pairs, or values of the smaller side


def mean_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean, sd and t interval: mean ± t_(n-1) sd / sqrt(n).

    Raises:
        ValueError: no values.
    """
    import statistics

    if not values:
        raise ValueError("a mean needs at least one value")
    mean, n = statistics.fmean(values), len(values)
    if n == 1:
        return Interval(mean, None, 1, None, None)
    sd = statistics.stdev(values)
    half = float(half_width(sd, n, level))
    return Interval(mean, sd, n, mean - half, mean + half)


def half_width(sd: np.ndarray | float, n: np.ndarray | int, level: float = LEVEL) -> np.ndarray:
    """Of the t interval of a mean, t_(n-1) sd / sqrt(n), for numbers or arrays; n >= 2."""
    import numpy as np
    from scipy import special

    return special.stdtrit(np.subtract(n, 1), (1 + level) / 2) * sd / np.sqrt(n)


def compare(a: Mapping[int, float], b: Mapping[int, float], level: float = LEVEL) -> Comparison:
    """a - b: paired on shared seeds; Welch where they share none, or only one.

    Args:
        a, b: value by seed, finite, at least one each.
    """
    return compare_all(a, [b], level)[0]


def compare_all(
    a: Mapping[int, float], others: Sequence[Mapping[int, float]], level: float = LEVEL
) -> list[Comparison]:
    """compare(a, b) for each b, in one call of SciPy for all that have the same seeds: 10,000 take a moment."""
    import numpy as np

    by_seeds: dict[frozenset[int], list[int]] = {}
    for index, b in enumerate(others):
        by_seeds.setdefault(frozenset(b), []).append(index)
    found: list[Comparison | None] = [None] * len(others)
    for seeds, indices in by_seeds.items():
        shared = sorted(seeds & a.keys())
        paired = len(shared) >= 2
        ours = np.array([a[seed] for seed in (shared if paired else sorted(a))])  # (n,)
        theirs = np.array([[others[i][seed] for i in indices] for seed in (shared if paired else sorted(seeds))])
        for index, comparison in zip(indices, _tests(ours, theirs, paired, level), strict=True):
            found[index] = comparison
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values in the order given: the i-th smallest of m times (m - i), made monotone, at most 1.

    Holm 1979, "A simple sequentially rejective multiple test procedure".
    """
    m = len(p_values)
    adjusted, highest = [1.0] * m, 0.0
    for rank, index in enumerate(sorted(range(m), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, (m - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted


def below_leader(p_values: Sequence[float]) -> list[float]:
    """Adjusted two-sided p values of the comparisons leader - other, if the same values chose the leader.

    Whichever leads by chance is compared with those that trail by chance, so Holm over the K - 1 comparisons alone
    calls equal configurations different too often. Any of the K could have led, and each would have been tested on one
    side: p / 2, times K for Bonferroni over the possible leaders, and Holm within. With two configurations that is p.
    """
    return holm([min(1.0, p * (len(p_values) + 1) / 2) for p in p_values])


def compare_with_leader(
    leader: Mapping[int, float],
    others: Sequence[Mapping[int, float]],
    adjust: Callable[[Sequence[float]], list[float]] = below_leader,
) -> list[Comparison]:
    """compare(leader, other) for each other, with p values adjusted for all of these comparisons together."""
    comparisons = compare_all(leader, others)
    adjusted = iter(adjust([each.p_value for each in comparisons if each.p_value is not None]))
    return [each if each.p_value is None else replace(each, p_value=next(adjusted)) for each in comparisons]


def _tests(a: np.ndarray, b: np.ndarray, paired: bool, level: float) -> list[Comparison]:
    """a (n,) against every column of b (m, columns).

    scipy.stats.ttest_rel and ttest_ind(equal_var=False) give the same (the tests hold it to that); importing
    scipy.stats alone would take longer than a leaderboard of 10,000 trials, scipy.special does not.
    """
    import numpy as np

    differences = a.mean() - b.mean(axis=0)
    n, m = len(a), len(b)
    if min(n, m) < 2:
        return [Comparison(float(d), None, None, None, "none", min(n, m)) for d in differences]
    from scipy import special

    if paired:
        variance = (a[:, None] - b).var(axis=0, ddof=1) / n
        freedom = np.full(len(differences), n - 1.0)
    else:
        ours, theirs = a.var(ddof=1) / n, b.var(axis=0, ddof=1) / m
        variance = ours + theirs
    is_flat = variance <= 1e-24 * np.maximum(1.0, differences**2)  # rounding leaves 1e-17 of a constant
    variance = np.where(is_flat, 1.0, variance)
    if not paired:
        spread = ours**2 / (n - 1) + theirs**2 / (m - 1)
        freedom = variance**2 / np.where(is_flat, 1.0, spread)  # Welch 1947, Satterthwaite 1946
    error = np.sqrt(variance)
    p_values = 2 * special.stdtr(freedom, -np.abs(differences) / error)
    halves = special.stdtrit(freedom, (1 + level) / 2) * error
    exact = 2 * 0.5**n if paired else 2 / math.comb(n + m, n)
    test = "paired" if paired else "welch"
    return [
        Comparison(d, None, None, min(1.0, exact) if abs(d) > 1e-12 else 1.0, "exact", min(n, m))
        if flat
        else Comparison(d, d - half, d + half, p, test, min(n, m))
        for d, half, p, flat in zip(*map(np.ndarray.tolist, (differences, halves, p_values, is_flat)), strict=True)
    ]
