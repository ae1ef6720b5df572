import dataclasses

import pyarrow as pa
import pytest

from flexres_tune.records import Decision, EpochRecord, TrialRecord
from flexres_tune.results.paths import TABLES
from flexres_tune.results.schema import (
    IDENTITY,
    KEYS,
    columns_markdown,
    config_columns,
    table_schema,
    unit_of,
    with_units,
)


@pytest.mark.parametrize("name", TABLES)
def test_every_column_has_a_meaning_and_a_name_of_its_own(name):
    schema = table_schema(name)
    assert len(set(schema.names)) == len(schema.names)
    assert all(field.metadata[b"meaning"] for field in schema)
    assert set(KEYS[name]) <= set(schema.names)


def test_trials_are_identity_then_configuration_then_the_rest(make_config):
    names = table_schema("trials").names
    config = make_config().columns()
    assert tuple(names[: len(IDENTITY)]) == IDENTITY
    assert set(config_columns()) == set(config)
    assert names[len(IDENTITY) : len(IDENTITY) + len(config)] == list(config_columns())
    assert set(names) == set(config) | {field.name for field in dataclasses.fields(TrialRecord)}


@pytest.mark.parametrize(("name", "record"), [("epochs", EpochRecord), ("decisions", Decision)])
def test_records_become_tables_field_by_field(name, record):
    assert set(table_schema(name).names) == {field.name for field in dataclasses.fields(record)}


def test_units_and_types_are_in_the_schema():
    trials = table_schema("trials")
    assert trials.field("peak_memory_bytes").metadata[b"unit"] == b"bytes"
    assert trials.field("started_at").type == pa.timestamp("us", tz="UTC")
    assert trials.field("kernel_size").type == pa.list_(pa.list_(pa.int32()))
    assert trials.field("augmentation").type == pa.list_(pa.string())
    assert trials.field("momentum").type == pa.float64()
    assert trials.field("seed").type == pa.int64()


def test_unit_is_the_fields_own_or_that_of_the_tables_column_of_its_name():
    assert unit_of(table_schema("epochs").field("val_loss")) == "nats"
    assert unit_of(pa.field("train_seconds", pa.float64())) == "s"
    assert unit_of(pa.field("train_seconds", pa.float64(), metadata={"unit": "h"})) == "h"
    assert unit_of(pa.field("cutoff_in_words", pa.string())) == "" == unit_of(table_schema("trials").field("lr"))


def test_computed_columns_can_be_given_units():
    table = with_units(pa.table({"lowest": [0.5], "n": [1]}), {"lowest": "fraction"})
    assert [unit_of(field) for field in table.schema] == ["fraction", ""]
    assert table.to_pylist() == [{"lowest": 0.5, "n": 1}]


@pytest.mark.parametrize("name", TABLES)
def test_markdown_lists_every_column_with_type_unit_and_meaning(name):
    section = columns_markdown().split(f"### {name}\n")[1].split("###")[0]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == table_schema(name).names
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows)
