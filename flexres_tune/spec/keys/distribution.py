"""The values of a parameter: one, a list, or a range from which they are drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from random import Random
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, model_validator

from flexres_tune.spec.document.document import show
from flexres_tune.spec.keys.part import Part

RangeName = Literal["uniform", "log_uniform_values", "int_uniform"]


def _number(value: Any) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"must be a number, but got {show(value)}; for example 0.01")
    return value


Bound = Annotated[int | float | None, PlainValidator(_number)]


class Distribution(Part):
    """`{value: x}`, `{values: [x, ...]}` or `{min: a, max: b, distribution: ...}`, as in W&B sweeps.

    A range without `distribution` is int_uniform between two whole numbers, else uniform. Both bounds can be drawn. A range
    of numbers over two powers of ten must say which, because a uniform draw would hardly see its lower part.
    """

    values: tuple[Any, ...] | None = Field(default=None, description="values in the order written; None for a range")
    min: Bound = Field(default=None, description="lower bound of a range, inclusive")
    max: Bound = Field(default=None, description="upper bound of a range, inclusive")
    distribution: RangeName | None = Field(
        default=None, description="uniform, log_uniform_values (uniform in the logarithm) or int_uniform"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            listed = isinstance(data, list | tuple)
            raise ValueError(
                "must be a mapping with value, values, or min and max, but got "
                f"{show(data)}; write {{{'values' if listed else 'value'}: {show(data, 40)}}}"
            )
        forms = [key for key in ("value", "values") if key in data]
        if "min" in data or "max" in data:
            forms.append("min and max")
        if len(forms) > 1:
            raise ValueError(
                f"must have one of value, values, or min and max, but has {' and '.join(forms)}; keep one of them"
            )
        if not forms and any(key not in cls.model_fields for key in data):
            return data  # reported as a key that does not exist, with the one that was meant
        if not forms:
            raise ValueError(
                f"must have value, values, or min and max, but got {show(data)}; for example {{values: [0.01, 0.1]}}"
            )
        if forms[0] == "value":
            data = {**data, "values": [data["value"]]}
            del data["value"]
        return data

    @model_validator(mode="after")
    def _range_agrees(self) -> Distribution:
        if self.values is not None:
            if not self.values:
                raise ValueError("values must have at least one value, but got []; add one, or remove the parameter")
            if self.distribution:
                raise ValueError(
                    f"distribution belongs to min and max, but got {self.distribution} with listed values; remove it"
                )
            return self
        if self.min is None or self.max is None:
            absent, present = ("min", "max") if self.min is None else ("max", "min")
            raise ValueError(
                f"a range must have min and max, but has only {present}={show(getattr(self, present))}; add {absent}"
            )
        if self.min > self.max:
            raise ValueError(f"min must be <= max, but got min={show(self.min)}, max={show(self.max)}; swap them")
        whole = isinstance(self.min, int) and isinstance(self.max, int)
        if self.distribution is None and not whole and 0 < 100 * self.min <= self.max * (1 + 1e-9):
            raise ValueError(
                f"a range from {show(self.min)} to {show(self.max)} must say how it is drawn, because 9 of 10 uniform "
                f"draws are above {show(self.max / 10)}; add distribution: log_uniform_values, or distribution: uniform"
            )
        if self.distribution is None:
            object.__setattr__(self, "distribution", "int_uniform" if whole else "uniform")
        if self.distribution == "int_uniform" and not whole:
            raise ValueError(
                f"int_uniform must have whole numbers as min and max, but got {show(self.min)} and {show(self.max)}; "
                "use uniform, or whole numbers"
            )
        if self.distribution == "log_uniform_values" and self.min <= 0:
            raise ValueError(
                f"log_uniform_values must have min > 0, but got {show(self.min)}; raise min, or use uniform"
            )
        return self

    @property
    def is_range(self) -> bool:
        """Whether values are drawn between two bounds instead of listed."""
        return self.values is None

    def draw(self, random: Random) -> Any:
        """One value, drawn with the given generator."""
        if self.values is not None:
            return self.values[random.randrange(len(self.values))]
        if self.distribution == "int_uniform":
            return random.randint(self.min, self.max)
        if self.distribution == "log_uniform_values":
            value = math.exp(random.uniform(math.log(self.min), math.log(self.max)))
            return min(max(value, self.min), self.max)  # exp(log(x)) may exceed x in its last digit
        return random.uniform(self.min, self.max)

    def as_written(self) -> dict[str, Any]:
        """The mapping that a sweep file would have for it."""
        if self.values is not None:
            return {"values": list(self.values)}
        return {"min": self.min, "max": self.max, "distribution": self.distribution}
