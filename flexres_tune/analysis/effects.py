"""Effect of one parameter, or of two together: mean over the configurations that have its value, with an interval."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pyarrow as pa

from flexres_tune.analysis.leaderboard import leaderboard, varied_columns
from flexres_tune.analysis.statistics import Interval, mean_interval
from flexres_tune.errors import ResultsError
from flexres_tune.records import TrialStatus
from flexres_tune.results.reader import Results
from flexres_tune.results.schema import config_columns, table_schema
from flexres_tune.text import did_you_mean

_FAILED = (TrialStatus.DIVERGED, TrialStatus.OUT_OF_MEMORY, TrialStatus.FAILED)


def parameter_effect(results: Results, sweep: str, parameter: str, by: str | None = None) -> pa.Table:
    """A row a value of `parameter` (and a value of `by`) and data set; sorted by value.

    Columns: sweep, dataset, the parameter(s), num_configs, num_trials (their trials that ran to the end),
    num_stopped and num_failed (trials of this value that did not), best_val_accuracy_mean, _sd, _low, _high,
    interval_over, and highest (the best configuration's mean). Only configurations run to their end count. The
    interval is over configurations; where a value has one alone, over its seeds: `interval_over` says which. It
    holds what else was varied beside the parameter, as the sweep varied it.

    Raises:
        ResultsError: no such sweep or parameter, or one that has the same value in all trials.
    """
    keys = [parameter] if by is None else [parameter, by]
    if by == parameter:
        raise ResultsError(f"--by must be another parameter than {parameter}")
    trials = results.trials(sweep)
    for key in keys:
        check_parameter(key, trials, sweep)
    configs = _with_keys(leaderboard(results, sweep), trials, keys)
    groups: dict[str, list[dict]] = {}
    for row in configs:
        groups.setdefault(json.dumps([row["dataset"], *(row[key] for key in keys)]), []).append(row)
    rows = sorted((_row(sweep, keys, group) for group in groups.values()), key=lambda row: _order(row, keys))
    kinds = {field.name: field.type for field in table_schema("trials")}
    numbers = ("best_val_accuracy_mean", "best_val_accuracy_sd", "best_val_accuracy_low", "best_val_accuracy_high")
    schema = pa.schema(
        [(name, kinds[name]) for name in ("sweep", "dataset", *keys)]
        + [(name, pa.int64()) for name in ("num_configs", "num_trials", "num_stopped", "num_failed")]
        + [(name, pa.float64()) for name in (*numbers, "highest_val_accuracy")]
        + [("interval_over", pa.string())]
    )
    return pa.Table.from_pylist(rows, schema)


def check_parameter(name: str, trials: pa.Table, sweep: str) -> None:
    """Raise ResultsError unless the parameter is one, and has more than one value in these trials."""
    varied = varied_columns(trials)
    there = f"varied in {sweep}: {', '.join(varied) or 'nothing'}"
    if name not in config_columns():
        meant = did_you_mean(name.lower(), varied) or did_you_mean(name, config_columns())
        raise ResultsError(f"no parameter {name[:50]!r}{meant}; {there}")
    if name not in varied:
        only = trials[name][0].as_py() if trials.num_rows else None
        raise ResultsError(f"{name} must vary to be compared, but is {only} in all trials; {there}")


def _with_keys(board: pa.Table, trials: pa.Table, keys: Sequence[str]) -> list[dict]:
    """Rows of the board with the keys' values, which it leaves out where another column tells them."""
    values = {row["config_id"]: row for row in trials.select(["config_id", *keys]).to_pylist()}
    return [row | {key: values[row["config_id"]][key] for key in keys} for row in board.to_pylist()]


def _row(sweep: str, keys: Sequence[str], group: Sequence[dict]) -> dict:
    whole = [row for row in group if row["rank"] is not None and row["best_val_accuracy_mean"] is not None]
    means = [row["best_val_accuracy_mean"] for row in whole]
    interval, over = None, None
    if len(whole) == 1:
        (row,) = whole
        low, high = row["best_val_accuracy_low"], row["best_val_accuracy_high"]
        interval = Interval(means[0], row["best_val_accuracy_sd"], row["num_seeds"], low, high)
        over = "seeds" if row["num_seeds"] > 1 else None
    elif whole:
        interval, over = mean_interval(means), "configurations"
    return {
        "sweep": sweep,
        "dataset": group[0]["dataset"],
        **{key: group[0][key] for key in keys},
        "num_configs": len(whole),
        "num_trials": sum(row["num_seeds"] for row in whole),
        "num_stopped": sum(row["num_stopped"] for row in group),
        "num_failed": sum(row[f"num_{status}"] for row in group for status in _FAILED),
        "best_val_accuracy_mean": interval and interval.mean,
        "best_val_accuracy_sd": interval and interval.sd,
        "best_val_accuracy_low": None if over is None or interval.low is None else max(0.0, interval.low),
        "best_val_accuracy_high": None if over is None or interval.high is None else min(1.0, interval.high),
        "highest_val_accuracy": max(means, default=None),
        "interval_over": over,
    }


def _order(row: dict, keys: Sequence[str]) -> tuple:
    """Numbers by size, words and lists as text, null last."""
    values = (row[key] for key in keys)
    places = (
        (2, 0.0, "") if value is None else (0, value, "") if isinstance(value, int | float) else (1, 0.0, str(value))
        for value in values
    )
    return row["dataset"] or "", *places
