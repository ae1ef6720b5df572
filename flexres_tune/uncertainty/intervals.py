"""How sure a mean or the difference of two is: t intervals, paired and Welch t tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95  # of every interval


@dataclass(frozen=True)
class Comparison:
    """Mean of a less mean of b, with the interval and the two-sided p value of that difference.

    `test` names what was computed:
    - paired: paired t test on the seeds that both have; of several configurations that have the same seeds, the seed is
      a block (see comparisons.py).
    - unpaired: of several configurations that do not all have the same seeds (see comparisons.py).
    - welch: Welch's t test, if they share fewer than two seeds.
    - exact: the sign test or the permutation test, without an interval, because the values have no spread. A t test
      would claim certainty.
    - none: one side has a single value.
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float | None
    test: Literal["paired", "unpaired", "welch", "exact", "none"]


def half_width(sd: np.ndarray | float, n: np.ndarray | int, num_comparisons: int = 1) -> np.ndarray:
    """Half the width of the t interval of a mean, t_(n-1) sd / sqrt(n), for numbers or arrays; n >= 2.

    With several comparisons, of intervals that hold for all of them together (Bonferroni).
    """
    import numpy as np
    from scipy import special

    return special.stdtrit(np.subtract(n, 1), 1 - (1 - LEVEL) / 2 / num_comparisons) * sd / np.sqrt(n)


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
