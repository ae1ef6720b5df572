"""Effect of one parameter, or of two together: what its values led to, over configurations that can be compared."""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flexres_tune.analysis.leaderboard import Board, BoardRow, distinct, leaderboards
from flexres_tune.analysis.metric import RankingMetric
from flexres_tune.analysis.ranked_trials import ranked_trials, varied_columns
from flexres_tune.display.format import format_value
from flexres_tune.effects.pairs import Pairs, has_ended, key_of, others_of, pair_up
from flexres_tune.errors import ResultsError
from flexres_tune.records import column
from flexres_tune.results.own_values import configuration_columns
from flexres_tune.results.reader import Results
from flexres_tune.results.schema import column_of_key
from flexres_tune.text import did_you_mean
from flexres_tune.uncertainty.intervals import half_width

SHARED, ALL = "shared", "all"  # see Effect.mean_over


@dataclass(frozen=True)
class Effect:
    """What one value of a parameter, or one pair of values, led to; other parameters vary as the sweep varied them.

    If a search has paused or stopped configurations of a value, the mean over the others would be one of survivors. So
    a value has a mean over configurations whose partners with each of the other values ran to the end as well, or over
    all its configurations if all of them ran to the end, and else none. The interval is over configurations; if there is
    only one, it is over that one's seeds.

    A value is also compared with the one that the leaderboard's first configuration has, over pairs of configurations
    that differ in nothing else. Intervals of these differences hold for all pairs of values together.
    """

    sweep: str = column("sweep's name")
    dataset: str = column("data set; accuracies on different images are not compared")
    parameters: Mapping[str, Any]  # the value, or both values
    num_configs: int = column("configurations that ran to the end", "configurations")
    num_trials: int = column("their trials", "trials")
    num_incomplete: int = column("configurations of which only some seeds ran to the end", "configurations")
    num_stopped: int = column("trials of this value that the scheduler stopped", "trials")
    num_paused: int = column("trials of this value that the search paused", "trials")
    num_failed: int = column("trials of this value that diverged, ran out of memory or failed", "trials")
    mean_over: str | None = column(
        "shared: configurations whose partners with each other value ran to the end as well | all: all of this value, if "
        "all ran to the end | null: neither, so there is no mean"
    )
    num_averaged: int = column("configurations that the mean is over", "configurations")
    metric_mean: float | None = column("mean over num_averaged of their means", "metric")
    metric_sd: float | None = column("standard deviation over what interval_over says", "metric")
    metric_low: float | None = column("lower end of the mean's 95 % interval", "metric")
    metric_high: float | None = column("upper end of the mean's 95 % interval", "metric")
    interval_over: str | None = column("configurations | seeds; null if there is no interval")
    extreme: float | None = column("mean of the best configuration", "metric")
    compared_with: str | None = column("value of the leaderboard's first configuration; null for that value itself")
    num_pairs: int | None = column("pairs that differ in nothing else, and of which both ran to the end", "pairs")
    better_by: float | None = column("by how much this value is better, mean over num_pairs", "metric difference")
    better_by_low: float | None = column("lower end of its 95 % interval", "metric difference")
    better_by_high: float | None = column("upper end of its 95 % interval", "metric difference")
    num_only_this: int | None = column("pairs of which only the configuration with this value ran to the end", "pairs")
    num_only_other: int | None = column("pairs of which only the configuration with the other value did", "pairs")
    precision_used: str | None = column("precision of num_trials; several if they differ")


def parameter_effects(results: Results, sweep: str, parameter: str, by: str | None = None) -> list[Effect]:
    """One effect per data set and value of `parameter`, or per pair of values of `parameter` and `by`; sorted by value.

    Raises:
        ResultsError: no such sweep or parameter, or a parameter that has the same value in all trials.
    """
    boards = leaderboards(results, sweep)
    trials = ranked_trials(results, sweep)  # read after the boards: while the sweep runs, every row of these is in it
    parameter = column_of_key(parameter, trials.column_names)
    by = by and column_of_key(by, trials.column_names)
    keys = [parameter] if by is None else [parameter, by]
    if by == parameter:
        raise ResultsError(f"--by must name a parameter other than {parameter}")
    varied = varied_columns(trials)
    known = f"varied in {sweep}: {', '.join(varied) or 'nothing'}"
    for name in keys:
        if name not in (known_names := configuration_columns(trials)):
            hint = did_you_mean(name.lower(), varied) or did_you_mean(name, known_names)
            raise ResultsError(f"no parameter {name[:50]!r}{hint}; {known}")
        if not trials.num_rows:
            raise ResultsError(
                f"{sweep}: no trial has ended yet, so there is nothing to compare; query status counts them"
            )
        if name not in varied:
            only = trials[name][0].as_py()
            raise ResultsError(f"{name} must vary to be compared, but is {only} in all trials; {known}")
    # The board leaves a parameter out if another one implies it, so the values are read from the trials.
    values = {row.pop("config_id"): row for row in trials.select(["config_id", *keys]).to_pylist()}
    effects = [effect for board in boards for effect in _effects_of(board, keys, values)]
    return sorted(effects, key=lambda each: (each.dataset or "", *map(sort_key, each.parameters.values())))


def _effects_of(board: Board, keys: Sequence[str], values: Mapping[str, Mapping[str, Any]]) -> list[Effect]:
    """The effects on one data set; `values` are those of `keys`, by config_id."""
    groups: dict[str, list[BoardRow]] = {}
    for row in board.rows:
        groups.setdefault(json.dumps(list(values[row.config_id].values()), default=str), []).append(row)
    shared = _shared(groups.values(), keys)
    first = board.ranked[0] if board.ranked else None
    pairs: dict[tuple[str, str], Pairs] = {}
    if first is not None and len(keys) == 1:
        pairs = pair_up([(values[row.config_id][keys[0]], row) for row in board.rows], keys[0], board.metric)
    effects = []
    for group in groups.values():
        of_group = values[group[0].config_id]
        compared = {}
        if first is not None and len(keys) == 1:
            compared = _against(of_group[keys[0]], values[first.config_id][keys[0]], pairs, board.metric)
        effects.append(_effect(group, board.metric, of_group, shared, compared))
    return effects


def _shared(groups: Iterable[Sequence[BoardRow]], names: Sequence[str]) -> set[str] | None:
    """Values of all other parameters with which each group has a configuration that ran to the end.

    Groups without any are left out. None if every configuration of the others ran to the end: then all of them count.
    """
    some = [group for group in groups if any(map(has_ended, group))]
    if all(has_ended(row) for group in some for row in group):
        return None
    found = [{others_of(row, names) for row in group if has_ended(row)} for group in some]
    return set.intersection(*found)


def _averaged(group: Sequence[BoardRow], names: Sequence[str], shared: set[str] | None) -> tuple[str, list[BoardRow]]:
    """(what a mean is over, its configurations)."""
    if shared:
        return SHARED, [row for row in group if has_ended(row) and others_of(row, names) in shared]
    return ALL, list(group) if all(map(has_ended, group)) else []


def _against(
    value: Any, reference: Any, pairs: Mapping[tuple[str, str], Pairs], metric: RankingMetric
) -> dict[str, Any]:
    """The fields of an Effect that compare it with the reference; none of the reference itself."""
    a, b = key_of(value), key_of(reference)
    if a == b:
        return {}
    found = pairs[a, b] if (a, b) in pairs else pairs[b, a].turned() if (b, a) in pairs else Pairs(a, b, (), 0, 0)
    low, high = found.interval(sum(bool(each.differences) for each in pairs.values())) or (None, None)
    return {
        "compared_with": format_value(reference),
        "num_pairs": len(found.differences),
        "better_by": found.mean,
        "better_by_low": low,
        "better_by_high": high,
        "num_only_this": found.num_only_a,
        "num_only_other": found.num_only_b,
    }


def _effect(
    group: Sequence[BoardRow],
    metric: RankingMetric,
    parameters: Mapping[str, Any],
    shared: set[str] | None,
    compared: Mapping[str, Any],
) -> Effect:
    ended = [row for row in group if has_ended(row)]
    over, averaged = _averaged(group, list(parameters), shared)
    interval: dict[str, float | None] = dict.fromkeys(("metric_mean", "metric_sd", "metric_low", "metric_high"))
    interval_over = None
    if len(averaged) == 1:
        interval = {name: getattr(averaged[0], name) for name in interval}
        interval_over = "seeds" if averaged[0].num_seeds > 1 else None
    elif averaged:
        means = [row.metric_mean for row in averaged]
        mean, sd = statistics.fmean(means), statistics.stdev(means)
        low, high = metric.clip(mean, float(half_width(sd, len(means))))
        interval = {"metric_mean": mean, "metric_sd": sd, "metric_low": low, "metric_high": high}
        interval_over = "configurations"
    not_compared = ("compared_with", "num_pairs", "better_by", "better_by_low", "better_by_high")
    not_compared += ("num_only_this", "num_only_other")
    return Effect(
        sweep=group[0].sweep,
        dataset=group[0].dataset,
        parameters=parameters,
        num_configs=len(ended),
        num_trials=sum(row.num_seeds for row in ended),
        num_incomplete=sum(row.is_incomplete for row in group),
        num_stopped=sum(row.num_stopped for row in group),
        num_paused=sum(row.num_paused for row in group),
        num_failed=sum(row.num_diverged + row.num_out_of_memory + row.num_failed for row in group),
        mean_over=over if averaged else None,
        num_averaged=len(averaged),
        **interval,
        interval_over=interval_over,
        extreme=metric.best([row.metric_mean for row in ended]) if ended else None,
        **dict.fromkeys(not_compared) | compared,
        precision_used=", ".join(distinct(row.precision_used for row in ended)) or None,
    )


def sort_key(value: Any) -> tuple[int, float, str]:
    """Orders a parameter's values: numbers by size, then words and lists as text, null last."""
    if value is None:
        return (2, 0.0, "")
    return (0, value, "") if isinstance(value, int | float) else (1, 0.0, str(value))
