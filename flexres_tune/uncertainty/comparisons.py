"""Which configurations may be the best: every configuration of a board compared with its leader, on all seeds at once.

Method: Tukey-Kramer tests in the form of Games and Howell 1976, which allows variances to differ, from the worst
configuration to the best one (step-down, so that a configuration that is out costs the others no power). They differ
from the paper in the variance of a configuration, which is shrunk to the pool: Smyth 2004, "Linear models and empirical
Bayes methods", equation 2, with a fixed PRIOR_FREEDOM instead of an estimated one.

Shrinking gives an answer with two seeds. The fixed weight keeps the test valid if variances differ, because a spread of
1:4 cannot be seen in two or three seeds: tests/uncertainty/simulate_statistics.py measures it.

If confirmed configurations have few fresh seeds, their runs of the screening count in the variance, so that one fresh
run of each is enough to compare them. They do not count in the means, because configurations were chosen for their luck.
That luck makes the variance too large rather than too small. With more fresh seeds it would cost more power than the
further runs give: `bench search` shows both.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING

from flexres_tune.uncertainty.intervals import LEVEL, Comparison

if TYPE_CHECKING:
    import numpy as np

PRIOR_FREEDOM = 4.0  # degrees of freedom that the pooled variance counts in the variance of each configuration

FEW_SEEDS = 2.5  # on average over configurations; with fewer, the runs of the screening count in the variance

_NO_SPREAD = 1e-24  # rounding leaves a variance of 1e-34 of equal accuracies
_MOST_EXACT = 400  # p values of a board that are computed, in 60 ms
_CERTAIN = 1e-6  # p values below are not computed exactly: they are their Bonferroni bound


@dataclass(frozen=True)
class LeaderComparison(Comparison):
    """How much better the leader is than one other configuration; p is adjusted for all comparisons of the board."""

    error: float | None = None  # standard error of the difference; None without an interval
    freedom: float | None = None  # its degrees of freedom


@dataclass(frozen=True)
class Moments:
    """Mean over seeds, variance of a seed and its degrees of freedom; arrays whose last axis is the configuration."""

    mean: np.ndarray  # (..., K)
    variance: np.ndarray  # (..., K)
    freedom: np.ndarray  # (..., K)
    num_seeds: np.ndarray  # (..., K)


@dataclass(frozen=True)
class Gaps:
    """How far each configuration is behind its leader, with the standard error of that and its degrees of freedom."""

    difference: np.ndarray  # (..., K)
    error: np.ndarray  # (..., K)
    freedom: np.ndarray  # (..., K)


@dataclass(frozen=True)
class Samples:
    """Finite values of K configurations by seed, higher is better, each in the order of the seeds."""

    seeds: np.ndarray  # (K, n); 0 fills up configurations that have fewer
    values: np.ndarray  # (K, n); NaN does
    num_seeds: np.ndarray  # (K,)
    screened: np.ndarray  # (K, m) values of the screening that count in the variance; NaN fills up

    @classmethod
    def of(cls, samples: Sequence[Mapping[int, float]], screened: Sequence[Sequence[float]] = ()) -> Samples:
        """Of mappings from seeds to values; `screened` as of_flat()."""
        import numpy as np

        ordered = [sorted(sample.items()) for sample in samples]
        pairs = np.array([pair for each in ordered for pair in each], float).reshape(-1, 2)
        return cls.of_flat(pairs[:, 0], pairs[:, 1], np.array([len(each) for each in ordered]), screened)

    @classmethod
    def of_flat(
        cls, seeds: np.ndarray, values: np.ndarray, num_seeds: np.ndarray, screened: Sequence[Sequence[float]] = ()
    ) -> Samples:
        """Of the seeds and values of all configurations, one after another.

        screened: values of the screening of each configuration, or of none; they count if there are FEW_SEEDS.
        """
        import numpy as np

        none = [()] * len(num_seeds)
        counted = screened if screened and num_seeds.mean() < FEW_SEEDS else none
        return cls(
            _matrix(seeds, num_seeds, 0.0),
            _matrix(values, num_seeds, np.nan),
            num_seeds,
            _matrix(
                np.array([v for each in counted for v in each], float), np.array([*map(len, counted)], int), np.nan
            ),
        )

    def take(self, rows: np.ndarray) -> Samples:
        num_seeds = self.num_seeds[rows]
        width = num_seeds.max(initial=0)
        return Samples(self.seeds[rows, :width], self.values[rows, :width], num_seeds, self.screened[rows])

    @cached_property
    def means(self) -> np.ndarray:
        """(K,)"""
        import numpy as np

        return np.nansum(self.values, axis=1) / self.num_seeds

    @cached_property
    def num_runs(self) -> np.ndarray:
        """(K,) with those of the screening; a variance needs two."""
        import numpy as np

        return self.num_seeds + np.isfinite(self.screened).sum(axis=1)

    @property
    def count_screening(self) -> bool:
        """Whether any of them has a value of the screening that counts."""
        return bool((self.num_runs > self.num_seeds).any())

    @property
    def have_the_same_seeds(self) -> bool:
        return bool((self.num_seeds == self.num_seeds[0]).all() and (self.seeds == self.seeds[0]).all())


def _matrix(flat: np.ndarray, lengths: np.ndarray, fill: float) -> np.ndarray:
    """(K, longest) rows of these lengths, which follow each other in `flat`."""
    import numpy as np

    has_value = np.arange(lengths.max(initial=0)) < lengths[:, None]
    matrix = np.full(has_value.shape, fill)
    matrix[has_value] = flat
    return matrix


def compare_with_leader(
    leader: Mapping[int, float], others: Sequence[Mapping[int, float]], screened: Sequence[Sequence[float]] = ()
) -> list[LeaderComparison]:
    """leader - other for each other, as compare_samples(). Both map seeds to values, at least one each.

    screened: values of the screening of the leader and of each other; empty: none has one.
    """
    return compare_samples(Samples.of([leader, *others], screened), len(others))


def compare_samples(samples: Samples, num_wanted: int) -> list[LeaderComparison]:
    """leader - other for the first `num_wanted` others, with p values adjusted for the comparisons with all of them.

    The leader is the first sample, and has the highest mean. If all have the same seeds, the seed is a block: what a
    seed adds to every configuration is taken out, unless the screening counts. Those with a single run are not compared.
    """
    import numpy as np

    means = samples.means[: num_wanted + 1].tolist()
    alone = [LeaderComparison(means[0] - mean, None, None, None, "none") for mean in means[1:]]
    compared = np.flatnonzero(samples.num_runs > 1)
    if samples.num_runs[0] < 2 or len(compared) < 2:
        return alone
    wanted = compared[(compared > 0) & (compared <= num_wanted)]
    pool = samples.take(compared)
    found, design = _measure(pool)
    measured = (
        _without_spread(pool, len(wanted)) if found is None else _with_spread(gaps(found, 0), design, len(wanted))
    )
    for index, comparison in zip(wanted, measured, strict=True):
        alone[index - 1] = comparison
    return alone


def least_differences(samples: Samples, chosen: Sequence[int]) -> np.ndarray:
    """(c, c) lower ends of the 95 % intervals of mean i less mean j, which hold for all pairs of samples together.

    `chosen` are the indices of c samples. NaN if a sample of the pair has one run, or if no sample has a spread.
    """
    import numpy as np

    found = np.full((len(chosen), len(chosen)), np.nan)
    pool = np.flatnonzero(samples.num_runs > 1).tolist()
    places = {index: place for place, index in enumerate(pool)}
    rows = [row for row, index in enumerate(chosen) if index in places]
    if len(pool) < 2 or not rows:
        return found
    measured, _ = _measure(samples.take(np.array(pool)))
    if measured is None:
        return found
    columns = [places[chosen[row]] for row in rows]
    for row in rows:
        gap = gaps(measured, places[chosen[row]])
        widths = critical_ranges(len(pool), gap.freedom[columns]) / math.sqrt(2) * gap.error[columns]
        found[row, rows] = gap.difference[columns] - widths
    return found


def critical_ranges(num: int, freedom: np.ndarray) -> np.ndarray:
    """The studentized range of `num` values that is exceeded by chance in 5 % of cases, by bisection; (m,)."""
    import numpy as np
    from scipy import special

    if num == 2:  # the range of two is the size of their difference
        return math.sqrt(2) * special.stdtrit(freedom, (1 + LEVEL) / 2)
    low, high = np.full(len(freedom), 0.5), np.full(len(freedom), 500.0)
    for _ in range(24):  # to 1e-6 of the value
        middle = np.sqrt(low * high)
        is_low = range_p_values(middle, np.full(len(freedom), num), freedom) > 1 - LEVEL
        low, high = np.where(is_low, middle, low), np.where(is_low, high, middle)
    return high


def measure(samples: Sequence[Mapping[int, float]]) -> tuple[Moments | None, str]:
    """Moments of samples with two seeds or more, and the design; None if no sample has a spread."""
    return _measure(Samples.of(samples))


@dataclass(frozen=True)
class PooledDeviation:
    """Standard deviation of a run, pooled over configurations."""

    sd: float
    freedom: float

    def half_width(self, num_seeds: int) -> float:
        """Half the width of the 95 % interval of a mean over so many runs."""
        from scipy import special

        return float(special.stdtrit(self.freedom, (1 + LEVEL) / 2)) * self.sd / math.sqrt(num_seeds)


def pooled_deviation(samples: Samples) -> PooledDeviation | None:
    """Of all that have two runs, with those of the screening; None if there is no spread."""
    import numpy as np

    pool = samples.take(np.flatnonzero(samples.num_runs > 1))
    if not len(pool.num_seeds):
        return None
    found = moments(pool.values, False, pool.screened)
    freedom = float(found.freedom.sum())
    variance = float((found.freedom * found.variance).sum()) / freedom
    return PooledDeviation(math.sqrt(variance), freedom) if variance > _NO_SPREAD else None


def _measure(samples: Samples) -> tuple[Moments | None, str]:
    if samples.have_the_same_seeds and not samples.count_screening:
        found = moments(samples.values, True)
        if found.variance.max() > _NO_SPREAD:
            return found, "paired"
    found = moments(samples.values, False, samples.screened)
    return (found, "unpaired") if found.variance.max() > _NO_SPREAD else (None, "exact")


def moments(values: np.ndarray, is_paired: bool, screened: np.ndarray | None = None) -> Moments:
    """Moments of values (..., K, n); NaN fills up configurations that have fewer seeds, which are never paired.

    `screened` (..., K, m) count in the variance alone, and not if the values are paired.
    """
    import numpy as np

    num_seeds = np.isfinite(values).sum(axis=-1)  # (..., K)
    mean = np.nansum(values, axis=-1) / num_seeds
    runs = values if screened is None else np.concatenate([values, screened], axis=-1)
    num_runs = np.isfinite(runs).sum(axis=-1)
    residuals = runs - (np.nansum(runs, axis=-1) / num_runs)[..., None]  # (..., K, n + m)
    freedom = num_runs - 1.0
    if is_paired:
        residuals = residuals - residuals.mean(axis=-2, keepdims=True)
        freedom = freedom * (1 - 1 / values.shape[-2])
    return Moments(mean, np.nansum(residuals**2, axis=-1) / freedom, freedom, num_seeds)


def shrunk_variance(found: Moments) -> tuple[np.ndarray, np.ndarray]:
    """Variances (..., K) that are shrunk to the pool, and the degrees of freedom (..., 1) of the pool.

    Those are Satterthwaite's (1946), which are fewer than the sum if variances differ.
    """
    squares = found.freedom * found.variance
    total = squares.sum(axis=-1, keepdims=True)
    pooled = total / found.freedom.sum(axis=-1, keepdims=True)
    variance = (PRIOR_FREEDOM * pooled + squares) / (PRIOR_FREEDOM + found.freedom)
    return variance, total**2 / (squares * found.variance).sum(axis=-1, keepdims=True)


def gaps(found: Moments, leader: int | np.ndarray) -> Gaps:
    """Gaps to the configuration `leader`, an index or (..., 1) indices."""
    import numpy as np

    variance, of_pool = shrunk_variance(found)
    of_means = variance / found.num_seeds
    parts = np.broadcast_to(of_means**2 / (PRIOR_FREEDOM + found.freedom), of_means.shape)

    def of_leader(array: np.ndarray) -> np.ndarray:
        return np.take_along_axis(array, np.broadcast_to(leader, (*array.shape[:-1], 1)), axis=-1)

    of_difference = of_means + of_leader(of_means)
    freedom = of_difference**2 / (parts + of_leader(parts))  # Welch 1947
    return Gaps(of_leader(found.mean) - found.mean, np.sqrt(of_difference), np.minimum(freedom, of_pool))


def _with_spread(found: Gaps, test: str, num_wanted: int) -> list[LeaderComparison]:
    from scipy import special

    p_values = adjusted_p_values(found)
    columns = (found.difference, found.error, found.freedom, p_values)
    difference, error, freedom, p_values = (column[1 : num_wanted + 1] for column in columns)
    halves = special.stdtrit(freedom, (1 + LEVEL) / 2) * error
    rows = zip(*(column.tolist() for column in (difference, halves, p_values, error, freedom)), strict=True)
    return [LeaderComparison(d, d - half, d + half, p, test, error, freedom) for d, half, p, error, freedom in rows]


def adjusted_p_values(found: Gaps) -> np.ndarray:
    """(K,) p values of the gaps to configuration 0, adjusted for all comparisons and for the choice of the leader.

    The k configurations that are closest to the leader are compared as if they were alone, after those that are
    farther. So p is the largest of its own and of those of the configurations that are farther.
    """
    import numpy as np
    from scipy import special

    t = np.maximum(found.difference, 0.0) / found.error
    one_sided = special.stdtr(found.freedom, -t)
    order = np.argsort(-one_sided[1:], kind="stable") + 1  # closest first
    t, freedom, one_sided = t[order], found.freedom[order], one_sided[order]
    num = np.arange(2, len(order) + 2)
    p = num * (num - 1) * one_sided  # Bonferroni over the pairs
    near = np.flatnonzero(p > _CERTAIN)
    exact = near[np.unique(np.linspace(0, len(near) - 1, min(len(near), _MOST_EXACT)).astype(int))]
    exact_p = range_p_values(math.sqrt(2) * t[exact], num[exact], freedom[exact])
    if len(near):  # the others have the p value of the next one that is closer to the leader, which is larger
        p[near] = exact_p[np.searchsorted(exact, near, side="right") - 1]
    adjusted = np.zeros(len(order) + 1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[::-1])[::-1])
    return adjusted


def range_p_values(q: np.ndarray, num: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """P(range of `num` standard normals > q s), s**2 being chi-squared / freedom; all arguments have shape (m,).

    The same as scipy.stats.studentized_range.sf, which a test compares it with. SciPy takes 50 ms per number, and 0.4 s
    to import scipy.stats, more than a whole leaderboard.
    """
    import numpy as np

    if not len(q):
        return q
    parts = np.array_split(np.arange(len(q)), math.ceil(len(q) / 256))  # 256 need 10 MB
    return np.concatenate([_range_p_values(q[part], num[part], freedom[part]) for part in parts])


def _range_p_values(q: np.ndarray, num: np.ndarray, freedom: np.ndarray) -> np.ndarray:
    """Over the smallest of the normals by the trapezoidal rule, over s by Gauss-Legendre; p is exact to 0.0005."""
    import numpy as np
    from scipy import special

    z = np.arange(-5.5, 6.75, 0.25)  # (49,)
    of_z = 0.25 / math.sqrt(2 * math.pi) * np.exp(-(z**2) / 2)
    u, of_u = _nodes(32)
    freedoms, rows = np.unique(freedom, return_inverse=True)
    # Quantiles 1 - u**2: their nodes are dense in the tail of small s, where the range is exceeded.
    s = np.sqrt(special.chdtri(freedoms[:, None], 1 - u**2) / freedoms[:, None])[rows]  # (m, 32)
    within = special.ndtr(z) - special.ndtr(z - q[:, None, None] * s[:, :, None])  # (m, 32, 49)
    inside = num[:, None] * (np.power(within, num[:, None, None] - 1.0) @ of_z)
    return np.clip(1 - np.clip(inside, 0, 1) @ (2 * u * of_u), 0.0, 1.0)


@cache
def _nodes(num: int) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights of quadrature on [0, 1]; they take longer to compute than a p value."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(num)
    return (nodes + 1) / 2, weights / 2


def _without_spread(samples: Samples, num_wanted: int) -> list[LeaderComparison]:
    """Seeds that all have the same value: the permutation test of two configurations, Bonferroni over all pairs."""
    num_pairs = math.comb(len(samples.num_seeds), 2)
    (leader, *means), (n, *others) = samples.means.tolist(), samples.num_seeds.tolist()
    found = []
    for mean, m in list(zip(means, others, strict=True))[:num_wanted]:
        p = 1.0 if abs(leader - mean) < 1e-12 else 2 / math.comb(n + m, n)
        found.append(LeaderComparison(leader - mean, None, None, min(1.0, num_pairs * p), "exact"))
    return found
