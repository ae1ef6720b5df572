"""Values by dotted key (`lr`, `model.channels`) -> TrialConfig, with each problem at the key that it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import ValidationError

from flexres_tune.errors import ArchitectureError
from flexres_tune.spec.architecture import Architecture, preset
from flexres_tune.spec.document import Finding, show
from flexres_tune.spec.messages import findings
from flexres_tune.spec.parameters import count_parameters
from flexres_tune.spec.presets import PRESETS
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.spec.width import width_problem, with_ratio
from flexres_tune.text import did_you_mean

MODEL_KEYS = tuple(f"model.{name}" for name in Architecture.model_fields)


def check_value(key: str, value: Any) -> list[Finding]:
    """Problems of one value that do not depend on the other values; paths start at the value."""
    if key == "model":
        if isinstance(value, Mapping) and "width" in value:
            wrong = width_problem(value["width"])
            return [(("width",), wrong)] if wrong else parse_model({"model": with_ratio(value)})[1]
        return parse_model({"model": value})[1]
    if key in MODEL_KEYS:
        name = key.removeprefix("model.")
        errors = _errors_of(Architecture, {"blocks": [1], "channels": [16], name: value})
    else:
        name = key
        errors = _errors_of(TrialConfig, {"model": _SMALLEST, name: value})
    return [(path[1:], message) for path, message in errors if path[:1] == (name,)]


def build_config(values: Mapping[str, Any], seed: int) -> tuple[TrialConfig | None, list[Finding]]:
    """The checked configuration, or None and the problems; paths start with the key.

    `model.channels` and the like change one field of the model, which may be a preset.
    """
    model = _of_model(values)
    architecture, problems = parse_model(model)
    if architecture is None:
        return None, [(_model_path(model, path), message) for path, message in problems]
    rest = {key: value for key, value in values.items() if key not in model}
    try:
        return TrialConfig.model_validate({**rest, "model": architecture, "seed": seed}), []
    except ValidationError as error:
        return None, findings(error)


def apply_values(base: Mapping[str, Any], varied: Mapping[str, Any]) -> dict[str, Any]:
    """`base` changed by `varied`; another `model` also drops the `model.` fields that belonged to the old one."""
    kept = {key: value for key, value in base.items() if not (key.startswith("model.") and "model" in varied)}
    return {**kept, **varied}


def parse_model(values: Mapping[str, Any]) -> tuple[Architecture | None, list[Finding]]:
    """Architecture of `model` and its `model.` fields, or None and the problems; paths start inside the model."""
    architecture, problems = _parse_model(json.dumps(_of_model(values), sort_keys=True))
    return architecture, list(problems)


def _of_model(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key == "model" or key.startswith("model.")}


_SMALLEST = Architecture.model_validate({"blocks": [1], "channels": [1]})


@lru_cache(maxsize=4096)  # thousands of trials share a few models
def _parse_model(canonical: str) -> tuple[Architecture | None, list[Finding]]:
    """Architecture of `{"model": ..., "model.channels": ...}`; paths start inside the model."""
    values = json.loads(canonical)
    model = values.pop("model", None)
    if not isinstance(model, dict) and (not isinstance(model, str) or model not in PRESETS):
        presets = did_you_mean(model, PRESETS) or f"; presets: {', '.join(PRESETS)}"
        hint = presets if isinstance(model, str) else "; for example resnet22_2"
        message = f"must be a preset's name or a mapping with blocks and channels, but got {show(model)}{hint}"
        return None, [((), message)]
    row = preset(model) if isinstance(model, str) else model
    stated = row.pop("num_parameters", None)
    try:
        architecture = Architecture.model_validate(
            row | {key.removeprefix("model."): value for key, value in values.items()}
        )
        if stated is not None and not values and (counted := count_parameters(architecture)) != stated:
            message = (
                f"must be what the architecture has for 32x32 images and ten classes, {counted:,}, but states "
                f"{show(stated)}; correct it or leave it out"
            )
            return None, [(("num_parameters",), message)]
        return architecture, []
    except ValidationError as error:
        return None, findings(error)
    except ArchitectureError as error:  # the pool does not fit images of 32x32
        return None, [((), str(error))]


def _errors_of(model: type, values: Mapping[str, Any]) -> list[Finding]:
    try:
        model.model_validate(values)
    except ValidationError as error:
        return findings(error)
    return []


def _model_path(model: Mapping[str, Any], path: tuple) -> tuple:
    """Path of a model's field: ("model.channels",) if that key is written, else ("model", "channels")."""
    if path and f"model.{path[0]}" in model:
        return (f"model.{path[0]}", *path[1:])
    return ("model", *path)
