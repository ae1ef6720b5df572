"""How many seeds separate a difference: power of the tests in comparisons.py, from the variance of seeds so far."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flexres_tune.analysis.leaderboard import Board, BoardRow
from flexres_tune.errors import ResultsError
from flexres_tune.records import column
from flexres_tune.uncertainty.comparisons import PRIOR_FREEDOM, critical_ranges, measure

if TYPE_CHECKING:
    import numpy as np

POWER = 0.8  # probability that the difference is called separable
MOST_SEEDS = 1_000


@dataclass(frozen=True)
class PowerRow:
    """Seeds per configuration with which a difference is separable with 80 % power."""

    sweep: str = column("sweep's name")
    dataset: str = column("data set")
    difference: float = column("of two means", "metric difference")
    seed_sd: float = column("standard deviation between seeds, pooled over configurations", "metric difference")
    num_configs: int = column("configurations that are compared with each other", "configurations")
    num_seeds: int | None = column("seeds of each; null if more than 1,000", "seeds")
    device_hours: float | None = column("of all these trials", "h")


def power_rows(board: Board, difference: float) -> list[PowerRow]:
    """For two configurations, and for as many as the board compares.

    Raises:
        ResultsError: no two seeds of a configuration, so their variance is not known.
    """
    rows = compared_rows(board)
    sd = seed_deviation(rows)
    if sd is None:
        raise ResultsError(
            f"{board.sweep}: power needs configurations with at least two seeds that differ, but there are none; add "
            "seeds, or confirm"
        )
    found = []
    for num_configs in dict.fromkeys((2, max(2, len(rows)))):
        num_seeds = seeds_needed(difference, sd, num_configs)
        seconds = _seconds_per_trial(rows)
        hours = None if num_seeds is None or seconds is None else num_seeds * num_configs * seconds / 3600
        found.append(PowerRow(board.sweep, board.dataset, difference, sd, num_configs, num_seeds, hours))
    return found


def further_seeds(board: Board, row: BoardRow) -> tuple[int | None, float | None]:
    """(seeds to add to each of inseparable(), device-hours of them all) to separate `row`, if the gap is as it seems.

    A verdict about one of them waits for those behind it, because p values account for all comparisons: with more seeds of
    the first two alone they would not be separable. (None, None) if that is not known; (MOST_SEEDS, None) if it needs more
    than those.
    """
    rows, group = compared_rows(board), inseparable(board)
    sd = seed_deviation(rows)
    if sd is None or not row.behind_leader:
        return None, None
    total = seeds_needed(abs(row.behind_leader), sd, max(2, len(group)))
    if total is None:
        return MOST_SEEDS, None
    more = [max(1, total - each.num_seeds) for each in group]
    seconds = _seconds_per_trial(rows)
    return max(more), None if seconds is None else sum(more) * seconds / 3600


def smallest_difference(sd: float, num_seeds: int, num_configs: int) -> float | None:
    """The difference of two means that `num_seeds` seeds separate with 80 % power, among so many configurations."""
    import numpy as np

    if num_seeds < 2:
        return None
    return float(_multiples(np.array([num_seeds]), num_configs)[0]) * sd * math.sqrt(2 / num_seeds)


def seeds_needed(difference: float, sd: float, num_configs: int) -> int | None:
    """The fewest seeds per configuration with POWER; None if more than MOST_SEEDS."""
    import numpy as np

    # The multiple changes little beyond 60 seeds, and takes milliseconds for each number of them.
    tried = np.array([*range(2, 20), *range(20, 60, 4), *range(60, MOST_SEEDS, 100), MOST_SEEDS])
    multiples = _multiples(tried, num_configs)
    every = np.arange(2, MOST_SEEDS + 1)
    enough = np.interp(every, tried, multiples) * sd * np.sqrt(2 / every) <= difference
    return int(every[enough.argmax()]) if enough.any() else None


def seed_deviation(rows: Sequence[BoardRow]) -> float | None:
    """Standard deviation between seeds, pooled over configurations; what a seed adds to all of them is taken out."""
    samples = [row.scores for row in rows if len(row.scores) > 1]
    found = measure(samples)[0] if len(samples) > 1 else None
    if found is None:
        return None
    return math.sqrt(float((found.variance * found.freedom).sum() / found.freedom.sum()))


def _multiples(num_seeds: np.ndarray, num_configs: int) -> np.ndarray:
    """The difference with POWER in units of its standard error: critical value + quantile of t, one side."""
    import numpy as np
    from scipy import special

    freedom = np.minimum(2 * (PRIOR_FREEDOM + num_seeds - 1), num_configs * (num_seeds - 1)).astype(float)
    return critical_ranges(num_configs, freedom) / math.sqrt(2) + special.stdtrit(freedom, POWER)


def compared_rows(board: Board) -> list[BoardRow]:
    """The configurations that the board compares with its leader, and the leader: those with several seeds."""
    return [row for row in board.ranked if row.stage == board.ranked[0].stage and len(row.scores) > 1]


def inseparable(board: Board) -> list[BoardRow]:
    """The leader, and what is compared with it and not separable from it."""
    return [row for row in compared_rows(board) if row.separable_from_leader != "yes"]


def _seconds_per_trial(rows: Sequence[BoardRow]) -> float | None:
    known = [row for row in rows if row.device_seconds is not None and row.num_completed]
    trials = sum(row.num_completed for row in known)
    return sum(row.device_seconds for row in known) / trials if trials else None
