"""How sure: t intervals of means, paired and Welch t tests, Holm's correction. SciPy computes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """Adjusted two-sided p values of the comparisons leader - other, where the same values chose the leader.

    Whoever leads by chance is compared with whoever trails by chance, so Holm over the K - 1 comparisons alone calls
    equal configurations different too often. Any of the K could have led; each would be tested on one side: p / 2,
    times K for Bonferroni over the leaders, and Holm within. With two configurations that is p itself.
    """
    return holm([min(1.0, p * (len(p_values) + 1) / 2) for p in p_values])


def _tests(a: np.ndarray, b: np.ndarray, paired: bool, level: float) -> list[Comparison]:
    """a (n,) against every column of b (m, columns)."""
    import numpy as np

    differences = a.mean() - b.mean(axis=0)
    n = min(len(a), len(b))
    if n < 2:
        return [Comparison(float(d), None, None, None, "none", n) for d in differences]
    if paired:
        per_seed = a[:, None] - b
        spread = per_seed.std(axis=0)
    else:
        spread = np.hypot(a.std(), b.std(axis=0))
    is_flat = spread <= 1e-12 * np.maximum(1.0, np.abs(differences))  # rounding leaves 1e-17 of a constant
    low = high = p_values = np.full(len(differences), np.nan)
    if not is_flat.all():
        from scipy import stats

        with np.errstate(divide="ignore", invalid="ignore"):
            if paired:
                result = stats.ttest_1samp(per_seed[:, ~is_flat], 0.0)
            else:
                result = stats.ttest_ind(a[:, None], b[:, ~is_flat], equal_var=False)
            interval = result.confidence_interval(level)
        low, high, p_values = low.copy(), high.copy(), p_values.copy()
        low[~is_flat], high[~is_flat], p_values[~is_flat] = interval.low, interval.high, result.pvalue
    exact = 2 * 0.5**n if paired else 2 / math.comb(len(a) + len(b), n)
    test = "paired" if paired else "welch"
    return [
        Comparison(float(d), None, None, min(1.0, exact) if abs(d) > 1e-12 else 1.0, "exact", n)
        if flat
        else Comparison(float(d), float(lo), float(hi), float(p), test, n)
        for d, lo, hi, p, flat in zip(differences, low, high, p_values, is_flat, strict=True)
    ]
