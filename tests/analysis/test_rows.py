"""Tables made from typed rows: columns, types, units and nulls."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flexres_tune.analysis.rows import concatenate, to_table
from flexres_tune.records import column
from flexres_tune.results.schema import unit_of


@dataclass(frozen=True)
class Row:
    name: str = column("name")
    parameters: Mapping[str, Any]
    share: float | None = column("share", "fraction")
    epochs: int = column("epochs", "epochs")
    notes: tuple[str, ...] = ()  # no column()


def test_columns_are_the_declared_fields_with_the_parameters_in_their_place():
    table = to_table(Row, [Row("a", {"lr": 0.1, "blocks": [1, 2]}, 0.3, 5)], ["lr", "blocks"])
    assert table.to_pylist() == [{"name": "a", "lr": 0.1, "blocks": [1, 2], "share": 0.3, "epochs": 5}]
    assert [unit_of(field) for field in table.schema] == ["", "", "", "fraction", "epochs"]


def test_parameter_takes_the_place_of_a_field_of_the_same_name():
    table = to_table(Row, [Row("a", {"epochs": 7}, None, 5)], ["epochs"])
    assert table.to_pylist() == [{"name": "a", "epochs": 7, "share": None}]


def test_row_without_a_parameter_has_null_in_its_column():
    assert to_table(Row, [Row("a", {}, None, 5)], ["lr"]).column("lr").to_pylist() == [None]


def test_number_that_is_not_finite_is_null():
    rows = [Row("a", {}, value, 5) for value in (math.nan, math.inf, -math.inf, 0.5)]
    assert to_table(Row, rows).column("share").to_pylist() == [None, None, None, 0.5]


def test_no_rows_make_an_empty_table_of_the_same_columns():
    assert to_table(Row, [], ["lr"]).column_names == ["name", "lr", "share", "epochs"]


def test_text_is_kept_as_it_is():
    text = 'größe "x"\n\\ \x1b[2J'
    assert to_table(Row, [Row(text, {}, 0.1, 5)]).column("name").to_pylist() == [text]


def test_tables_of_other_parameters_are_concatenated_with_nulls():
    tables = [to_table(Row, [Row("a", {name: value}, 0.1, 5)], [name]) for name, value in (("lr", 0.1), ("seed", 3))]
    table = concatenate(tables)
    assert (table["lr"].to_pylist(), table["seed"].to_pylist()) == ([0.1, None], [None, 3])
    assert table.schema.field("lr").type == pa.float64()
