"""Decisions in words: why each trial was continued, stopped, paused, promoted, or given a further run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flexres_tune.analysis.metric import RankingMetric, metric_of
from flexres_tune.analysis.ranked_trials import parameter_columns
from flexres_tune.display.format import format_value
from flexres_tune.records import column
from flexres_tune.results.reader import Results
from flexres_tune.text import plural


@dataclass(frozen=True)
class ExplainedDecision:
    """A row of `decisions`, the configuration that it is about, and its reason in words."""

    sweep: str = column("sweep's name")
    trial_id: str = column("the trial")
    parameters: Mapping[str, Any]
    action: str = column("continue | stop | pause | promote | allocate")
    epoch: int = column("epoch after which the decision was made; 0 before the first one", "epochs")
    reason: str = column("why, with the numbers that it was based on")
    ladder: str = column("trials are compared only within one ladder")
    rung: int = column("rung of the ladder, from 0; of allocate, the run's number, from 0")
    value: float | None = column("value on which the decision is based", "fraction")
    cutoff: float | None = column("value with which it was compared", "fraction")
    rank: int | None = column("place at the rung, from 1")
    num_compared: int | None = column("configurations that had reached the rung", "configurations")


def explain_decisions(results: Results, sweep: str) -> tuple[list[ExplainedDecision], list[str]]:
    """(all decisions of a sweep in the order in which they were made, names of the parameters that vary).

    Raises:
        ResultsError: no such sweep.
    """
    trials, metric = results.trials(sweep), metric_of(results, sweep)
    varied = parameter_columns(results, sweep, trials)
    rows = trials.select(["trial_id", "config_id", *varied]).to_pylist()
    by_trial = {row["trial_id"]: row for row in rows}
    names = {row["config_id"]: _name({key: row[key] for key in varied}) for row in rows}
    explained, num_runs = [], Counter()
    for row in results.decisions(sweep).to_pylist():
        trial = by_trial.get(row["trial_id"], {})
        config_id = row["trial_id"].rpartition("-")[0]
        num_runs[config_id] += row["action"] == "allocate"
        explained.append(
            ExplainedDecision(
                parameters={name: trial.get(name) for name in varied},
                reason=explain(
                    row, metric, names.get(row.get("compared_with"), row.get("compared_with")), num_runs[config_id]
                ),
                **{
                    key: row.get(key)
                    for key in ("sweep", "trial_id", "action", "epoch", "ladder", "rung", "value", "cutoff", "rank")
                },
                num_compared=row.get("num_compared"),
            )
        )
    return explained, varied


def explain(row: Mapping[str, Any], metric: RankingMetric, other: str | None = None, num_runs: int = 1) -> str:
    """The reason of a row of `decisions`.

    Args:
        other: name of the configuration in `compared_with`.
        num_runs: of allocate, fresh runs that its configuration has been given, with this one.
    """
    value, cutoff, action = row["value"], row["cutoff"], row["action"]
    with_value = "" if value is None else metric.text(value)
    at_least = None if cutoff is None else f"at {'least' if metric.is_maximized else 'most'} {metric.text(cutoff)}"
    if action.startswith("steer "):
        at = f" at {format_value(row['decided_at'])} UTC" if row["decided_at"] is not None else ""
        return f"{row['who'] or 'somebody'} asked for it{at}"
    if action == "allocate":
        return _explain_allocation(row, metric, other, num_runs)
    if action in ("continue", "stop"):
        if at_least is None:
            return f"{with_value} after epoch {row['epoch']}: nothing to compare it with yet"
        verb = "continues" if action == "continue" else "is stopped"
        return f"{with_value} after epoch {row['epoch']}: it {verb}, because a trial needs {at_least}"
    place = f"number {row['rank']} of {row['num_compared']} at epoch {row['epoch']}, with {with_value}"
    if action == "promote":
        return f"{place}: it continues to epoch {row['until_epoch']}"
    needs = f"those with {at_least} continue" if at_least else "none continues until more have reached the rung"
    return f"{place}: {needs}"


def _explain_allocation(row: Mapping[str, Any], metric: RankingMetric, other: str | None, num_runs: int) -> str:
    if other is None:
        if num_runs < 2:
            return "its first run on a fresh seed"
        return "its next run on a fresh seed: with fewer than two runs, its mean has no interval"
    if row["value"] is None or row["cutoff"] is None:
        return f"its comparison with {other} is not decided, because one of them has no result yet"
    runs = plural(row["num_compared"] or 0, "run")
    return (
        f"after {runs}, its mean {metric.text(row['value'])} against {metric.text(row['cutoff'])} of {other} was the "
        "least decided comparison, and it had the fewer runs of the two"
    )


def _name(values: Mapping[str, Any]) -> str:
    return " ".join(f"{key}={format_value(value)}" for key, value in values.items() if value is not None)
