"""Axes for parameters: a scale that suits the values, evenly placed where they are few or no numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flexres_tune.report.data import value_text

_LOG_FROM = 20  # largest / smallest from which a scale is logarithmic
_MOST_TICKS = 12  # distinct values that get a place and a tick of their own


@dataclass(frozen=True)
class ParameterAxis:
    """Where a parameter's values stand: `places` are categories 0, 1, 2 ..., or the numbers themselves."""

    name: str
    values: tuple[Any, ...]  # distinct, in order
    kind: str  # category | linear | log

    def place(self, value: Any) -> float:
        """Position on the axis; for `log` the decimal logarithm."""
        if self.kind == "category":
            return self.values.index(hashable(value))
        return math.log10(value) if self.kind == "log" else float(value)

    @property
    def texts(self) -> list[str]:
        """The distinct values as text."""
        return [value_text(self.name, list(value) if isinstance(value, tuple) else value) for value in self.values]

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """(position, text) for a few ticks."""
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
    """Few values, words or lists: a place each, in order. Many numbers: linear, or log where they span decades."""
    distinct = {hashable(value) for value in values}
    numbers = [v for v in distinct if isinstance(v, int | float) and not isinstance(v, bool)]
    if len(numbers) < len(distinct) or len(distinct) <= most_ticks:
        return ParameterAxis(name, tuple(sorted(distinct, key=_order)), "category")
    kind = "log" if min(numbers) > 0 and max(numbers) / min(numbers) >= _LOG_FROM else "linear"
    return ParameterAxis(name, tuple(sorted(numbers)), kind)


def hashable(value: Any) -> Any:
    """Lists, such as `channels`, as tuples."""
    return tuple(value) if isinstance(value, list) else value


def _order(value: Any) -> tuple:
    """None first, then numbers by size, then lists by their length, and words."""
    if value is None:
        return (0, 0.0, "")
    if isinstance(value, int | float) and not isinstance(value, bool):
        return (1, float(value), "")
    return (2, float(len(value)) if isinstance(value, tuple) else 0.0, str(value))
