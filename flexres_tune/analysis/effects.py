"""Effect of one parameter, or of two together: mean over the configurations that have its value, with an interval."""

from __future__ import annotations

import itertools
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flexres_tune.analysis.leaderboard import BoardRow, distinct, leaderboards, varied_columns
from flexres_tune.analysis.metric import RankingMetric
from flexres_tune.analysis.statistics import half_width
from flexres_tune.errors import ResultsError
from flexres_tune.records import column
from flexres_tune.results.own_values import configuration_columns
from flexres_tune.results.reader import Results
from flexres_tune.text import did_you_mean


@dataclass(frozen=True)
class Effect:
    """What one value of a parameter, or one pair of values, led to; other parameters vary as the sweep varied them.

    Only configurations that ran to the end count. The interval is over configurations; if a value has only one, it is
    over that one's seeds.
    """

    sweep: str = column("sweep's name")
    dataset: str = column("data set; accuracies on different images are not compared")
    parameters: Mapping[str, Any]  # the value, or both values
    num_configs: int = column("configurations that ran to the end", "configurations")
    num_trials: int = column("their trials", "trials")
    num_incomplete: int = column("configurations of which only some seeds ran to the end", "configurations")
    num_stopped: int = column("trials of this value that the scheduler stopped", "trials")
    num_failed: int = column("trials of this value that diverged, ran out of memory or failed", "trials")
    metric_mean: float | None = column("mean over num_configs of their means", "metric")
    metric_sd: float | None = column("standard deviation over what interval_over says", "metric")
    metric_low: float | None = column("lower end of the mean's 95 % interval", "metric")
    metric_high: float | None = column("upper end of the mean's 95 % interval", "metric")
    extreme: float | None = column("mean of the best configuration", "metric")
    interval_over: str | None = column("configurations | seeds; null if there is no interval")
    precision_used: str | None = column("precision of num_trials; several if they differ")


def parameter_effects(results: Results, sweep: str, parameter: str, by: str | None = None) -> list[Effect]:
    """One effect per data set and value of `parameter`, or per pair of values of `parameter` and `by`; sorted by value.

    Raises:
        ResultsError: no such sweep or parameter, or a parameter that has the same value in all trials.
    """
    keys = [parameter] if by is None else [parameter, by]
    if by == parameter:
        raise ResultsError(f"--by must name a parameter other than {parameter}")
    boards = leaderboards(results, sweep)
    trials = results.trials(sweep)  # read after the boards: while the sweep runs, every row of these is in it
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
    groups: dict[str, list[BoardRow]] = {}
    for row in (row for board in boards for row in board.rows):
        groups.setdefault(json.dumps([row.dataset, *values[row.config_id].values()]), []).append(row)
    metric = boards[0].metric
    effects = [_effect(group, metric, values[group[0].config_id]) for group in groups.values()]
    return sorted(effects, key=lambda each: (each.dataset or "", *map(sort_key, each.parameters.values())))


def _effect(group: Sequence[BoardRow], metric: RankingMetric, parameters: Mapping[str, Any]) -> Effect:
    ranked = [row for row in group if row.rank is not None and row.metric_mean is not None]
    means = [row.metric_mean for row in ranked]
    interval: dict[str, float | None] = dict.fromkeys(("metric_mean", "metric_sd", "metric_low", "metric_high"))
    over = None
    if len(ranked) == 1:
        interval = {name: getattr(ranked[0], name) for name in interval}
        over = "seeds" if ranked[0].num_seeds > 1 else None
    elif ranked:
        mean, sd = statistics.fmean(means), statistics.stdev(means)
        low, high = metric.clip(mean, float(half_width(sd, len(means))))
        interval = {"metric_mean": mean, "metric_sd": sd, "metric_low": low, "metric_high": high}
        over = "configurations"
    return Effect(
        sweep=group[0].sweep,
        dataset=group[0].dataset,
        parameters=parameters,
        num_configs=len(ranked),
        num_trials=sum(row.num_seeds for row in ranked),
        num_incomplete=sum(row.is_incomplete for row in group),
        num_stopped=sum(row.num_stopped for row in group),
        num_failed=sum(row.num_diverged + row.num_out_of_memory + row.num_failed for row in group),
        **interval,
        extreme=metric.best(means) if means else None,
        interval_over=over,
        precision_used=", ".join(distinct(row.precision_used for row in ranked)) or None,
    )


@dataclass(frozen=True)
class PairedEffect:
    """How much better one value of a parameter is than another, over configurations that differ in nothing else."""

    better: Any  # value with the higher mean score over the pairs
    worse: Any
    num_pairs: int
    difference: float  # of the metric, mean over pairs, >= 0 if better is better
    low: float | None  # ends of its interval, at 95 % for all pairs of values together; None for one pair
    high: float | None


def paired_effect(rows: Sequence[tuple[Any, BoardRow]], parameter: str, metric: RankingMetric) -> PairedEffect | None:
    """The two values of a parameter that differ most over the configurations that share all other parameters.

    `rows` are (value of the parameter, configuration), of configurations that ran to the end. Confirmed ones are paired
    with confirmed ones only. None if no two of them differ in nothing else.
    """
    shared: dict[str, dict[str, tuple[Any, float]]] = {}
    for value, row in rows:
        others = {name: other for name, other in row.parameters.items() if name != parameter}
        key = json.dumps([row.stage, others], sort_keys=True, default=str)
        shared.setdefault(key, {})[json.dumps(value, default=str)] = (value, metric.score(row.metric_mean))
    gaps: dict[tuple[str, str], list[float]] = {}
    values = {key: value for group in shared.values() for key, (value, _) in group.items()}
    for group in shared.values():
        for a, b in itertools.combinations(sorted(group), 2):
            gaps.setdefault((a, b), []).append(group[a][1] - group[b][1])
    if not gaps:
        return None
    most = max(map(len, gaps.values()))  # of few pairs the largest difference would be chance
    (a, b), differences = max(
        ((pair, found) for pair, found in gaps.items() if len(found) == most),
        key=lambda each: abs(statistics.fmean(each[1])),
    )
    mean = statistics.fmean(differences)
    low = high = None
    if len(differences) > 1:
        half = float(half_width(statistics.stdev(differences), len(differences), num_comparisons=len(gaps)))
        low, high = abs(mean) - half, abs(mean) + half
    better, worse = (a, b) if mean >= 0 else (b, a)
    return PairedEffect(values[better], values[worse], len(differences), abs(mean), low, high)


def sort_key(value: Any) -> tuple[int, float, str]:
    """Orders a parameter's values: numbers by size, then words and lists as text, null last."""
    if value is None:
        return (2, 0.0, "")
    return (0, value, "") if isinstance(value, int | float) else (1, 0.0, str(value))
