"""Columns that depend on the sweep: `model.width` of the JSON in `own_values`, and `top5` of the JSON in `metrics`.

On disk each of the two is one text column, because the schema of a table does not depend on what a sweep names. Readers see a
column per key, with the type that all its values have.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from flexres_tune.records import parse_metrics
from flexres_tune.results.schema import config_columns
from flexres_tune.spec.metrics import is_metric_column, is_shown_in_percent
from flexres_tune.storage import parse_json

MAX_COLUMNS = 100  # of keys that rows of one table may add
_NAME = re.compile(r"(model|optimizer)\.[A-Za-z_][A-Za-z0-9_]{0,60}")


def is_own_column(name: str) -> bool:
    """Whether a name has the form of a column of an own value; such a name needs no escaping within quotes."""
    return _NAME.fullmatch(name) is not None


def with_own_values(trials: pa.Table) -> pa.Table:
    """Rows of `trials` with a column per own value after the others; a text that is no JSON object has no values."""
    if "own_values" not in trials.column_names or trials["own_values"].null_count == trials.num_rows:
        return trials
    rows = [_parse(text) for text in trials["own_values"].to_pylist()]
    names = list(dict.fromkeys(name for row in rows for name in row))[:MAX_COLUMNS]
    for name in names:
        if name in trials.column_names:
            trials = trials.drop_columns(name)
        trials = trials.append_column(name, own_column([row.get(name) for row in rows]))
    return trials


def with_metrics(rows: pa.Table) -> pa.Table:
    """Rows of `epochs` or `trials` with a column per further metric after the others."""
    if "metrics" not in rows.column_names or rows["metrics"].null_count == rows.num_rows:
        return rows
    values = [parse_metrics(text) for text in rows["metrics"].to_pylist()]
    names = list(dict.fromkeys(name for row in values for name in row if is_metric_column(name)))[:MAX_COLUMNS]
    for name in names:
        if name in rows.column_names:  # of another version
            rows = rows.drop_columns(name)
        unit = {"unit": "fraction"} if is_shown_in_percent(name) else None
        field = pa.field(name, pa.float64(), metadata=unit)
        rows = rows.append_column(field, pa.array([row.get(name) for row in values], pa.float64()))
    return rows


def with_metric(rows: pa.Table, name: str) -> pa.Table:
    """The rows with the column of a metric, which is null in all of them if none has it."""
    return rows if name in rows.column_names else rows.append_column(name, pa.nulls(rows.num_rows, pa.float64()))


def configuration_columns(trials: pa.Table) -> list[str]:
    """Columns of these rows that hold the configuration: those of the schema, and those of own values."""
    known = [name for name in config_columns() if name in trials.column_names and name != "own_values"]
    return known + [name for name in trials.column_names if is_own_column(name)]


def own_column(values: Sequence[Any]) -> pa.Array:
    """Whole numbers, numbers, booleans or text; text in JSON if the values are of several kinds, or lists."""
    kinds = {type(value) for value in values if value is not None}
    for types, kind in (({bool}, pa.bool_()), ({int}, pa.int64()), ({int, float}, pa.float64()), ({str}, pa.string())):
        if kinds <= types:
            try:
                return pa.array(values, kind, from_pandas=False)
            except (pa.ArrowException, OverflowError):
                break
    return pa.array([None if value is None else json.dumps(value) for value in values], pa.string())


def _parse(text: str | None) -> dict[str, Any]:
    try:
        found = parse_json(text) if text else {}
    except ValueError:
        return {}
    return {key: value for key, value in found.items() if is_own_column(key)} if isinstance(found, dict) else {}
