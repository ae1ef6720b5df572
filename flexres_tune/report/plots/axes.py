"""Axes for parameters: a linear or logarithmic scale for many numbers, evenly spaced categories for other values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flexres_tune.report.data import value_text

_LOG_FROM = 20  # the scale is logarithmic if the largest value is at least this many times the smallest
_MOST_TICKS = 12  # the axis has categories if there are at most this many distinct values


@dataclass(frozen=True)
class ParameterAxis:
    """Axis of one parameter. Positions are 0, 1, 2 ... for categories, the values for `linear`, log10 for `log`."""

    name: str
    values: tuple[Any, ...]  # distinct, sorted
    kind: str  # category | linear | log

    def place(self, value: Any) -> float:
        """Position of a value on the axis."""
        if self.kind == "category":
            return self.values.index(hashable(value))
        return math.log10(value) if self.kind == "log" else float(value)

    @property
    def texts(self) -> list[str]:
        """The values as text."""
        return [value_text(self.name, list(value) if isinstance(value, tuple) else value) for value in self.values]

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(position, text) of each tick."""
        if self.kind == "category":
            texts = list(enumerate(self.texts))
            return texts if len(texts) <= 2 * _MOST_TICKS else texts[:: math.ceil(len(texts) / _MOST_TICKS)]
        low, high = self.place(self.values[0]), self.place(self.values[-1])
        if self.kind == "log":
            whole = range(math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1)
            step = max(1, math.ceil(len(whole) / 8))
            if len(whole) >= 2:
                return [(float(power), f"{10.0**power:g}") for power in whole[::step]]
        ticks = [low + (high - low) * i / 4 for i in range(5)]
        return [(at, f"{10**at if self.kind == 'log' else at:.3g}") for at in ticks]


def parameter_axis(name: str, values: Sequence[Any], most_ticks: int = _MOST_TICKS) -> ParameterAxis:
    """The axis that suits the values.

    Categories if there are at most `most_ticks` distinct values, or if some are not numbers. Otherwise logarithmic if
    all values are positive and the largest is at least 20 times the smallest, and linear if not.
    """
    distinct = {hashable(value) for value in values}
    numbers = [value for value in distinct if type(value) in (int, float)]
    if len(numbers) < len(distinct) or len(distinct) <= most_ticks:
        return ParameterAxis(name, tuple(sorted(distinct, key=_order)), "category")
    return ParameterAxis(name, tuple(sorted(numbers)), "log" if spans_decades(numbers) else "linear")


def spans_decades(numbers: Sequence[float]) -> bool:
    """Whether a logarithmic scale suits them: all are positive, and the largest is many times the smallest."""
    return min(numbers) > 0 and max(numbers) / min(numbers) >= _LOG_FROM


def hashable(value: Any) -> Any:
    """A list, such as `channels`, as a tuple; any other value unchanged."""
    return tuple(value) if isinstance(value, list) else value


def _order(value: Any) -> tuple:
    """Sort key: None, then numbers by size, then words, then lists by length."""
    if value is None:
        return (0, 0.0, "")
    if type(value) in (int, float):
        return (1, float(value), "")
    return (2, float(len(value)) if isinstance(value, tuple) else 0.0, str(value))
