"""The levels of `compare`: the combinations of the compared parameters' values, each with its own best configuration."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from flexres_tune.spec.document.document import show_values
from flexres_tune.spec.sweep import SweepSpec
from flexres_tune.spec.trial import TrialConfig


def level_of(spec: SweepSpec, varied: Mapping[str, Any]) -> str:
    """The level of a trial that varies these values, such as `optimizer=sgd, batch_size=128`; "" without `compare`."""
    if not spec.compare:
        return ""
    return show_values({key: varied[key] if key in varied else _shared(spec, key) for key in spec.compare})


def list_levels(spec: SweepSpec) -> tuple[str, ...]:
    """All levels in the order of the sweep file, before `exclude`; ("",) without `compare`."""
    levels = {}
    for grid in spec.parameters:
        values = [grid[key].values if key in grid else (_shared(spec, key),) for key in spec.compare]
        for combination in itertools.product(*values):
            levels[level_of(spec, dict(zip(spec.compare, combination, strict=True)))] = None
    return tuple(levels)


def _shared(spec: SweepSpec, key: str) -> Any:
    """The value that a trial has if its parameters do not vary it."""
    if key in spec.base:
        return spec.base[key]
    field = TrialConfig.model_fields.get(key)
    return field.default if field else None
