"""Values by dotted key (`lr`, `model.channels`) -> TrialConfig, with each problem at the key that it belongs to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from pydantic import ValidationError

from flexres_tune.errors import ArchitectureError
from flexres_tune.spec.architecture import Architecture, preset
from flexres_tune.spec.document.document import Finding, show
from flexres_tune.spec.messages import findings
from flexres_tune.spec.own_code.model import OwnModel
from flexres_tune.spec.own_code.source import CodeName, Source
from flexres_tune.spec.parameters import count_parameters
from flexres_tune.spec.presets import PRESETS
from flexres_tune.spec.trial import OWN_CODE_FIELDS, TrialConfig
from flexres_tune.spec.width import width_problem, with_ratio
from flexres_tune.text import did_you_mean

MODEL_KEYS = tuple(f"model.{name}" for name in Architecture.model_fields)


def check_value(key: str, value: Any, code: Mapping[str, Source] = MappingProxyType({})) -> list[Finding]:
    """Problems of one value that do not depend on the other values; paths start at the value.

    Args:
        code: the source of each reference to own code.
    """
    if key == "model":
        if isinstance(value, str) and value in code:
            return []
        if isinstance(value, Mapping) and "width" in value:
            wrong = width_problem(value["width"])
            return [(("width",), wrong)] if wrong else parse_model({"model": with_ratio(value)})[1]
        return parse_model({"model": value})[1]
    if key in MODEL_KEYS:
        name = key.removeprefix("model.")
        errors = _errors_of(Architecture, {"blocks": [1], "channels": [16], name: value})
    else:
        name = key
        errors = _errors_of(TrialConfig, {"model": _SMALLEST, name: value, "code": code})
    return [(path[1:], message) for path, message in errors if path[:1] == (name,)]


def build_config(
    values: Mapping[str, Any], seed: int, code: Mapping[str, Source] = MappingProxyType({})
) -> tuple[TrialConfig | None, list[Finding]]:
    """The checked configuration, or None and the problems; paths start with the key.

    `model.channels` and the like change one field of the model, which may be a preset; `model.NAME` and
    `optimizer.NAME` are arguments of an own model and optimizer.

    Args:
        code: the source of each reference to own code; those that the values do not name are left out.
    """
    model = _of_model(values)
    architecture, problems = parse_model(model, code)
    if architecture is None:
        return None, [(_model_path(model, path), message) for path, message in problems]
    rest = {key: value for key, value in values.items() if key not in model}
    own = {key: rest.pop(key) for key in list(rest) if key.startswith("optimizer.")}
    rest["optimizer_values"] = {key.removeprefix("optimizer."): value for key, value in own.items()}
    named = {text for key in OWN_CODE_FIELDS for text in _listed(values.get(key)) if text in code}
    rest["code"] = {name: code[name] for name in sorted(named)}
    try:
        return TrialConfig.model_validate({**rest, "model": architecture, "seed": seed}), []
    except ValidationError as error:
        return None, findings(error)


def _listed(value: Any) -> list[str]:
    return [item for item in (value if isinstance(value, list | tuple) else [value]) if isinstance(item, str)]


def apply_values(base: Mapping[str, Any], varied: Mapping[str, Any]) -> dict[str, Any]:
    """`base` changed by `varied`; another `model` or `optimizer` also drops the fields that belonged to the old one."""
    kept = {key: value for key, value in base.items() if not ("." in key and key.partition(".")[0] in varied)}
    return {**kept, **varied}


def parse_model(
    values: Mapping[str, Any], code: Mapping[str, Source] = MappingProxyType({})
) -> tuple[Architecture | OwnModel | None, list[Finding]]:
    """Model of `model` and its `model.` fields, or None and the problems; paths start inside the model."""
    name = values.get("model")
    if isinstance(name, str) and name in code:
        own = {key.removeprefix("model."): value for key, value in values.items() if key.startswith("model.")}
        return OwnModel(code=CodeName(name, code[name]), values=own), []
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
        return findings(error, with_rules=False)
    return []


def _model_path(model: Mapping[str, Any], path: tuple) -> tuple:
    """Path of a model's field: ("model.channels",) if that key is written, else ("model", "channels")."""
    if path and f"model.{path[0]}" in model:
        return (f"model.{path[0]}", *path[1:])
    return ("model", *path)
