"""Cell: one choice of values out of a sweep's parameters, and the trial that it makes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flexres_tune.errors import FlexResError
from flexres_tune.records import Stage
from flexres_tune.spec.document import Finding, KeyPath
from flexres_tune.spec.parameters import DataShape, check_budget
from flexres_tune.spec.sweep import SweepSpec
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.spec.trial_values import apply_values, build_config, parse_model
from flexres_tune.spec.width import apply_width

Describe = Callable[[str], DataShape | None]  # None: not known, so that the model is not checked against it


@dataclass(frozen=True)
class PlannedTrial:
    """A trial that is to run."""

    config: TrialConfig
    varied: Mapping[str, Any]  # the parameters' values as written
    num_parameters: int
    stage: Stage = Stage.SCREEN
    num_redrawn: int = 0  # random: models over the budget that were drawn and thrown away before this one


@dataclass(frozen=True)
class Cell:
    """One configuration before it is checked: the index of its grid in `parameters`, and its values there."""

    grid: int
    varied: Mapping[str, Any]


def plan_cell(spec: SweepSpec, cell: Cell, describe: Describe) -> tuple[PlannedTrial | None, list[Finding]]:
    """The cell's trial with the sweep's first seed, and what is wrong with it.

    A model over the budget gives a trial as well as a finding: a random search draws it again.
    """
    values, problems = apply_width(apply_values(spec.base, cell.varied), describe, spec.max_parameters)
    if problems:
        return None, [(_locate(spec, cell, path), message) for path, message in problems]
    config, problems = build_config(values, spec.seeds[0])
    if config is None:
        return None, [(_locate(spec, cell, path), message) for path, message in problems]
    try:
        shape = describe(config.dataset)
    except FlexResError as error:
        return None, [(_locate(spec, cell, ("dataset",)), str(error))]
    if shape is None:
        return PlannedTrial(config, cell.varied, 0), []
    count, problems = check_budget(config.model, config.dataset, shape, spec.max_parameters)
    trial = PlannedTrial(config, cell.varied, count) if count else None
    return trial, [(_locate(spec, cell, path), message) for path, message in problems]


def matching_exclude(spec: SweepSpec, cell: Cell, config: TrialConfig | None) -> int | None:
    """Index of the first entry of `exclude` whose values all are the trial's, None if there is none.

    Values are compared as written and, where the configuration could be built, as they came to be: an entry may
    name a default, or write a list where the parameters have a preset.
    """
    values = apply_values(spec.base, cell.varied)
    for i, entry in enumerate(spec.exclude):
        if all(_has(key, value, values, config) for key, value in entry.items()):
            return i
    return None


def varies_model(spec: SweepSpec, cell: Cell) -> bool:
    """Whether the cell's model was drawn, so that another draw may have another."""
    grid = spec.parameters[cell.grid]
    return any(
        (key == "model" or key.startswith("model.")) and (item.is_range or len(item.values) > 1)
        for key, item in grid.items()
    )


def _has(key: str, value: Any, values: Mapping[str, Any], config: TrialConfig | None) -> bool:
    if key in values and values[key] == value:
        return True
    if config is None:
        return False
    if key == "model" or key.startswith("model."):
        return parse_model(apply_values(values, {key: value}))[0] == config.model
    if isinstance(value, list):
        value = tuple(value)
    if key == "compile" and isinstance(value, bool):
        value = "on" if value else "off"
    return getattr(config, key) == value


def _locate(spec: SweepSpec, cell: Cell, path: KeyPath) -> KeyPath:
    """Where the value at fault was written: in the cell's grid, else in base."""
    key = str(path[0])
    grid = spec.parameters[cell.grid]
    of_model = [name for name in grid if name.startswith("model")] if key.startswith("model") else []
    dotted = f"model.{path[1]}" if key == "model" and len(path) > 1 else key
    for name in (dotted, key, *reversed(of_model)):
        if name in grid:
            return ("parameters", cell.grid, name)
    if dotted in spec.base:
        return ("base", dotted)
    return ("base", *path)
