"""Intervals and p values of means whose seeds were allocated adaptively: t intervals, calibrated by simulation.

Which configuration gets the next seed depends on the scores so far. A configuration whose first seeds were unlucky is
not run again, so its mean stays too low; and of several equal configurations, the one that leads by chance is compared
with the one that trails by chance. The t distribution is wrong for both. Therefore the allocation itself is simulated:
as many equal configurations with normal scores, as many runs, the rule of adaptive confirmation (EB-TC of Jourdan et
al. 2022, "Top Two Algorithms Revisited"), and the deviation pooled over all configurations. This is the Monte Carlo
test of Barnard 1963. If all had the same number of seeds, the largest difference would have the distribution of Tukey's
studentized range; here the numbers of seeds depend on the scores.

Equal configurations are the worst case: the further a configuration is behind, the less does chance decide how many
seeds it gets. `tests/analysis/test_adaptive_intervals.py` checks equal, tied and spread configurations.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from statistics import fmean
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95
NUM_DRAWS = 10_000
MIN_FREEDOM = 2  # degrees of freedom of the pooled deviation, below which there are no intervals


@dataclass(frozen=True)
class Gap:
    """Mean of one configuration less that of another, with interval and p value, adjusted for all comparisons."""

    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class AdaptiveIntervals:
    """What the fresh seeds of one adaptive confirmation say.

    fresh: scores of each candidate, also of those that got no fresh run. groups: level of each candidate, if levels
    are compared; then the comparisons that p values are adjusted for are those of any two leaders of levels, otherwise
    those of the leader with every other candidate. counts_screening: whether a run of the screening of each candidate
    counted in the allocation; such runs are not part of `fresh`.
    """

    fresh: Mapping[Hashable, Sequence[float]]
    groups: Mapping[Hashable, Hashable] | None = None
    counts_screening: bool = False

    @cached_property
    def freedom(self) -> int:
        """Degrees of freedom of the pooled deviation."""
        return sum(len(each) - 1 for each in self.fresh.values() if each)

    @cached_property
    def deviation(self) -> float | None:
        """Standard deviation within configurations, over all; None if the runs are too few or have no spread."""
        if self.freedom < MIN_FREEDOM:
            return None
        means = {key: fmean(each) for key, each in self.fresh.items() if each}
        squares = sum((score - means[key]) ** 2 for key in means for score in self.fresh[key])
        deviation = math.sqrt(squares / self.freedom)
        return deviation if deviation > 1e-12 * max(1.0, *map(abs, means.values())) else None

    @cached_property
    def _calibration(self) -> _Calibration:
        sizes: dict[Hashable, int] = {}
        for key in self.fresh:
            group = None if self.groups is None else self.groups[key]
            sizes[group] = sizes.get(group, 0) + 1
        num_runs = sum(map(len, self.fresh.values()))
        return _calibrate(tuple(sizes.values()), num_runs, self.counts_screening)

    def half_width(self, key: Hashable) -> float | None:
        """Half the width of the 95 % interval of a configuration's mean; None if it has none."""
        if self.deviation is None or not self.fresh[key]:
            return None
        return self._calibration.mean_t(self.freedom) * self.deviation / math.sqrt(len(self.fresh[key]))

    def compare(self, a: Hashable, b: Hashable) -> Gap | None:
        """a - b; None if one of them has no fresh run, or the runs are too few or have no spread.

        The interval does not contain 0 if p < 0.05.
        """
        if self.deviation is None or not self.fresh[a] or not self.fresh[b]:
            return None
        difference = fmean(self.fresh[a]) - fmean(self.fresh[b])
        error = self.deviation * math.sqrt(1 / len(self.fresh[a]) + 1 / len(self.fresh[b]))
        half = self._calibration.difference_t(self.freedom) * error
        p_value = self._calibration.p_value(difference / error, self.freedom)
        return Gap(difference, difference - half, difference + half, p_value)


@dataclass(frozen=True)
class _Calibration:
    """Simulated confirmations of equal configurations: p values that t tests would give, two-sided.

    of_mean: below which 5 % are of those that a configuration's mean is its true one. smallest: the smallest of the
    comparisons of each draw, ascending.
    """

    of_mean: float
    smallest: np.ndarray  # (NUM_DRAWS,)

    def mean_t(self, freedom: int) -> float:
        """Half the width of a mean's interval in units of its standard error; at least that of the t interval."""
        return _t_of(min(1 - LEVEL, self.of_mean), freedom)

    def difference_t(self, freedom: int) -> float:
        """The same of a difference, for all comparisons together."""
        return _t_of(_quantile(self.smallest), freedom)

    def p_value(self, t: float, freedom: int) -> float:
        """p value of a difference of `t` standard errors, adjusted for all comparisons."""
        import numpy as np
        from scipy import special

        num_as_small = np.searchsorted(self.smallest, 2 * special.stdtr(freedom, -abs(t)), side="right")
        return float(1 + num_as_small) / (1 + len(self.smallest))  # not 0: as many draws show no smaller p value


def _t_of(p_value: float, freedom: int) -> float:
    from scipy import special

    return float(special.stdtrit(freedom, 1 - p_value / 2))


def _quantile(p_values: np.ndarray) -> float:
    """The value that a share of 1 - LEVEL of the p values is below; of none: 1 - LEVEL."""
    return float(p_values[math.floor((1 - LEVEL) * len(p_values))]) if len(p_values) else 1 - LEVEL


@lru_cache(maxsize=256)
def _calibrate(group_sizes: tuple[int, ...], num_runs: int, counts_screening: bool) -> _Calibration:
    """Simulate confirmations of sum(group_sizes) candidates, `num_runs` runs altogether; the same each time.

    It takes 0.1 s for 6 candidates and 15 runs on a laptop's core.
    """
    import numpy as np
    from scipy import special

    groups = np.repeat(np.arange(len(group_sizes)), group_sizes)
    screened, sums, squares, counts = _allocate(groups, num_runs, counts_screening, np.random.default_rng(0))
    has_run = counts > 0
    means = sums / np.maximum(counts, 1)
    freedom = (counts - has_run).sum(axis=1)
    deviation = np.sqrt((squares - counts * means**2).sum(axis=1) / np.maximum(freedom, 1))
    usable = freedom >= MIN_FREEDOM
    t = np.abs(means) * np.sqrt(counts) / np.maximum(deviation, 1e-12)[:, None]
    of_means = 2 * special.stdtr(np.maximum(freedom, 1)[:, None], -t)
    everything = (sums + screened) / np.maximum(counts + counts_screening, 1)
    largest = _largest_difference(everything, means, counts, groups) / np.maximum(deviation, 1e-12)
    smallest = 2 * special.stdtr(np.maximum(freedom, 1), -largest)
    return _Calibration(_quantile(np.sort(of_means[usable[:, None] & has_run])), np.sort(smallest[usable]))


def _allocate(
    groups: np.ndarray, num_runs: int, counts_screening: bool, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Score of the screening, and sums, sums of squares and numbers of fresh scores, each (draws, configurations).

    The rule of search.adaptive.AdaptiveConfirmation with one slot, with which the scores decide most; analysis does not
    import search.
    """
    import numpy as np

    shape = (NUM_DRAWS, len(groups))
    rows = np.arange(NUM_DRAWS)
    first = rng.standard_normal(shape)
    if counts_screening:
        screened, sums, squares, counts = first, np.zeros(shape), np.zeros(shape), np.zeros(shape)
    else:
        screened, sums, squares, counts = np.zeros(shape), first, first**2, np.ones(shape)
    num_left = num_runs if counts_screening else max(0, num_runs - len(groups))
    for scores in rng.standard_normal((num_left, NUM_DRAWS)):
        chosen = _next_to_run((sums + screened) / (counts + counts_screening), counts, counts_screening, groups)
        sums[rows, chosen] += scores
        squares[rows, chosen] += scores**2
        counts[rows, chosen] += 1
    return screened, sums, squares, counts


def _next_to_run(means: np.ndarray, counts: np.ndarray, counts_screening: bool, groups: np.ndarray) -> np.ndarray:
    """Index of the configuration that gets the next run, (draws,). counts: of fresh runs."""
    import numpy as np

    if len(groups) == 1:
        return np.zeros(len(means), int)
    rows, num = np.arange(len(means)), counts + counts_screening
    leaders = _leaders(means, groups)
    best = leaders[rows, np.take_along_axis(means, leaders, axis=1).argmax(axis=1)]
    partner = leaders[:, groups]  # with which each configuration is compared: the leader of its level
    partner[rows[:, None], leaders] = best[:, None]  # and the leaders of levels with the best of all
    error = np.sqrt(1 / num + 1 / np.take_along_axis(num, partner, axis=1))
    distance = np.abs(means - np.take_along_axis(means, partner, axis=1)) / error
    distance[rows, best] = np.inf
    challenger = distance.argmin(axis=1)
    leader = partner[rows, challenger]
    chosen = np.where(num[rows, challenger] < num[rows, leader], challenger, leader)
    is_new = np.take_along_axis(counts, leaders, axis=1) == 0  # leaders of levels without a fresh run come first
    return np.where(is_new.any(axis=1), leaders[rows, is_new.argmax(axis=1)], chosen)


def _leaders(means: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Index of the best configuration of each level, (draws, levels)."""
    import numpy as np

    members = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    return np.stack([each[means[:, each].argmax(axis=1)] for each in members], axis=1)


def _largest_difference(
    everything: np.ndarray, means: np.ndarray, counts: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Largest |difference| / sqrt(1/n + 1/m), (draws,): of the leader and another, or of any two leaders of levels.

    everything: means with the run of the screening, which choose the leaders. means, counts: of fresh runs.
    """
    import numpy as np

    leaders = _leaders(everything, groups)
    if groups.max() == 0:
        pairs = [(leaders, np.broadcast_to(np.arange(len(groups)), means.shape))]
    else:
        pairs = [(leaders[:, [k]], leaders[:, k + 1 :]) for k in range(leaders.shape[1] - 1)]
    largest = np.zeros(len(means))
    for one, other in pairs:
        gap = np.take_along_axis(means, one, 1) - np.take_along_axis(means, other, 1)
        n, m = np.take_along_axis(counts, one, 1), np.take_along_axis(counts, other, 1)
        error = np.sqrt(1 / np.maximum(n, 1) + 1 / np.maximum(m, 1))
        largest = np.maximum(largest, np.where((n > 0) & (m > 0), np.abs(gap) / error, 0).max(axis=1))
    return largest
