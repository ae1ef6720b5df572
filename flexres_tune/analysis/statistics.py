"""How sure a mean or a difference is: t intervals, paired and Welch t tests, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95  # of every interval


@dataclass(frozen=True)
class Comparison:
    """Mean of a less mean of b, with the interval and the two-sided p value of that difference.

    `test` names what was computed:
    - paired: paired t test on the seeds that both have.
    - welch: Welch's t test, if they share fewer than two seeds.
    - exact: the sign test or the permutation test, without an interval, because the values have no spread. A t test
      would claim certainty.
    - none: one side has a single value.
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    test: Literal["paired", "welch", "exact", "none"]


def half_width(sd: np.ndarray | float, n: np.ndarray | int) -> np.ndarray:
    """Half the width of the t interval of a mean, t_(n-1) sd / sqrt(n), for numbers or arrays; n >= 2."""
    import numpy as np
    from scipy import special

    return special.stdtrit(np.subtract(n, 1), (1 + LEVEL) / 2) * sd / np.sqrt(n)


def compare(a: Mapping[int, float], b: Mapping[int, float]) -> Comparison:
    """a - b: paired on the shared seeds, or Welch's test if they share none or only one.

    `a` and `b` map seeds to finite values, at least one each.
    """
    return compare_all(a, [b])[0]


def compare_all(a: Mapping[int, float], others: Sequence[Mapping[int, float]]) -> list[Comparison]:
    """compare(a, b) for each b, with one call of SciPy for all that have the same seeds, so that 10,000 are fast."""
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
        for index, comparison in zip(indices, _t_tests(ours, theirs, paired), strict=True):
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


def adjust_for_chosen_leader(p_values: Sequence[float]) -> list[float]:
    """Adjusted two-sided p values of the comparisons leader - other, if the same values chose the leader.

    Whichever leads by chance is compared with those that trail by chance, so Holm over the K - 1 comparisons alone
    calls equal configurations different too often. Any of the K could have led, and each would have been tested on one
    side: p / 2, times K for Bonferroni over the possible leaders, and Holm within. With two configurations that is p.
    """
    return holm([min(1.0, p * (len(p_values) + 1) / 2) for p in p_values])


def compare_with_leader(
    leader: Mapping[int, float],
    others: Sequence[Mapping[int, float]],
    adjust: Callable[[Sequence[float]], list[float]] = adjust_for_chosen_leader,
) -> list[Comparison]:
    """compare(leader, other) for each other, with p values adjusted for all of these comparisons together."""
    comparisons = compare_all(leader, others)
    adjusted = iter(adjust([each.p_value for each in comparisons if each.p_value is not None]))
    return [each if each.p_value is None else replace(each, p_value=next(adjusted)) for each in comparisons]


def _t_tests(a: np.ndarray, b: np.ndarray, paired: bool) -> list[Comparison]:
    """a (n,) against every column of b (m, columns).

    The same as scipy.stats.ttest_rel and ttest_ind(equal_var=False), which a test compares it with. Importing
    scipy.stats would take 0.4 s longer than scipy.special, more than the rest of a leaderboard of 10,000 trials.
    """
    import numpy as np

    differences = a.mean() - b.mean(axis=0)  # (columns,)
    n, m = len(a), len(b)
    if min(n, m) < 2:
        return [Comparison(float(d), None, None, None, "none") for d in differences]
    from scipy import special

    if paired:
        variance = (a[:, None] - b).var(axis=0, ddof=1) / n
        freedom = np.full(len(differences), n - 1.0)
    else:
        of_a, of_b = a.var(ddof=1) / n, b.var(axis=0, ddof=1) / m
        variance = of_a + of_b
        with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0 if there is no spread, which is not used
            freedom = variance**2 / (of_a**2 / (n - 1) + of_b**2 / (m - 1))  # Welch 1947, Satterthwaite 1946
    has_spread = variance > 1e-24 * np.maximum(1.0, differences**2)  # rounding leaves 1e-17 of a constant
    error = np.sqrt(np.where(has_spread, variance, 1.0))
    p_values = 2 * special.stdtr(freedom, -np.abs(differences) / error)
    halves = special.stdtrit(freedom, (1 + LEVEL) / 2) * error
    exact = min(1.0, 2 * 0.5**n if paired else 2 / math.comb(n + m, n))
    test = "paired" if paired else "welch"
    columns = zip(*map(np.ndarray.tolist, (differences, halves, p_values, has_spread)), strict=True)
    return [
        Comparison(d, d - half, d + half, p, test)
        if spread
        else Comparison(d, None, None, exact if abs(d) > 1e-12 else 1.0, "exact")
        for d, half, p, spread in columns
    ]
