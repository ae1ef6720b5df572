"""The levels of `compare`: the combinations of the compared parameters' values, each with its own best configuration."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flexres_tune.spec.document.document import show_values
from flexres_tune.spec.keys.distribution import Distribution
from flexres_tune.spec.sweep import SweepSpec
from flexres_tune.spec.trial import TrialConfig


@dataclass(frozen=True)
class LevelPart:
    """A level within one mapping of `parameters`. Several mappings may have configurations of the same level."""

    level: str
    grid: int  # index of the mapping
    fixed: Mapping[str, Any]  # values of the compared parameters that the mapping has


def level_of(spec: SweepSpec, varied: Mapping[str, Any]) -> str:
    """The level of a trial that varies these values, such as `optimizer=sgd, batch_size=128`; "" without `compare`.

    Long values are cut in it, so a digest tells apart levels that begin alike.
    """
    if not spec.compare:
        return ""
    values = {key: varied[key] if key in varied else shared_value(spec, key) for key in spec.compare}
    text = show_values(values)
    if "…" in text:
        text += f" {hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()[:6]}"
    return text


def list_parts(spec: SweepSpec) -> tuple[LevelPart, ...]:
    """Every level in every mapping of `parameters` that has it, in the order of the sweep file.

    One that an entry of `exclude` leaves out whole is not among them.
    """
    parts = []
    for i, grid in enumerate(spec.parameters):
        keys = [key for key in spec.compare if key in grid and not grid[key].is_range]  # a range is refused by its rule
        for values in itertools.product(*(grid[key].values for key in keys)):
            fixed = dict(zip(keys, values, strict=True))
            if not _is_excluded(spec, grid, fixed):
                parts.append(LevelPart(level_of(spec, fixed), i, fixed))
    return tuple(parts)


def list_levels(spec: SweepSpec) -> tuple[str, ...]:
    """All levels in the order of the sweep file, without those that `exclude` leaves out; ("",) without `compare`."""
    return tuple(dict.fromkeys(part.level for part in list_parts(spec))) or ("",)


def share_draws(spec: SweepSpec) -> dict[str, int]:
    """How many of the `num_trials` draws each level gets.

    They are shared in rounds, so the numbers differ by at most one. A level that has no further configuration, because all
    its parameters have listed values, leaves its draws to the others.
    """
    sizes: dict[str, float] = dict.fromkeys(list_levels(spec), 0)
    for part in list_parts(spec):
        sizes[part.level] += num_configs_of(spec, part)
    shares, num_left = dict.fromkeys(sizes, 0), spec.num_trials or 0
    while able := [level for level in sizes if shares[level] < sizes[level]][:num_left]:
        for level in able:
            shares[level] += 1
        num_left -= len(able)
    return shares


def num_configs_of(spec: SweepSpec, part: LevelPart) -> float:
    """The most configurations that a part can have, before `exclude`: infinite if a parameter has a range."""
    free = (each for key, each in spec.parameters[part.grid].items() if key not in part.fixed)
    return math.prod(math.inf if each.values is None else len(each.values) for each in free)


def epochs_of(spec: SweepSpec, part: LevelPart) -> Sequence[int]:
    """The numbers of epochs that configurations of a part have; of a range its largest one."""
    grid = spec.parameters[part.grid]
    if "epochs" in part.fixed or "epochs" not in grid:
        return (part.fixed.get("epochs", shared_value(spec, "epochs")),)
    return grid["epochs"].values or (grid["epochs"].max,)


def shared_value(spec: SweepSpec, key: str) -> Any:
    """The value that a trial has if its parameters do not vary it."""
    if key in spec.base:
        return spec.base[key]
    field = TrialConfig.model_fields.get(key)
    return field.default if field else None


def _is_excluded(spec: SweepSpec, grid: Mapping[str, Distribution], fixed: Mapping[str, Any]) -> bool:
    """Whether an entry of `exclude` has only values that all configurations of a part have."""
    drawn = {key.partition(".")[0] for key in grid}
    certain = {key: value for key, value in spec.base.items() if key.partition(".")[0] not in drawn} | fixed
    return any(all(key in certain and certain[key] == entry[key] for key in entry) for entry in spec.exclude if entry)
