"""Values of a parameter compared over configurations that differ in nothing else.

The search pauses and stops configurations because of what they reach. So a mean over those that ran to the end says
less about a value than about what the search kept of it. A pair of configurations that share all other parameters is a
fair comparison, if both ran to the end. If only one did, the pair has no difference, but it is counted.
"""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flexres_tune.analysis.leaderboard import BoardRow
from flexres_tune.analysis.metric import RankingMetric
from flexres_tune.uncertainty.intervals import half_width


@dataclass(frozen=True)
class Pairs:
    """Two values, over the pairs of configurations that differ in nothing else."""

    a: Any
    b: Any
    differences: tuple[float, ...]  # score of a less score of b, of pairs of which both ran to the end
    num_only_a: int  # pairs of which only the configuration with a ran to the end
    num_only_b: int

    @property
    def num_only_one(self) -> int:
        return self.num_only_a + self.num_only_b

    @property
    def mean(self) -> float | None:
        """By how much a is better; negative if b is."""
        return statistics.fmean(self.differences) if self.differences else None

    def interval(self, num_comparisons: int) -> tuple[float, float] | None:
        """Ends of the mean's interval, at 95 % for that many comparisons together; None for fewer than two pairs."""
        if len(self.differences) < 2:
            return None
        half = float(half_width(statistics.stdev(self.differences), len(self.differences), num_comparisons))
        return self.mean - half, self.mean + half

    def turned(self) -> Pairs:
        """The same with a and b exchanged."""
        return Pairs(self.b, self.a, tuple(-each for each in self.differences), self.num_only_b, self.num_only_a)


def has_ended(row: BoardRow) -> bool:
    """Whether a configuration ran to the end with all its seeds, and has a value."""
    return row.rank is not None and row.metric_mean is not None


def others_of(row: BoardRow, names: Sequence[str]) -> str:
    """Equal for configurations that differ in nothing but the named parameters."""
    return json.dumps({k: v for k, v in row.parameters.items() if k not in names}, sort_keys=True, default=str)


def key_of(value: Any) -> str:
    """A value as the key of a mapping; lists are values too."""
    return json.dumps(value, default=str)


def pair_up(
    rows: Sequence[tuple[Any, BoardRow]], parameter: str, metric: RankingMetric
) -> dict[tuple[str, str], Pairs]:
    """By (key of a, key of b), the pairs of values that at least two configurations share all other parameters of.

    `rows` are (value of the parameter, configuration), whether it ran to the end or not. If one of two was confirmed and
    the other one was not, they ran on other seeds, and are left out.
    """
    groups: dict[str, dict[str, BoardRow]] = {}
    values = {key_of(value): value for value, _ in rows}
    for value, row in rows:
        groups.setdefault(others_of(row, [parameter]), {}).setdefault(key_of(value), row)
    found: dict[tuple[str, str], list[tuple[BoardRow, BoardRow]]] = {}
    for group in groups.values():
        for a, b in itertools.combinations(sorted(group), 2):
            found.setdefault((a, b), []).append((group[a], group[b]))
    return {(a, b): _pairs(values[a], values[b], rows, metric) for (a, b), rows in found.items()}


def _pairs(a: Any, b: Any, rows: Sequence[tuple[BoardRow, BoardRow]], metric: RankingMetric) -> Pairs:
    differences, only = [], {True: 0, False: 0}
    for first, second in rows:
        if has_ended(first) and has_ended(second):
            if first.stage == second.stage:
                differences.append(metric.score(first.metric_mean) - metric.score(second.metric_mean))
        elif has_ended(first) or has_ended(second):
            only[has_ended(first)] += 1
    return Pairs(a, b, tuple(differences), only[True], only[False])


@dataclass(frozen=True)
class PairedEffect:
    """How much better one value of a parameter is than another, over configurations that differ in nothing else."""

    better: Any  # value with the higher mean score over the pairs
    worse: Any
    num_pairs: int
    difference: float  # of the metric, mean over pairs, >= 0 if better is better
    low: float | None  # ends of its interval, at 95 % for all pairs of values together; None for one pair
    high: float | None
    num_only_better: int  # further pairs, of which only the configuration with `better` ran to the end
    num_only_worse: int


def paired_effect(pairs: Mapping[Any, Pairs]) -> PairedEffect | None:
    """The two values of a parameter that differ most; None if no two configurations that ran to the end are a pair."""
    whole = [each for each in pairs.values() if each.differences]
    if not whole:
        return None
    most = max(len(each.differences) for each in whole)  # of few pairs the largest difference would be chance
    chosen = max((each for each in whole if len(each.differences) == most), key=lambda each: abs(each.mean))
    chosen = chosen if chosen.mean >= 0 else chosen.turned()
    low, high = chosen.interval(len(whole)) or (None, None)
    return PairedEffect(
        chosen.a,
        chosen.b,
        most,
        chosen.mean,
        low,
        high,
        num_only_better=chosen.num_only_a,
        num_only_worse=chosen.num_only_b,
    )
