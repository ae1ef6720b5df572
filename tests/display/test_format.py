import math

import pyarrow as pa
import pytest

from flexres_tune.display.format import display_columns, format_value, significant_decimals, sparkline
from flexres_tune.text import escape, format_duration, shorten


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("val_accuracy", 0.9731, "97.31 %"),
        ("val_accuracy", None, "–"),
        ("val_loss", math.nan, "nan"),
        ("num_parameters", 4_922_826, "4,922,826"),
        ("peak_memory_bytes", 3 * 2**29, "1.5 GiB"),
        ("peak_memory_bytes", 2**50, "1024.0 TiB"),
        ("lr", 0.0003, "0.0003"),
        ("seed", 12345678, "12345678"),
        ("compile_used", True, "yes"),
        ("augmentation", ["crop", "flip"], "crop, flip"),
        ("kernel_size", [[3, 5]], "[[3, 5]]"),
        ("head", [], "[]"),
        ("versions", {"torch": "2.11"}, '{"torch": "2.11"}'),
        ("augmentation", ["\x1b"], "\\x1b"),
    ],
)
def test_values_are_written_for_a_person(name, value, text):
    assert format_value(name, value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min 00 s"),
        (303, "5 min 03 s"),
        (3599.9, "1 h 00 min"),
        (3720, "1 h 02 min"),
        (4e6, "1,111 h 07 min"),
    ],
)
def test_durations(seconds, text):
    assert format_duration(seconds) == text


def test_mean_and_deviation_share_a_column():
    table = pa.table({"x_accuracy_mean": [0.5, 0.25], "x_accuracy_sd": [0.01, None], "other_mean": [1.0, 2.0]})
    columns = display_columns(table)
    assert [(column.name, column.cells) for column in columns] == [
        ("x_accuracy", ["50.0 ± 1.0 %", "25.0 %"]),
        ("other", ["1", "2"]),
    ]


def test_accuracy_that_is_already_percent_is_left_alone():
    [column] = display_columns(pa.table({"accuracy_percent": [97.31, 0.5]}))
    assert column.cells == ["97.31", "0.5"]


def test_control_characters_are_spelled_out_and_letters_kept():
    assert escape("größe 实验 a\x1b[2J\u202e\n\ud800\x85\u2028") == r"größe 实验 a\x1b[2J\u202e\n\ud800\x85\u2028"
    assert escape("a\nb", keep="\n") == "a\nb"


@pytest.mark.parametrize("width", range(1, 12))
def test_shortened_text_keeps_both_ends(width):
    short = shorten("abcdefghij", width)
    assert len(short) == min(width, 10)
    if 3 <= width < 10:
        assert short[0] == "a" and short[-1] == "j" and "…" in short


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
    table = pa.table({"val_accuracy_mean": [0.97312, 0.71, None], "val_accuracy_sd": [0.0041, 0.37, None]})
    assert display_columns(table)[0].cells == ["97.3 ± 0.4 %", "71 ± 37 %", "–"]
