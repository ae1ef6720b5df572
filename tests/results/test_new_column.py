"""Contract of the result columns: one field of a record is all that a new column needs."""

import dataclasses

import pytest
from helpers.factories import make_config, make_epoch, make_trial

from flexres_tune.records import EpochRecord, TrialRecord, column
from flexres_tune.results import open_results, schema
from flexres_tune.results.writer import SweepWriter


@pytest.fixture
def new_column(monkeypatch):
    """new_column(record): the record with one more field, in the schema as if records.py had it."""

    def add(record):
        field = ("energy_joules", float, column("energy that the device used", "J", default=0.0))
        wider = dataclasses.make_dataclass(record.__name__, [field], bases=(record,), frozen=True, kw_only=True)
        monkeypatch.setattr(schema, record.__name__, wider)
        clear()
        return wider

    def clear():
        for cached in (schema.table_schema, schema.column_units):
            cached.cache_clear()

    yield add
    monkeypatch.undo()
    clear()


def widen(record, wider):
    return wider(**{field.name: getattr(record, field.name) for field in dataclasses.fields(record)}, energy_joules=5.0)


def test_new_column_of_epochs_is_written_read_queried_and_documented(paths, new_column):
    wider = new_column(EpochRecord)
    with SweepWriter(paths) as writer:
        writer.add_epoch(widen(make_epoch(), wider))
    results = open_results(paths.root)
    assert results.epochs("demo")["energy_joules"].to_pylist() == [5.0]
    (field,) = results.sql("SELECT energy_joules FROM epochs").schema
    assert schema.unit_of(field) == "J"
    assert "| `energy_joules` | double | J | energy that the device used |" in schema.columns_markdown()


def test_new_column_of_trials_is_null_in_rows_of_earlier_versions(paths, new_column):
    old, new = make_config(), make_config(seed=1)
    with SweepWriter(paths) as writer:
        writer.add_trial(make_trial(old), old)
    wider = new_column(TrialRecord)
    with SweepWriter(paths) as writer:
        writer.add_trial(widen(make_trial(new), wider), new)
    assert open_results(paths.root).trials("demo")["energy_joules"].to_pylist() == [None, 5.0]
