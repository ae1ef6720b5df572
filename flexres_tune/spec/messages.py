"""Messages about keys and values: rule, value found, what to do; pydantic's errors are brought into that form.

A misspelt name gets the closest known one, and a name that another tool uses gets ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from pydantic import ValidationError

from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.document.document import Finding, show
from flexres_tune.spec.keys.confirm import Budget, Confirm, Final
from flexres_tune.spec.keys.distribution import Distribution, RangeName
from flexres_tune.spec.keys.early_terminate import EARLY_STOPPING, EarlyTerminate, RungSpec, Variant
from flexres_tune.spec.keys.metric import GOALS, Metric
from flexres_tune.spec.keys.resources import Resources
from flexres_tune.spec.sweep import NOT_IN_A_FILE, Method, SweepSpec, Validation
from flexres_tune.spec.trial import (
    AUGMENTATION_NAMES,
    OPTIMIZER_TRAITS,
    SCHEDULE_NAMES,
    TRIAL_FIELDS,
    TrialConfig,
)
from flexres_tune.text import did_you_mean

TRIAL_KEYS: tuple[str, ...] = (
    *(name for name in TRIAL_FIELDS if name != "seed"),
    *(f"model.{name}" for name in Architecture.model_fields),
)

# level of the file -> its keys, and its name in a message
LEVELS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "sweep": (tuple(name for name in SweepSpec.model_fields if name not in NOT_IN_A_FILE), "a sweep"),
    "metric": (tuple(Metric.model_fields), "metric"),
    "early_terminate": (tuple(EarlyTerminate.model_fields), "early_terminate"),
    "rungs": (tuple(RungSpec.model_fields), "a rung"),
    "confirm": (tuple(Confirm.model_fields), "confirm"),
    "final": (tuple(Final.model_fields), "final"),
    "budget": (tuple(Budget.model_fields), "budget"),
    "validation": (tuple(Validation.model_fields), "validation"),
    "resources_per_trial": (tuple(Resources.model_fields), "resources_per_trial"),
    "distribution": (("value", *Distribution.model_fields), "a parameter's distribution"),
    "trial": (TRIAL_KEYS, "a trial"),
    "architecture": ((*Architecture.model_fields, "width"), "a model"),  # width: fit, see width.py
}

# key -> the names that it takes
CHOICES: Mapping[str, Iterable[str]] = {
    "method": get_args(Method),
    "type": EARLY_STOPPING,
    "variant": get_args(Variant),
    "distribution": get_args(RangeName),
    "name": tuple(GOALS),
    "goal": tuple(GOALS.values()),
    "at": ("best", "last"),
    "train_on": ("all",),
    "optimizer": OPTIMIZER_TRAITS,
    "lr_schedule": SCHEDULE_NAMES,
    "augmentation": AUGMENTATION_NAMES,
    **{
        name: get_args(field.annotation)
        for model in (Architecture, TrialConfig)
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is Literal
    },
}

EXAMPLES: Mapping[str, str] = {
    **{
        name: show(field.default) for model in (Architecture, TrialConfig) for name, field in model.model_fields.items()
    },
    "name": "optim",
    "metric.name": "val_accuracy",
    "metrics": "[top5, ece]",
    "confirm.seeds": "[10, 11, 12]",
    "description": "Which optimizer is best in 20 epochs?",
    "reproduces": "flexres/optimizer",
    "method": "grid",
    "metric": "{name: val_accuracy, at: last}",
    "goal": "maximize",
    "at": "last",
    "final": "{train_on: all}",
    "train_on": "all",
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
    "variant": "promotion",
    "rungs": "[{epochs: 9, keep: 8}]",
    "keep": "8",
    "compare": "optimizer",
    "baseline": "{optimizer: sgd, lr: 0.1}",
    "confirm": "{top: 3, seeds: [10, 11, 12]}",
    "top": "3",
    "num_runs": "15",
    "budget": "{device_hours: 4}",
    "budget.epochs": "600",
    "device_hours": "4",
    "num_trials": "50",
    "order_seed": "0",
    "resources_per_trial": "{cpu: 4, gpu: 0.25}",
    "profiles": "{laptop: {description: Which is best on digits?, base: {dataset: digits}}}",
    "values": "[0.01, 0.1]",
    "distribution": "uniform",
    "model": "resnet22_2",
    "num_train_images": "5000",
    "num_val_images": "5000",
    "label_column": "fine_label",
    "resize": "{size: 32, crop: center}",
    "momentum": "0.9",
    "weight_decay": "5e-4",
    "warmup_epochs": "1",
    "mixup_alpha": "0.2",
    "cutmix_alpha": "1.0",
    "label_smoothing": "0.1",
    "blocks": "[3, 2, 3, 2]",
    "channels": "[64, 128, 192, 256]",
    "stem_channels": "64",
    "extra_conv": "512",
    "head": "[256, 128]",
    "dropout": "0.1",
}

# what to write here -> what Ray Tune, W&B, Optuna and others call it; "": leave it out
_OTHER_KEYS: Mapping[str, str] = {
    "values": "grid_search choice probabilities step",
    "base.epochs": "max_t",
    "early_terminate.grace_period": "min_iter grace",
    "early_terminate.reduction_factor": "eta rf",
    "early_terminate.num_brackets": "brackets s",
    "num_trials": "num_samples run_cap n_trials",
    "budget": "time_budget_s timeout max_time",
    "parameters": "param_space hyperparameters params",
    "early_terminate, or lr_schedule for the learning rate": "scheduler",
    "method": "search_alg sampler",
    "resources_per_trial": "resources",
    "resources_per_trial.gpu": "gpus num_gpus",
    "resources_per_trial.cpu": "cpus num_cpus",
    "metric.goal: maximize or minimize": "mode direction",
    "": "time_attr program command project entity betas",
    "min and max": "mu sigma",
    "int_uniform, or values": "q",
    "early_terminate": "pruner",
    "min": "low",
    "max": "high",
    "distribution: log_uniform_values": "log",
    "base": "config defaults fixed",
    "max_parameters": "max_params parameter_budget",
    "seeds: [0]": "seed",
    "exclude": "exclusions",
    "lr": "learning_rate learningrate",
    "batch_size": "bs batchsize batch",
    "epochs": "num_epochs max_epochs n_epochs",
    "weight_decay": "wd l2",
    "mixup_alpha": "mixup",
    "cutmix_alpha": "cutmix",
    "label_smoothing": "smoothing",
    "warmup_epochs": "warmup",
    "optimizer": "opt optim",
    "model": "arch architecture net network",
    "num_val_images": "val_images num_validation_images",
    "test: none": "no_test skip_test",
    "resize": "image_size img_size imgsz",
    "label_column": "label_key target_column",
    "dataset": "data",
    "lr_schedule": "schedule lr_scheduler",
    "augmentation": "augmentations augment transforms",
    "precision": "amp dtype",
    "optimizer: nesterov": "nesterov",
    "blocks": "num_blocks layers",
    "channels": "widths",
    "kernel_size": "kernel",
    "head": "fc",
}
KEYS: Mapping[str, str] = {other: ours for ours, others in _OTHER_KEYS.items() for other in others.split()}

# key -> what to write here as its value -> what other tools call it
_OTHER_VALUES: Mapping[str, Mapping[str, str]] = {
    "method": {"tpe": "bayes bayesian optuna", "grid": "grid_search", "random": "random_search"},
    "goal": {"maximize": "max", "minimize": "min"},
    "type": {
        "asha": "ashascheduler async_hyperband asynchyperband",
        "halving": "successive_halving sha",
        "median": "medianstopping median_stopping envelope",
        "none": "fifo",
    },
    "distribution": {
        "log_uniform_values": "loguniform log_uniform q_log_uniform_values inv_log_uniform_values",
        "int_uniform": "randint q_uniform",
        "value: x alone": "constant",
        "values: [...] alone": "categorical choice",
        "uniform": "normal",
    },
    "name": {"val_accuracy": "accuracy val_acc acc", "val_loss": "loss"},
    "optimizer": {"sgd": "momentum", "nesterov": "nag"},
    "lr_schedule": {"onecycle": "one_cycle", "constant": "none", "cosine": "cosineannealing", "step": "steplr"},
    "precision": {"bf16": "bfloat16 16 amp", "fp32": "float32 32"},
    "augmentation": {"crop": "randomcrop random_crop", "flip": "hflip horizontal_flip"},
}
VALUES: Mapping[str, Mapping[str, str]] = {
    key: {other: ours for ours, others in values.items() for other in others.split()}
    for key, values in _OTHER_VALUES.items()
}

_RULES: Mapping[str, str] = {
    "missing": "must be given, but is missing",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping (key: value)",
    "finite_number": "must be a finite number",
    "float_type": "must be a number",
    "greater_than": "must be > {gt}",
    "greater_than_equal": "must be >= {ge}",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number below 2^63",
    "int_type": "must be a whole number",
    "less_than": "must be < {lt}",
    "less_than_equal": "must be <= {le}",
    "literal_error": "must be {expected}",
    "model_type": "must be a mapping (key: value)",
    "string_too_long": "must have at most {max_length:,} characters",
    "string_type": "must be text",
    "too_long": "must have at most {max_length:,} entries",
    "too_short": "must have at least {min_length} entry",
    "tuple_type": "must be a list",
}

_NUMBER = re.compile(r"\s*([-+]?[0-9._]{1,30}([eE][-+]?[0-9]{1,4})?|true|false)\s*")


def findings(error: ValidationError, with_rules: bool = True) -> list[Finding]:
    """Each of pydantic's errors as a key path and a message; a rule between fields is shown at the field it names.

    Without rules, those are left out: of a single value, whose neighbours are not known, they say nothing.
    """
    return [
        ((*item["loc"], *([item["ctx"]["field"]] if item["type"] == "rule" else [])), _message(item, error.title))
        for item in error.errors(include_url=False)
        if with_rules or item["type"] != "rule"
        # pydantic also calls a list too short if all its entries are wrong, which adds nothing
        if not (item["type"] == "too_short" and len(item["input"]) >= item["ctx"]["min_length"])
    ]


def suggest_key(key: Any, level: str) -> str:
    """Message about an unknown key at a level of the file, with the key to write instead."""
    known, where = LEVELS[level]
    message = f"no such key in {where}"
    lowered = str(key)[:100].lower().replace("-", "_")
    if level == "sweep" and lowered == "profile":
        return f"{message}; choose a profile with --profile NAME"
    if lowered in known:
        return f"{message}; did you mean {lowered}?"
    parameter, _, part = lowered.rpartition(".")
    if part in LEVELS["distribution"][0] and parameter in TRIAL_KEYS:
        return f"{message}; write parameters: {{{parameter}: {{{part}: ...}}}}"
    if level in ("sweep", "distribution") and (lowered in TRIAL_KEYS or lowered in Architecture.model_fields):
        name = lowered if lowered in TRIAL_KEYS else f"model.{lowered}"
        return f"{message}; did you mean base.{name}, or parameters.{name}?"
    if level == "trial" and lowered in Architecture.model_fields:
        return f"{message}; did you mean model.{lowered}?"
    if level in ("sweep", "trial") and lowered in ("width", "model.width"):
        return f"{message}; write it inside the model, such as model: {{blocks: [3, 3, 3, 3], width: fit}}"
    if lowered in KEYS:
        instead = KEYS[lowered].removeprefix(f"{level}.")
        if level in ("sweep", "trial") and instead in Architecture.model_fields:
            instead = f"model.{instead}"
        if level == "sweep" and instead in TRIAL_KEYS:
            instead = f"base.{instead}, or parameters.{instead}"
        return f"{message}; did you mean {instead}?" if instead else f"{message}; remove it, it is not needed"
    if near := did_you_mean(lowered, known):
        return message + near
    for other, (names, place) in LEVELS.items():
        if lowered in names and other != level:
            return f"{message}; move it to {place}"
    return f"{message}; it has {', '.join(known)}"


def suggest_value(key: str, value: Any) -> str:
    """`; did you mean X?` for a name that a key does not take; "" if no name is close."""
    if not isinstance(value, str):
        return ""
    lowered = value[:100].lower()
    instead = VALUES.get(key, {}).get(lowered.replace("-", "_"))
    return f"; did you mean {instead}?" if instead else did_you_mean(lowered, CHOICES.get(key, ()))


def _message(item: Mapping[str, Any], model: str) -> str:
    path, kind, value = tuple(item["loc"]), item["type"], item["input"]
    ctx = item.get("ctx", {})
    if "error" in ctx:  # a ValueError of our own validators, already in our form
        return str(ctx["error"])
    if kind == "rule":
        return item["msg"]
    if kind == "extra_forbidden":
        return suggest_key(path[-1], _level(path, model))
    keys = [part for part in path if isinstance(part, str)]
    dotted = ".".join(keys)
    if kind in _RULES:
        rule = _RULES[kind].format_map({k: show(v) if isinstance(v, float) else v for k, v in ctx.items()})
        rule = rule.replace("'", "")  # pydantic quotes the names of a literal
    else:  # pydantic's own message
        plain = item["msg"].removeprefix("Input should be ")
        rule = f"must be {plain[:1].lower()}{plain[1:]}"
    if kind == "missing":
        found = ""
    elif kind == "int_type" and isinstance(value, float):
        found = f", but got {value!r}"  # 2.0, of which show() makes 2
    else:
        found = f", but got {show(value)}"
    return f"{rule}{found}{_what_to_do(dotted, kind, value)}"


def _what_to_do(dotted: str, kind: str, value: Any) -> str:
    key = dotted.rpartition(".")[2]
    if kind == "literal_error" and (near := suggest_value(key, value)):
        return near
    if kind == "bool_type" and isinstance(value, str) and value.lower() in ("yes", "no", "on", "off"):
        return f"; YAML 1.2 reads that as text, write {key}: {'true' if value.lower() in ('yes', 'on') else 'false'}"
    if isinstance(value, str) and kind in ("int_type", "float_type", "bool_type") and _NUMBER.fullmatch(value):
        return f"; write it without quotes: {value.strip()}"
    if isinstance(value, float) and kind == "int_type" and value.is_integer() and abs(value) < 2**63:
        return f"; write {show(int(value))}"
    if dotted.startswith("profiles.") and dotted.count(".") == 1:  # the profile itself, whose name is the user's
        return f"; for example profiles: {EXAMPLES['profiles']}"
    example = EXAMPLES.get(dotted, EXAMPLES.get(key))
    return f"; for example {key}: {example}" if example else "; correct it"


def _level(path: tuple, model: str) -> str:
    """The level of the file that a key of a pydantic model is at."""
    if model == "SweepSpec":
        if len(path) == 1:
            return "sweep"
        if path[:2] == ("early_terminate", "rungs"):
            return "rungs"
        return "distribution" if path[0] == "parameters" else path[0]
    return "architecture" if model == "Architecture" else "trial"
