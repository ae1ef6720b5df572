"""Difference between two configurations, or between two sweeps: settings that differ, and results that differ."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.leaderboard import Board, leaderboards
from flexres_tune.errors import ResultsError
from flexres_tune.records import Stage, TrialStatus, column
from flexres_tune.results.own_values import configuration_columns
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import read_plan
from flexres_tune.results.reader import Results
from flexres_tune.text import did_you_mean
from flexres_tune.uncertainty.intervals import compare

MEASURES = {
    "best_val_accuracy": "fraction",
    "last_val_accuracy": "fraction",
    "test_accuracy": "fraction",
    "train_seconds": "s",
}
"""Columns of `trials` that configurations are compared by, with their units."""

_MIN_ID = 4  # characters; a shorter text is not taken for the beginning of a config_id


@dataclass(frozen=True)
class Difference:
    """One setting or result that differs between a and b.

    A setting has the texts `a` and `b`. A result has the means over a_n and b_n trials; if these are None, a_mean and
    b_mean are totals of a sweep.
    """

    kind: str = column("setting | result")
    what: str = column("name of the setting or result")
    a: str | None = column("a's setting", default=None)
    b: str | None = column("b's setting", default=None)
    unit: str | None = column("unit of a_mean, b_mean, difference, low and high", default=None)
    a_mean: float | None = column("mean over a's trials, or a sweep's total", default=None)
    a_n: int | None = column("trials that a_mean is over", "trials", default=None)
    b_mean: float | None = column("mean over b's trials, or a sweep's total", default=None)
    b_n: int | None = column("trials that b_mean is over", "trials", default=None)
    difference: float | None = column("a_mean - b_mean; over shared seeds alone if the test is paired", default=None)
    low: float | None = column("lower end of the difference's 95 % interval", default=None)
    high: float | None = column("upper end of the difference's 95 % interval", default=None)
    p_value: float | None = column("of the difference, not adjusted", default=None)
    test: str | None = column("paired | welch | exact | none: see statistics.Comparison", default=None)


def diff(results: Results, a: str, b: str, sweep: str | None = None) -> list[Difference]:
    """What differs between a and b: names of two sweeps, or two config_ids or beginnings of them, or two trial_ids.

    Results are over trials that ran to the end; of a confirmed configuration, over its confirm trials.

    Raises:
        ResultsError: a or b is neither a sweep nor a configuration, or one is a sweep and the other is not.
    """
    sweeps = results.sweeps()
    if a in sweeps and b in sweeps:
        return _diff_sweeps(results, a, b)
    if a in sweeps or b in sweeps:
        one, other = (a, b) if a in sweeps else (b, a)
        raise ResultsError(
            f"diff needs two sweeps or two configurations, but {one} is a sweep and {other[:50]!r} is not"
        )
    trials = results.trials(sweep if sweep is None else results.choose(sweep)[0])
    first, second = (_trials_of(trials, text, sweeps) for text in (a, b))
    keys = [*configuration_columns(trials), "num_parameters"]
    keys += ["seed"] if len({row["trial_id"] for row in first}) == len({row["trial_id"] for row in second}) == 1 else []
    names = [name for name in keys if first[0][name] != second[0][name]]
    found = [_setting(name, first[0][name], second[0][name]) for name in names]
    for name, unit in MEASURES.items():
        one, other = _by_seed(first, name), _by_seed(second, name)
        if one and other:
            found.append(_result(name, unit, one, other))
    return found


def _trials_of(trials: pa.Table, text: str, sweeps: Sequence[str]) -> list[dict]:
    """Rows of the trial of that id, or of the one configuration whose id begins with the text."""
    if (trial := trials.filter(pc.equal(trials["trial_id"], text))).num_rows:
        return _of_newest_sweep(trial.to_pylist())
    known = trials["config_id"].unique().to_pylist()
    found = [config_id for config_id in known if config_id.startswith(text)] if len(text) >= _MIN_ID else []
    if not found:
        raise ResultsError(
            f"{text[:50]!r} is neither a sweep nor the beginning of a config_id, nor a trial_id{did_you_mean(text, sweeps)}; "
            f"sweeps: {', '.join(sweeps) or 'none'}; config_ids: query leaderboard --format csv"
        )
    if len(found) > 1:
        raise ResultsError(
            f"{text[:20]!r} must be the beginning of one config_id, but {len(found)} begin so: {', '.join(found[:5])}"
        )
    return _of_newest_sweep(trials.filter(pc.equal(trials["config_id"], found[0])).to_pylist())


def _of_newest_sweep(rows: Sequence[dict]) -> list[dict]:
    """A configuration may be in several sweeps."""
    newest = max(rows, key=lambda row: row["finished_at"])["sweep"]
    return [row for row in rows if row["sweep"] == newest]


def _by_seed(trials: Sequence[dict], name: str) -> dict[int, float]:
    """The finite values of the trials that count."""
    completed = [row for row in trials if row["status"] == TrialStatus.COMPLETED]
    completed = [row for row in completed if row["stage"] == Stage.CONFIRM] or completed
    return {row["seed"]: row[name] for row in completed if row[name] is not None and math.isfinite(row[name])}


def _result(what: str, unit: str, a: Mapping[int, float], b: Mapping[int, float]) -> Difference:
    means = {"a_mean": fmean(a.values()), "a_n": len(a), "b_mean": fmean(b.values()), "b_n": len(b)}
    return Difference("result", what, unit=unit, **means, **asdict(compare(a, b)))


def _diff_sweeps(results: Results, a: str, b: str) -> list[Difference]:
    first, second = (
        {"metric.at": "best", **_flatten(plan.spec)} if (plan := read_plan(SweepPaths(results.root, name))) else {}
        for name in (a, b)
    )
    keys = [key for key in dict.fromkeys([*first, *second]) if key != "name"]
    settings = [_setting(key, first.get(key), second.get(key)) for key in keys if first.get(key) != second.get(key)]
    boards = [leaderboards(results, name) for name in (a, b)]
    return settings + _totals(*boards) + _shared_configurations(results, a, b, boards)


def _totals(a: Sequence[Board], b: Sequence[Board]) -> list[Difference]:
    """Differences between what two sweeps hold as a whole."""
    found = []
    metric = a[0].metric
    for what, unit, total in (
        ("configurations", "configurations", lambda boards: sum(len(board.rows) for board in boards)),
        ("configurations run to the end", "configurations", lambda boards: sum(len(board.ranked) for board in boards)),
        ("device_seconds", "s", lambda boards: sum(row.device_seconds or 0 for board in boards for row in board.rows)),
        (f"{metric.extreme} {metric.name}", metric.unit, _best),
    ):
        one, other = total(a), total(b)
        if one != other and None not in (one, other) and (total is not _best or b[0].metric == metric):
            found.append(Difference("result", what, unit=unit, a_mean=one, b_mean=other, difference=one - other))
    return found


def _best(boards: Sequence[Board]) -> float | None:
    means = [row.metric_mean for board in boards for row in board.ranked if row.metric_mean is not None]
    return boards[0].metric.best(means) if means else None


def _shared_configurations(results: Results, a: str, b: str, boards: Sequence[Sequence[Board]]) -> list[Difference]:
    """Configurations that both sweeps ran: equal numbers are expected, except for noise of another machine."""
    ranked = [{row.config_id for board in some for row in board.ranked} for some in boards]
    shared = sorted(ranked[0] & ranked[1])
    trials = [results.trials(name).to_pylist() if shared else [] for name in (a, b)]
    found = []
    for config_id in shared:
        one, other = (
            _by_seed([row for row in rows if row["config_id"] == config_id], "best_val_accuracy") for rows in trials
        )
        if one and other and one != other:
            found.append(_result(f"best_val_accuracy of {config_id}", "fraction", one, other))
    return found


def _setting(name: str, a: Any, b: Any) -> Difference:
    a, b = (v if v is None or isinstance(v, str) else json.dumps(v, ensure_ascii=False) for v in (a, b))
    return Difference("setting", name, a=a, b=b)


def _flatten(spec: Any, path: str = "") -> dict[str, Any]:
    """{"base": {"lr": 1}} -> {"base.lr": 1}; lists stay whole, except lists of mappings (a union of grids)."""
    if isinstance(spec, Mapping):
        parts = [_flatten(value, f"{path}.{key}" if path else str(key)) for key, value in spec.items()]
    elif isinstance(spec, list) and any(isinstance(item, Mapping) for item in spec):
        parts = [_flatten(item, f"{path}[{index}]") for index, item in enumerate(spec)]
    else:
        return {path: spec}
    return {key: value for part in parts for key, value in part.items()}
