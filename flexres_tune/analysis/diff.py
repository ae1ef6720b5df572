"""Difference between two configurations, or two sweeps: what was set otherwise, and what came out otherwise."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.leaderboard import leaderboard
from flexres_tune.analysis.statistics import compare
from flexres_tune.errors import ResultsError
from flexres_tune.records import TrialStatus
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import read_plan
from flexres_tune.results.reader import Results
from flexres_tune.results.schema import config_columns
from flexres_tune.text import did_you_mean

_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("kind", "what", "a", "b")]
    + [(name, pa.float64()) for name in ("difference", "low", "high", "p_value")]
    + [("test", pa.string())]
)
_MEASURES = ("best_val_accuracy", "last_val_accuracy", "test_accuracy", "train_seconds")
_MIN_ID = 4  # characters of a config_id that are taken for one


def diff(results: Results, a: str, b: str, sweep: str | None = None) -> pa.Table:
    """What differs between a and b: two sweeps' names, or two config_ids or beginnings of them.

    A row each thing that differs: kind (`setting` | `result`), what, a, b (as text), and for results the difference
    a - b with its 95 % interval, p value and test, paired on shared seeds. Results are over trials that ran to
    their end; of a confirmed configuration over its confirm trials.

    Raises:
        ResultsError: a or b is neither a sweep nor a configuration, or one is a sweep and the other is not.
    """
    sweeps = results.sweeps()
    if a in sweeps and b in sweeps:
        return pa.Table.from_pylist(_diff_sweeps(results, a, b), _SCHEMA)
    if a in sweeps or b in sweeps:
        one, other = (a, b) if a in sweeps else (b, a)
        raise ResultsError(
            f"diff needs two sweeps or two configurations, but {one} is a sweep and {other[:50]!r} is none"
        )
    trials = results.trials(sweep if sweep is None else results.choose(sweep)[0])
    first, second = (_trials_of(trials, text, sweeps) for text in (a, b))
    return pa.Table.from_pylist(_diff_configs(first, second), _SCHEMA)


def _trials_of(trials: pa.Table, text: str, sweeps: Sequence[str]) -> list[dict]:
    """Rows of the one configuration whose id begins with the text."""
    known = trials["config_id"].unique().to_pylist()
    found = [config_id for config_id in known if config_id.startswith(text)] if len(text) >= _MIN_ID else []
    if not found:
        raise ResultsError(_unknown(text, sweeps))
    if len(found) > 1:
        raise ResultsError(f"{text[:20]!r} must begin one config_id, but begins {len(found)}: {', '.join(found[:5])}")
    rows = trials.filter(pc.equal(trials["config_id"], found[0])).to_pylist()
    newest = max(rows, key=lambda row: row["finished_at"])["sweep"]  # the same configuration may stand in two sweeps
    return [row for row in rows if row["sweep"] == newest]


def _unknown(text: str, sweeps: Sequence[str]) -> str:
    return (
        f"{text[:50]!r} is neither a sweep nor the beginning of a config_id{did_you_mean(text, sweeps)}; "
        f"sweeps: {', '.join(sweeps) or 'none'}; config_ids: query leaderboard --format csv"
    )


def _diff_configs(a: Sequence[dict], b: Sequence[dict]) -> list[dict]:
    names = [name for name in (*config_columns(), "num_parameters") if a[0][name] != b[0][name]]
    rows = [_setting(name, a[0][name], b[0][name]) for name in names]
    for name in _MEASURES:
        ours, theirs = _by_seed(a, name), _by_seed(b, name)
        if ours and theirs:
            rows.append(_result(name, ours, theirs))
    return rows


def _by_seed(rows: Sequence[dict], name: str) -> dict[int, float]:
    whole = [row for row in rows if row["status"] == TrialStatus.COMPLETED]
    whole = [row for row in whole if row["stage"] == "confirm"] or whole
    return {row["seed"]: row[name] for row in whole if row[name] is not None and math.isfinite(row[name])}


def _result(name: str, a: Mapping[int, float], b: Mapping[int, float]) -> dict:
    found = compare(a, b)
    means = (sum(values.values()) / len(values) for values in (a, b))
    texts = [f"{mean:.6g} (n = {len(values)})" for mean, values in zip(means, (a, b), strict=True)]
    return {
        "kind": "result",
        "what": name,
        "a": texts[0],
        "b": texts[1],
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p_value": found.p_value,
        "test": found.test,
    }


def _diff_sweeps(results: Results, a: str, b: str) -> list[dict]:
    specs = [_flat(plan.spec) if (plan := read_plan(SweepPaths(results.root, name))) else {} for name in (a, b)]
    keys = dict.fromkeys([*specs[0], *specs[1]])
    rows = [
        _setting(key, specs[0].get(key), specs[1].get(key))
        for key in keys
        if key != "name" and specs[0].get(key) != specs[1].get(key)
    ]
    boards = [leaderboard(results, name).to_pylist() for name in (a, b)]
    for name, values in {
        "configurations": [len(board) for board in boards],
        "configurations run to the end": [sum(row["rank"] is not None for row in board) for board in boards],
        "device_seconds": [sum(row["device_seconds"] or 0 for row in board) for board in boards],
        "highest val_accuracy": [_highest(board) for board in boards],
    }.items():
        if values[0] != values[1] and None not in values:
            texts = [f"{value:.6g}" for value in values]
            rows.append(
                {"kind": "result", "what": name, "a": texts[0], "b": texts[1], "difference": values[0] - values[1]}
            )
    return rows + _shared(results, a, b, boards)


def _highest(board: Sequence[dict]) -> float | None:
    means = [row["best_val_accuracy_mean"] for row in board if row["rank"] is not None]
    return max((mean for mean in means if mean is not None), default=None)


def _shared(results: Results, a: str, b: str, boards: Sequence[Sequence[dict]]) -> list[dict]:
    """Configurations that stand in both sweeps: the same numbers are expected, but for another machine's noise."""
    ids = [{row["config_id"] for row in board if row["rank"] is not None} for board in boards]
    rows = []
    both = sorted(ids[0] & ids[1])
    trials = [results.trials(name).to_pylist() if both else [] for name in (a, b)]
    for config_id in both:
        values = [_by_seed([row for row in of if row["config_id"] == config_id], "best_val_accuracy") for of in trials]
        if all(values) and values[0] != values[1]:
            rows.append(_result(f"best_val_accuracy of {config_id}", *values))
    return rows


def _setting(name: str, a: Any, b: Any) -> dict:
    return {"kind": "setting", "what": name, "a": _text(a), "b": _text(b)}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _flat(spec: Any, path: str = "") -> dict[str, Any]:
    """{"base": {"lr": 1}} -> {"base.lr": 1}; lists stay whole, but for a union of grids."""
    if isinstance(spec, Mapping):
        parts = [_flat(value, f"{path}.{key}" if path else str(key)) for key, value in spec.items()]
    elif isinstance(spec, list) and any(isinstance(item, Mapping) for item in spec):
        parts = [_flat(item, f"{path}[{index}]") for index, item in enumerate(spec)]
    else:
        return {path: spec}
    return {key: value for part in parts for key, value in part.items()}
