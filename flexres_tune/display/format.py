"""Values as people read them, by their unit: 0.9731 -> "97.31 %", 3720 s -> "1 h 02 min", 4922826 -> "4,922,826"."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from flexres_tune.results.schema import unit_of
from flexres_tune.text import escape, format_bytes, format_duration

NOTHING = "–"  # null


def format_percent(fraction: float, decimals: int = 2) -> str:
    """0.9731 -> "97.31 %"."""
    return f"{100 * fraction:.{decimals}f} %"


def format_thousands(count: float) -> str:
    """4922826 -> "4,922,826"."""
    return f"{count:,.0f}"


FORMAT_OF_UNIT: Mapping[str, Callable[[float], str]] = {
    "fraction": format_percent,
    "s": format_duration,
    "bytes": format_bytes,
    "parameters": format_thousands,
    "images/s": format_thousands,
}
"""How a number is printed, by the unit in its column's metadata. Numbers of other units are printed as they are."""


@dataclass(frozen=True)
class Column:
    """A column ready to print."""

    name: str
    cells: list[str]
    is_number: bool  # aligned to the right
    is_whole: bool  # useless if shortened: numbers, moments, ids to copy, curves
    has_sd: bool = False  # whether cells have the standard deviation after ±

    @property
    def heading(self) -> str:
        """The name, with what the number after ± is."""
        return f"{self.name} ±sd" if self.has_sd else self.name

    width: int | None = None  # of a column of sentences, which are broken into lines; None: as wide as its cells


def display_columns(table: pa.Table) -> list[Column]:
    """The table's columns as text; `x_mean` and `x_sd` become one column `x`, headed "x ±sd": "97.31 ± 0.12 %"."""
    columns = []
    for field in table.schema:
        name, kind, unit = field.name, field.type, unit_of(field)
        base, has_sd = name.removesuffix("_mean"), False
        if name.endswith("_sd") and f"{name[:-3]}_mean" in table.column_names:
            continue
        values = python_values(table[name])
        is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)
        if base != name:
            sds = [None] * len(values)
            if f"{base}_sd" in table.column_names:
                sds = python_values(table[f"{base}_sd"])
            has_sd = any(sd is not None for sd in sds)
            cells = [format_mean(mean, sd, unit) for mean, sd in zip(values, sds, strict=True)]
        else:
            cells = [format_value(value, unit) for value in values]
        is_whole = is_number or pa.types.is_timestamp(kind) or name.endswith(("_id", "_per_epoch"))
        columns.append(Column(escape(base), cells, is_number, is_whole, has_sd))
    return columns


def python_values(column: pa.ChunkedArray) -> list[Any]:
    """The column's values; moments that Python cannot hold, such as those after the year 9999, as text."""
    try:
        return column.to_pylist()
    except (OverflowError, ValueError):
        return list(map(_python_value, column))


def _python_value(scalar: pa.Scalar) -> Any:
    try:
        return scalar.as_py()
    except (OverflowError, ValueError):
        is_nested = pa.types.is_nested(scalar.type)
        return "<value out of range>" if is_nested else scalar.cast(pa.string()).as_py()


def format_value(value: Any, unit: str = "") -> str:
    """One value by its type and unit; control characters are spelled out."""
    if value is None:
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        moment = value.astimezone(UTC) if value.tzinfo else value
        return f"{moment:%Y-%m-%d %H:%M:%S}"
    if isinstance(value, int | float):
        return _format_number(value, unit)
    if isinstance(value, list) and value and all(isinstance(item, str) for item in value):
        return escape(", ".join(value))
    if isinstance(value, list | dict):
        return escape(json.dumps(value, ensure_ascii=False, default=str))
    return escape(str(value))


def _format_number(value: int | float, unit: str) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if unit in FORMAT_OF_UNIT:
        return FORMAT_OF_UNIT[unit](value)
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def format_mean(mean: float | None, sd: float | None, unit: str = "") -> str:
    """A mean and its standard deviation; of fractions with as many decimals as the deviation leaves certain."""
    if mean is None or not math.isfinite(mean):
        return format_value(mean, unit)
    if unit == "fraction":
        decimals = significant_decimals(sd)
        spread = "" if sd is None else f" ± {100 * sd:.{decimals}f}"
        return f"{100 * mean:.{decimals}f}{spread} %"
    return format_value(mean, unit) if sd is None else f"{mean:.4g} ± {sd:.2g}"


def significant_decimals(sd: float | None) -> int:
    """Decimals of a percentage whose standard deviation is the fraction `sd`: up to the first uncertain one.

    One more if that figure is a 1: 0.14 -> 2, 0.4 -> 1, 3 -> 0. One decimal if the spread is not known: that there are
    only 5,000 validation images makes an accuracy of 90 % uncertain by 0.4.
    """
    if not sd or not math.isfinite(sd):
        return 1
    percent = 100 * sd
    magnitude = math.floor(math.log10(percent) + 1e-9)
    digits = -magnitude + (1 if percent / 10**magnitude < 1.95 else 0)
    return min(max(digits, 0), 3)


def format_p_value(p: float) -> str:
    """0.0004 -> "p < 0.001", 0.0042 -> "p = 0.004", 0.4 -> "p = 0.40"."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}" if p < 0.01 else f"p = {p:.2f}"


def sparkline(values: Sequence[float | None], low: float, high: float, width: int = 40) -> str:
    """Values between low and high as blocks of eight heights; of more than `width` values, evenly spaced ones."""
    blocks = "▁▂▃▄▅▆▇█"
    if len(values) > width:
        values = [values[round(i * (len(values) - 1) / (width - 1))] for i in range(width)]
    half = (high / 2 - low / 2) or 0.5  # halves: the difference of two large numbers may be infinite

    def block(value: float) -> str:
        return blocks[min(7, max(0, int(8 * min(1.0, (value / 2 - low / 2) / half))))]

    return "".join(" " if v is None or not math.isfinite(v) else block(v) for v in values)
