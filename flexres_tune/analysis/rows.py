"""Answers as typed rows, and the Arrow tables that are printed and exported, made from them.

A row is a frozen dataclass. Its fields declared with records.column() are the table's columns, in their order and with
their units. If it has a field `parameters`, each of the parameters becomes a column in that place.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from flexres_tune.analysis.metric import RankingMetric
from flexres_tune.results.own_values import is_own_column, own_column
from flexres_tune.results.schema import record_fields, table_schema, unit_of


def to_table(
    row_type: type, rows: Sequence[Any], parameters: Sequence[str] = (), metric: RankingMetric | None = None
) -> pa.Table:
    """One row per item, each a `row_type`; a parameter takes the place of a field of the same name.

    Null stands for a parameter that a row does not have, and for a number that is not finite. Columns of the unit
    `metric` are named for the metric, and have its unit: metric_mean becomes best_val_accuracy_mean. A field that has such
    a name already is the same number, and is left out.
    """
    own = {n: own_column([row.parameters.get(n) for row in rows]).type for n in parameters if is_own_column(n)}
    schema = _row_schema(row_type, parameters, own)
    if metric is not None:
        taken = {_of_metric(field, metric).name for field in schema if unit_of(field) == "metric"}
        schema = pa.schema([field for field in schema if unit_of(field) == "metric" or field.name not in taken])
    named = schema if metric is None else pa.schema([_of_metric(field, metric) for field in schema])
    if not rows:
        return named.empty_table()
    lines = []
    for row in rows:
        values = {n: row.parameters.get(n) if n in parameters else getattr(row, n) for n in schema.names}
        not_finite = {n: None for n, v in values.items() if isinstance(v, float) and not math.isfinite(v)}
        lines.append(json.dumps(values | not_finite))
    table = _read_lines(lines, schema)
    return table.select(schema.names).rename_columns(named.names).cast(named).combine_chunks()


def text_column(texts: Sequence[str | None]) -> pa.ChunkedArray:
    """As pa.array(), which imports pandas."""
    schema = pa.schema({"text": pa.string()})
    return _read_lines([json.dumps({"text": text}) for text in texts], schema)["text"]


def _read_lines(lines: Sequence[str], schema: pa.Schema) -> pa.Table:
    """Rows in JSON as a table: pa.array() imports pandas, which takes longer than a leaderboard of 10,000 configurations."""
    from pyarrow import json as arrow_json

    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    return arrow_json.read_json(io.BytesIO("\n".join(lines).encode()), parse_options=options)


def _of_metric(field: pa.Field, metric: RankingMetric) -> pa.Field:
    unit = unit_of(field)
    if unit == "metric":
        _, _, end = field.name.partition("_")  # metric_mean, or extreme: the mean of the best configuration
        field = field.with_name(f"{metric.column}_{end}" if end else f"{metric.extreme}_{metric.name}")
    return field.with_metadata((field.metadata or {}) | {b"unit": unit.replace("metric", metric.unit).encode()})


def concatenate(tables: Sequence[pa.Table]) -> pa.Table:
    """One table of several; a row has null in the columns of parameters that its own table does not have."""
    return pa.concat_tables(tables, promote_options="permissive")


def _row_schema(row_type: type, parameters: Sequence[str], own: Mapping[str, pa.DataType]) -> pa.Schema:
    columns = {field.name: field for field in record_fields(row_type)}
    trials = table_schema("trials")
    fields: list[pa.Field] = []
    for name in (field.name for field in dataclasses.fields(row_type)):
        if name == "parameters":
            fields += [pa.field(name, own[name]) if name in own else trials.field(name) for name in parameters]
        elif name in columns and name not in parameters:
            fields.append(columns[name])
    return pa.schema(fields)
