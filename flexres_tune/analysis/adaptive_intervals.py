"""Critical values for means whose seeds were allocated adaptively: |estimate - truth| / standard error, by simulation.

Which configuration gets the next seed depends on the scores so far. A configuration whose first seeds were unlucky is
not run again, so its mean stays too low, and of several equal configurations the one that leads by chance is compared
with the one that trails by chance. The t distribution is wrong for both. Therefore the allocation itself is simulated:
equal configurations with normal scores, the same number of configurations and runs, the rule of adaptive confirmation
(EB-TC of Jourdan et al. 2022, "Top Two Algorithms Revisited"), and the deviation pooled over all configurations. With
an equal number of seeds the largest difference would have Tukey's studentized range distribution; this is the same test
for numbers of seeds that depend on the scores.

Equal configurations are the worst case: the further a configuration is behind, the less does chance decide how many
seeds it gets. `tests/analysis/test_adaptive_intervals.py` checks coverage for equal, tied and spread configurations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

LEVEL = 0.95
NUM_DRAWS = 10_000
MIN_FREEDOM = 2  # degrees of freedom of the pooled deviation, below which there are no intervals


@dataclass(frozen=True)
class AdaptiveCalibration:
    """Critical values of one adaptive confirmation, in units of the standard errors of pooled_deviation().

    mean_t: half the width of a mean's 95 % interval. difference_t: the same of the differences between the leader and
    every other configuration (or between the leaders of all pairs of levels), all of them together.
    """

    mean_t: float
    difference_t: float
    largest: np.ndarray  # (NUM_DRAWS,) largest such difference of each draw, ascending

    def p_value(self, t: float) -> float:
        """Two-sided p value of a difference of `t` standard errors, adjusted for all comparisons."""
        import numpy as np

        as_large = len(self.largest) - int(np.searchsorted(self.largest, abs(t)))
        return (1 + as_large) / (1 + len(self.largest))  # never 0: Davison and Hinkley 1997, section 4.2.5


def pooled_deviation(scores: Sequence[Sequence[float]]) -> float | None:
    """Standard deviation within configurations, over all of them; None with fewer than MIN_FREEDOM degrees of freedom.

    The standard error of a mean of n scores is deviation / sqrt(n), that of a difference deviation sqrt(1/n + 1/m).
    """
    import numpy as np

    freedom = sum(len(each) - 1 for each in scores if each)
    if freedom < MIN_FREEDOM:
        return None
    return float(np.sqrt(sum(np.var(each) * len(each) for each in scores if each) / freedom))


@lru_cache(maxsize=64)
def calibrate(group_sizes: tuple[int, ...], num_runs: int) -> AdaptiveCalibration | None:
    """Critical values for adaptive confirmation of sum(group_sizes) configurations with `num_runs` runs altogether.

    group_sizes: number of confirmed configurations of each level; (K,) if no levels are compared. None: the runs are
    too few for an interval. It takes 0.1 s for 5 configurations and 15 runs, and gives the same values every time.
    """
    import numpy as np
    from scipy import special

    freedom = num_runs - sum(group_sizes)
    if freedom < MIN_FREEDOM:
        return None
    groups = np.repeat(np.arange(len(group_sizes)), group_sizes)
    sums, squares, counts = _allocate(groups, num_runs, np.random.default_rng(0))
    means = sums / counts
    deviation = np.sqrt((squares - counts * means**2).sum(axis=1) / freedom)  # (draws,)
    mean_t = np.quantile(np.abs(means) * np.sqrt(counts) / deviation[:, None], LEVEL)
    of_t = float(special.stdtrit(freedom, (1 + LEVEL) / 2))
    if len(groups) < 2:
        return AdaptiveCalibration(of_t, of_t, np.zeros(0))
    largest = np.sort(_largest_difference(means, counts, groups) / deviation)
    return AdaptiveCalibration(max(of_t, float(mean_t)), float(np.quantile(largest, LEVEL)), largest)


def _allocate(groups: np.ndarray, num_runs: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sums, sums of squares and numbers of the scores of equal configurations, each (draws, configurations).

    The rule of search.adaptive.AdaptiveConfirmation with one slot, with which the scores decide most; analysis does not
    import search.
    """
    import numpy as np

    num = len(groups)
    rows = np.arange(NUM_DRAWS)
    sums = rng.standard_normal((NUM_DRAWS, num))
    squares, counts = sums**2, np.ones((NUM_DRAWS, num))
    for scores in rng.standard_normal((num_runs - num, NUM_DRAWS)):
        if num > 1:
            means = sums / counts
            partner, best = _partners(means, groups)
            error = np.sqrt(1 / counts + 1 / np.take_along_axis(counts, partner, axis=1))
            distance = np.abs(means - np.take_along_axis(means, partner, axis=1)) / error
            distance[rows, best] = np.inf
            challenger = distance.argmin(axis=1)
            leader = partner[rows, challenger]
            chosen = np.where(counts[rows, challenger] < counts[rows, leader], challenger, leader)
        else:
            chosen = np.zeros(NUM_DRAWS, int)
        sums[rows, chosen] += scores
        squares[rows, chosen] += scores**2
        counts[rows, chosen] += 1
    return sums, squares, counts


def _partners(means: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """With which configuration each one is compared, (draws, configurations), and the best of all, (draws,).

    The leader of its level; the leaders of levels with the best of all.
    """
    import numpy as np

    rows = np.arange(len(means))
    partner = np.empty(means.shape, int)
    leaders = _leaders(means, groups)
    for group, leader in enumerate(leaders.T):
        partner[:, groups == group] = leader[:, None]
    best = leaders[rows, np.take_along_axis(means, leaders, axis=1).argmax(axis=1)]
    partner[rows[:, None], leaders] = best[:, None]
    return partner, best


def _leaders(means: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Index of the best configuration of each level, (draws, levels)."""
    import numpy as np

    members = [np.flatnonzero(groups == group) for group in range(groups.max() + 1)]
    return np.stack([each[means[:, each].argmax(axis=1)] for each in members], axis=1)


def _largest_difference(means: np.ndarray, counts: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Largest |difference| / sqrt(1/n + 1/m), (draws,): of the leader and another, or of any two leaders of levels."""
    import numpy as np

    leaders = _leaders(means, groups)
    if groups.max() == 0:
        pairs = [(leaders, np.broadcast_to(np.arange(len(groups)), means.shape))]
    else:
        pairs = [(leaders[:, [k]], leaders[:, k + 1 :]) for k in range(leaders.shape[1] - 1)]
    largest = np.zeros(len(means))
    for one, other in pairs:
        gap = np.take_along_axis(means, one, 1) - np.take_along_axis(means, other, 1)
        error = np.sqrt(1 / np.take_along_axis(counts, one, 1) + 1 / np.take_along_axis(counts, other, 1))
        largest = np.maximum(largest, (np.abs(gap) / error).max(axis=1))
    return largest
