"""Arrow schemas of the tables, derived from records.py and TrialConfig: names, types, units and meanings."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from datetime import datetime
from functools import cache

import pyarrow as pa

from flexres_tune.records import Decision, EpochRecord, LabelRecord, PredictionRecord, TrialRecord
from flexres_tune.spec import Architecture, TrialConfig
from flexres_tune.spec.metrics import METRIC_TRAITS
from flexres_tune.spec.trial import TRIAL_FIELDS

# The first columns of `trials`; the configuration's follow, then the rest of TrialRecord.
IDENTITY = ("sweep", "trial_id", "config_id", "seed", "stage", "profile", "status", "error", "attempt")
# Primary keys within one sweep: of rows with equal keys, the one written last counts.
KEYS = {
    "trials": ("trial_id", "stage"),
    "epochs": ("trial_id", "epoch"),
    "decisions": ("trial_id", "epoch", "ladder", "action"),  # a trial that was paused at a rung may be promoted later
    "predictions": ("trial_id", "split"),
    "labels": ("dataset", "split", "subset"),
}
# Columns that every part has, without nulls: a row without one of them says nothing, or would be read as another.
REQUIRED = {
    "trials": ("trial_id", "config_id", "seed", "stage", "status"),
    "epochs": ("trial_id", "epoch"),
    "decisions": ("trial_id", "epoch", "action"),
    "predictions": ("trial_id", "dataset", "split", "subset", "predicted"),
    "labels": ("dataset", "split", "subset", "image", "label"),
}
_ROWS = {"epochs": EpochRecord, "decisions": Decision, "predictions": PredictionRecord, "labels": LabelRecord}


@cache
def table_schema(name: str) -> pa.Schema:
    """Schema of one of the tables as this version writes it; older parts may have fewer columns."""
    if name == "trials":
        record = {field.name: field for field in record_fields(TrialRecord)}
        rest = [field for key, field in record.items() if key not in IDENTITY]
        return pa.schema([*(record[key] for key in IDENTITY), *_config_fields(), *rest])
    fields = {field.name: field for field in record_fields(_ROWS[name])}
    first = [key for key in ("sweep", "trial_id") if key in fields]
    return pa.schema([*(fields[key] for key in first), *(f for key, f in fields.items() if key not in first)])


@cache
def row_type(name: str) -> pa.StructType:
    """Type of one row of a table: converting rows to it is ten times as fast as Table.from_pylist() for few rows."""
    return pa.struct(list(table_schema(name)))


@cache
def config_columns() -> tuple[str, ...]:
    """Columns of `trials` that hold the configuration: `model`, the architecture's, then the trial's own."""
    return tuple(field.name for field in _config_fields())


def architecture_columns() -> tuple[str, ...]:
    """Those of config_columns() that hold the architecture which `model` names."""
    return tuple(Architecture.model_fields)


def column_of_key(key: str, names: Collection[str]) -> str:
    """The column of a sweep file's key: `model.block` is `block`. Other keys are columns of their own name."""
    prefix, _, rest = key.partition(".")
    is_renamed = key not in names and prefix == "model" and rest in architecture_columns()
    return rest if is_renamed else key


@cache
def _column_units() -> dict[str, str]:
    """Unit of every column of the tables, by name, and of the further metrics that the tool has."""
    schemas = map(table_schema, KEYS)
    further = {name: "fraction" for name, traits in METRIC_TRAITS.items() if traits.is_fraction}
    return further | {
        field.name: (field.metadata or {}).get(b"unit", b"").decode() for schema in schemas for field in schema
    }


def unit_of(field: pa.Field) -> str:
    """Unit of a column, such as "s", "fraction" or "bytes"; "" if it has none.

    It is the `unit` in the field's metadata. SQL drops metadata, so a field without it has the unit of the tables' column
    of the same name.
    """
    given = (field.metadata or {}).get(b"unit")
    return _column_units().get(field.name, "") if given is None else given.decode()


def with_units(table: pa.Table, units: Mapping[str, str]) -> pa.Table:
    """The table with units, by column name, in its fields' metadata: for columns that a query has computed."""
    fields = (
        field.with_metadata((field.metadata or {}) | {b"unit": units[field.name].encode()})
        if field.name in units
        else field
        for field in table.schema
    )
    return table.cast(pa.schema(fields, table.schema.metadata))


def columns_markdown() -> str:
    """The columns of every table in Markdown: name, type, unit and meaning. docs/results.md contains this text."""
    lines = []
    for name in KEYS:
        lines += [f"### {name}", "", "| column | type | unit | meaning |", "|---|---|---|---|"]
        for field in table_schema(name):
            kind = str(field.type).replace("item: ", "").replace("element: ", "")
            meaning = field.metadata[b"meaning"].decode().replace("|", "\\|")
            lines.append(f"| `{field.name}` | {kind} | {unit_of(field)} | {meaning} |")
        lines.append("")
    return "\n".join(lines)


def record_fields(record: type) -> list[pa.Field]:
    """Arrow fields of the dataclass's fields that were declared with column(), with meaning and unit as metadata."""
    hints = typing.get_type_hints(record, include_extras=True)
    columns = [field for field in dataclasses.fields(record) if field.metadata]
    return [_field(field.name, _arrow_type(hints[field.name]), **field.metadata) for field in columns]


def _config_fields() -> list[pa.Field]:
    def described(name: str, info) -> pa.Field:
        return _field(name, _arrow_type(info.annotation, integer=pa.int32()), meaning=info.description or "")

    own = {name: TrialConfig.model_fields[name] for name in TRIAL_FIELDS if name not in ("model", "seed")}
    model = _field(
        "model",
        pa.string(),
        meaning="name of the preset, the architecture in short if it is no preset, or the own model",
    )
    architecture = [described(name, info) for name, info in Architecture.model_fields.items()]
    of_code = [
        _field("own_values", pa.string(), "values of own models and optimizers, JSON by the sweep file's key, or null"),
        _field("code", pa.string(), "digest of the source of each value that names the user's own code, JSON, or null"),
    ]
    return [model, *architecture, *(described(name, info) for name, info in own.items()), *of_code]


def _field(name: str, kind: pa.DataType, meaning: str = "", unit: str = "") -> pa.Field:
    return pa.field(name, kind, metadata={"meaning": meaning} | ({"unit": unit} if unit else {}))


def _arrow_type(hint: typing.Any, integer: pa.DataType | None = None) -> pa.DataType:
    """Arrow type of a Python annotation; every column may be null, so `| None` changes nothing."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return pa.type_for_alias(args[1]) if isinstance(args[1], str) else _arrow_type(args[0], integer)
    if origin in (typing.Union, types.UnionType):
        return _arrow_type(next(arg for arg in args if arg is not type(None)), integer)
    if origin is typing.Literal:
        return pa.string()
    if origin is tuple:
        return pa.list_(_arrow_type(args[0], integer))
    if dataclasses.is_dataclass(hint):
        hints = typing.get_type_hints(hint)
        return pa.struct([(field.name, _arrow_type(hints[field.name])) for field in dataclasses.fields(hint)])
    simple = {
        bool: pa.bool_(),
        int: integer or pa.int64(),
        float: pa.float64(),
        str: pa.string(),
        datetime: pa.timestamp("us", tz="UTC"),
    }
    return simple[hint]


if __name__ == "__main__":
    print(columns_markdown(), end="")
