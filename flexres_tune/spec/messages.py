"""Pydantic's errors -> our form: rule, value found, way out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from flexres_tune.spec.document import Finding, show
from flexres_tune.spec.spelling import suggest_key, suggest_value

EXAMPLES: Mapping[str, str] = {
    "name": "optim",
    "metric.name": "val_accuracy",
    "confirm.seeds": "[10, 11, 12]",
    "description": "Which optimizer is best in 20 epochs?",
    "reproduces": "flexres/optimizer",
    "method": "grid",
    "metric": "{name: val_accuracy, goal: maximize}",
    "goal": "maximize",
    "max_parameters": "5_000_000",
    "seeds": "[0, 1, 2]",
    "base": "{model: resnet22_2, epochs: 20}",
    "parameters": "{lr: {values: [0.01, 0.1]}}",
    "exclude": "[{lr: 0.1, batch_size: 8}]",
    "early_terminate": "{type: asha, grace_period: 3}",
    "type": "asha",
    "grace_period": "3",
    "reduction_factor": "3",
    "num_brackets": "3",
    "confirm": "{top: 3, seeds: [10, 11, 12]}",
    "top": "3",
    "num_trials": "50",
    "order_seed": "0",
    "resources_per_trial": "{cpu: 4, gpu: 0.25}",
    "profiles": "{laptop: {base: {dataset: digits}}}",
    "values": "[0.01, 0.1]",
    "distribution": "uniform",
    "model": "resnet22_2",
    "dataset": "cifar10",
    "num_train_images": "5000",
    "optimizer": "sgd",
    "lr": "0.1",
    "momentum": "0.9",
    "weight_decay": "5e-4",
    "lr_schedule": "cosine",
    "warmup_epochs": "1",
    "batch_size": "128",
    "epochs": "20",
    "mixup_alpha": "0.2",
    "cutmix_alpha": "1.0",
    "label_smoothing": "0.1",
    "normalize": "true",
    "augmentation": "[crop, flip]",
    "precision": "auto",
    "compile": "auto",
    "blocks": "[3, 2, 3, 2]",
    "channels": "[64, 128, 192, 256]",
    "kernel_size": "3",
    "shortcut_kernel_size": "1",
    "pool_size": "4",
    "block": "basic",
    "stem_channels": "64",
    "stem_kernel_size": "3",
    "extra_conv": "512",
    "head": "[256, 128]",
    "dropout": "0.1",
}

_RULES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda ctx: "must be given, but is missing",
    "bool_type": lambda ctx: "must be true or false",
    "dict_type": lambda ctx: "must be a mapping (key: value)",
    "finite_number": lambda ctx: "must be a finite number",
    "float_type": lambda ctx: "must be a number",
    "greater_than": lambda ctx: f"must be > {show(ctx['gt'])}",
    "greater_than_equal": lambda ctx: f"must be >= {show(ctx['ge'])}",
    "int_from_float": lambda ctx: "must be a whole number",
    "int_parsing_size": lambda ctx: "must be a whole number below 2^63",
    "int_type": lambda ctx: "must be a whole number",
    "less_than": lambda ctx: f"must be < {show(ctx['lt'])}",
    "less_than_equal": lambda ctx: f"must be <= {show(ctx['le'])}",
    "literal_error": lambda ctx: f"must be {ctx['expected'].replace(chr(39), '')}",
    "model_type": lambda ctx: "must be a mapping (key: value)",
    "string_too_long": lambda ctx: f"must have at most {ctx['max_length']:,} characters",
    "string_type": lambda ctx: "must be text",
    "too_long": lambda ctx: f"must have at most {ctx['max_length']:,} entries",
    "too_short": lambda ctx: (
        f"must have at least {ctx['min_length']} " + ("entry" if ctx["min_length"] == 1 else "entries")
    ),
    "tuple_type": lambda ctx: "must be a list",
}


def findings(error: ValidationError) -> list[Finding]:
    """Each of pydantic's errors as a key path and a message in our form."""
    return [
        (tuple(item["loc"]), _message(item, error.title))
        for item in error.errors(include_url=False)
        # pydantic also calls a list too short whose entries are all wrong, which says nothing new
        if not (item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"])
    ]


def _message(item: Mapping[str, Any], model: str) -> str:
    path, kind, value = tuple(item["loc"]), item["type"], item["input"]
    ctx = item.get("ctx", {})
    if "error" in ctx:  # raised by our own validators, which speak our form
        return str(ctx["error"])
    if kind == "extra_forbidden":
        return suggest_key(path[-1], _level(path, model))
    keys = [part for part in path if isinstance(part, str)]
    dotted = ".".join(keys)
    rule = _RULES[kind](ctx) if kind in _RULES else _plain_english(item["msg"])
    found = "" if kind == "missing" else f", but got {show(value)}"
    return f"{rule}{found}{_way_out(dotted, kind, value)}"


def _way_out(dotted: str, kind: str, value: Any) -> str:
    key = dotted.rpartition(".")[2]
    if kind == "literal_error" and (near := suggest_value(key, value)):
        return near
    if kind == "bool_type" and isinstance(value, str) and value.lower() in ("yes", "no", "on", "off"):
        return f"; YAML 1.2 reads that as text, write {key}: {'true' if value.lower() in ('yes', 'on') else 'false'}"
    if isinstance(value, str) and kind in ("int_type", "float_type", "bool_type") and _reads_as_number(value):
        return f"; write it without quotes: {value.strip()}"
    example = EXAMPLES.get(dotted, EXAMPLES.get(key))
    return f"; for example {key}: {example}" if example else "; correct it"


def _level(path: tuple, model: str) -> str:
    """Which of the file's levels a key of a model stands on."""
    if model == "SweepSpec":
        if len(path) == 1:
            return "sweep"
        return "distribution" if path[0] == "parameters" else path[0]
    return "architecture" if model == "Architecture" else "trial"


def _reads_as_number(text: str) -> bool:
    return re.fullmatch(r"\s*([-+]?[0-9._]+([eE][-+]?[0-9]+)?|true|false)\s*", text) is not None and len(text) <= 40


def _plain_english(message: str) -> str:
    """Pydantic's own words for a kind of error that has no row above."""
    message = message.removeprefix("Input should be ")
    return f"must be {message[:1].lower()}{message[1:]}"
