import math
from datetime import datetime

import pyarrow as pa
import pytest

from flexres_tune.display.format import display_columns, format_value, python_values, significant_decimals, sparkline
from flexres_tune.results.schema import with_units


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.9731, "fraction", "97.31 %"),
        (0.9731, "", "0.9731"),
        (None, "fraction", "–"),
        (math.nan, "nats", "nan"),
        (math.nan, "fraction", "nan"),
        (3720.0, "s", "1 h 02 min"),
        (4_922_826, "parameters", "4,922,826"),
        (1234.5, "images/s", "1,234"),
        (3 * 2**29, "bytes", "1.5 GiB"),
        (2**50, "bytes", "1024.0 TiB"),
        (0.0003, "", "0.0003"),
        (12345678, "", "12345678"),
        (True, "", "yes"),
        (["crop", "flip"], "", "crop, flip"),
        ([[3, 5]], "", "[[3, 5]]"),
        ([], "", "[]"),
        ({"torch": "2.11"}, "", '{"torch": "2.11"}'),
        (["\x1b"], "", "\\x1b"),
    ],
)
def test_value_is_written_by_its_unit(value, unit, text):
    assert format_value(value, unit) == text


def fractions(**columns):
    return with_units(pa.table(columns), dict.fromkeys(columns, "fraction"))


def test_mean_and_deviation_share_a_column():
    table = fractions(x_mean=[0.5, 0.25], x_sd=[0.01, None])
    table = table.append_column("other_mean", pa.array([1.0, 2.0]))
    assert [(column.name, column.cells) for column in display_columns(table)] == [
        ("x", ["50.0 ± 1.0 %", "25.0 %"]),
        ("other", ["1", "2"]),
    ]


def test_unit_comes_from_the_schema_and_not_from_the_name():
    columns = display_columns(pa.table({"accuracy_percent": [97.31], "my_accuracy": [0.5], "val_accuracy": [0.5]}))
    assert [column.cells for column in columns] == [["97.31"], ["0.5"], ["50.00 %"]]  # the last is a column of epochs


def test_sparkline_spans_the_scale():
    assert sparkline([0.0, 0.5, 1.0, math.nan], 0, 1) == "▁▅█ "
    assert sparkline([0.5], 0.5, 0.5) == "▁"
    assert len(sparkline([i / 999 for i in range(1000)], 0, 1, width=30)) == 30
    assert sparkline([i / 999 for i in range(1000)], 0, 1, width=30)[-1] == "█"


@pytest.mark.parametrize(
    ("sd", "digits"),
    [(0.004, 1), (0.0014, 2), (0.012, 1), (0.03, 0), (0.3, 0), (0.0002, 2), (1e-9, 3), (None, 1), (0.0, 1)],
)
def test_percent_has_no_more_digits_than_its_deviation_deserves(sd, digits):
    assert significant_decimals(sd) == digits


def test_each_mean_has_the_digits_its_own_deviation_deserves():
    table = fractions(val_accuracy_mean=[0.97312, 0.71, None], val_accuracy_sd=[0.0041, 0.37, None])
    assert display_columns(table)[0].cells == ["97.3 ± 0.4 %", "71 ± 37 %", "–"]


def test_moments_that_python_cannot_hold_are_text():
    moments = pa.chunked_array([pa.array([0, 2**62, None], pa.timestamp("us"))])
    assert python_values(moments) == [datetime(1970, 1, 1), "<value out of range: 4611686018427387904>", None]
    nested = pa.chunked_array([pa.array([[2**62]], pa.list_(pa.timestamp("us")))])
    assert python_values(nested) == ["<value out of range>"]
    assert display_columns(pa.table({"at": moments}))[0].cells[1] == "<value out of range: 4611686018427387904>"


def test_sparkline_of_the_largest_numbers():
    assert sparkline([-1e308, 0.0, 1e308, 1.7e308], -1e308, 1e308) == "▁▅██"
