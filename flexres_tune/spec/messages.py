"""Messages about keys and values: rule, value found, what to do; pydantic's errors are brought into that form.

A misspelt name gets the closest known one, and a name that another tool uses gets ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_args

from pydantic import ValidationError

from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.document import Finding, show
from flexres_tune.spec.sweep import (
    EARLY_STOPPING,
    GOALS,
    NOT_IN_A_FILE,
    Confirm,
    Distribution,
    EarlyTerminate,
    Method,
    Metric,
    RangeName,
    Resources,
    SweepSpec,
)
from flexres_tune.spec.trial import (
    AUGMENTATION_NAMES,
    OPTIMIZER_TRAITS,
    SCHEDULE_NAMES,
    Compile,
    Precision,
    TrialConfig,
)
from flexres_tune.text import did_you_mean

TRIAL_KEYS: tuple[str, ...] = (
    *(name for name in TrialConfig.model_fields if name != "seed"),
    *(f"model.{name}" for name in Architecture.model_fields),
)

# level of the file -> its keys, and its name in a message
LEVELS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "sweep": (tuple(name for name in SweepSpec.model_fields if name not in NOT_IN_A_FILE), "a sweep"),
    "metric": (tuple(Metric.model_fields), "metric"),
    "early_terminate": (tuple(EarlyTerminate.model_fields), "early_terminate"),
    "confirm": (tuple(Confirm.model_fields), "confirm"),
    "resources_per_trial": (tuple(Resources.model_fields), "resources_per_trial"),
    "distribution": (("value", *Distribution.model_fields), "a parameter's distribution"),
    "trial": (TRIAL_KEYS, "a trial"),
    "architecture": ((*Architecture.model_fields, "width"), "a model"),  # width: fit, see width.py
}

# key -> the names that it takes
CHOICES: Mapping[str, Iterable[str]] = {
    "method": get_args(Method),
    "type": EARLY_STOPPING,
    "distribution": get_args(RangeName),
    "name": tuple(GOALS),
    "goal": tuple(GOALS.values()),
    "optimizer": OPTIMIZER_TRAITS,
    "lr_schedule": SCHEDULE_NAMES,
    "augmentation": AUGMENTATION_NAMES,
    "precision": get_args(Precision),
    "compile": get_args(Compile),
    "block": ("basic", "bottleneck", "preact"),
}

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
    "profiles": "{laptop: {description: Which is best on digits?, base: {dataset: digits}}}",
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

# another tool's name for a key -> what to write here; empty: leave it out
KEYS: Mapping[str, str] = {
    # Ray Tune
    "grid_search": "values",
    "choice": "values",
    "max_t": "base.epochs",
    "min_iter": "early_terminate.grace_period",
    "grace": "early_terminate.grace_period",
    "eta": "early_terminate.reduction_factor",
    "rf": "early_terminate.reduction_factor",
    "brackets": "early_terminate.num_brackets",
    "num_samples": "num_trials",
    "param_space": "parameters",
    "scheduler": "early_terminate, or lr_schedule for the learning rate",
    "search_alg": "method",
    "resources": "resources_per_trial",
    "gpus": "resources_per_trial.gpu",
    "num_gpus": "resources_per_trial.gpu",
    "cpus": "resources_per_trial.cpu",
    "num_cpus": "resources_per_trial.cpu",
    "mode": "metric.goal: maximize or minimize",
    "time_attr": "",
    # W&B
    "program": "",
    "command": "",
    "project": "",
    "entity": "",
    "run_cap": "num_trials",
    "s": "early_terminate.num_brackets",
    "mu": "min and max",
    "sigma": "min and max",
    "q": "int_uniform, or values",
    "probabilities": "values",
    # Optuna
    "n_trials": "num_trials",
    "direction": "metric.goal: maximize or minimize",
    "sampler": "method",
    "pruner": "early_terminate",
    "low": "min",
    "high": "max",
    "log": "distribution: log_uniform_values",
    "step": "values",
    # everyone
    "hyperparameters": "parameters",
    "params": "parameters",
    "config": "base",
    "defaults": "base",
    "fixed": "base",
    "budget": "max_parameters",
    "seed": "seeds: [0]",
    "exclusions": "exclude",
    "learning_rate": "lr",
    "learningrate": "lr",
    "bs": "batch_size",
    "batchsize": "batch_size",
    "batch": "batch_size",
    "num_epochs": "epochs",
    "max_epochs": "epochs",
    "n_epochs": "epochs",
    "wd": "weight_decay",
    "l2": "weight_decay",
    "mixup": "mixup_alpha",
    "cutmix": "cutmix_alpha",
    "smoothing": "label_smoothing",
    "warmup": "warmup_epochs",
    "opt": "optimizer",
    "optim": "optimizer",
    "arch": "model",
    "architecture": "model",
    "net": "model",
    "network": "model",
    "data": "dataset",
    "schedule": "lr_schedule",
    "lr_scheduler": "lr_schedule",
    "augmentations": "augmentation",
    "augment": "augmentation",
    "transforms": "augmentation",
    "amp": "precision",
    "dtype": "precision",
    "nesterov": "optimizer: nesterov",
    "betas": "",
    "num_blocks": "blocks",
    "layers": "blocks",
    "widths": "channels",
    "kernel": "kernel_size",
    "fc": "head",
}

# key -> another tool's name for a value -> what to write here
VALUES: Mapping[str, Mapping[str, str]] = {
    "method": {"bayes": "tpe", "bayesian": "tpe", "optuna": "tpe", "grid_search": "grid", "random_search": "random"},
    "goal": {"max": "maximize", "min": "minimize"},
    "type": {
        "ashascheduler": "asha",
        "async_hyperband": "asha",
        "asynchyperband": "asha",
        "successive_halving": "asha",
        "medianstopping": "median",
        "median_stopping": "median",
        "fifo": "none",
        "envelope": "median",
    },
    "distribution": {
        "loguniform": "log_uniform_values",
        "log_uniform": "log_uniform_values",
        "q_log_uniform_values": "log_uniform_values",
        "inv_log_uniform_values": "log_uniform_values",
        "randint": "int_uniform",
        "q_uniform": "int_uniform",
        "constant": "value: x alone",
        "categorical": "values: [...] alone",
        "choice": "values: [...] alone",
        "normal": "uniform",
    },
    "name": {"accuracy": "val_accuracy", "val_acc": "val_accuracy", "acc": "val_accuracy", "loss": "val_loss"},
    "optimizer": {"momentum": "sgd", "nag": "nesterov"},
    "lr_schedule": {"one_cycle": "onecycle", "none": "constant", "cosineannealing": "cosine", "steplr": "step"},
    "precision": {"bfloat16": "bf16", "float32": "fp32", "16": "bf16", "32": "fp32", "amp": "bf16"},
    "augmentation": {"randomcrop": "crop", "hflip": "flip", "random_crop": "crop", "horizontal_flip": "flip"},
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
    """Each of pydantic's errors as a key path and a message; a rule between fields is shown at the field it names."""
    return [
        ((*item["loc"], *_named_field(item)), _message(item, error.title))
        for item in error.errors(include_url=False)
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
    rule = _RULES[kind](ctx) if kind in _RULES else _plain_english(item["msg"])
    found = "" if kind == "missing" else f", but got {show(value)}"
    return f"{rule}{found}{_what_to_do(dotted, kind, value)}"


def _named_field(item: Mapping[str, Any]) -> tuple[str, ...]:
    return (item["ctx"]["field"],) if item["type"] == "rule" else ()


def _what_to_do(dotted: str, kind: str, value: Any) -> str:
    key = dotted.rpartition(".")[2]
    if kind == "literal_error" and (near := suggest_value(key, value)):
        return near
    if kind == "bool_type" and isinstance(value, str) and value.lower() in ("yes", "no", "on", "off"):
        return f"; YAML 1.2 reads that as text, write {key}: {'true' if value.lower() in ('yes', 'on') else 'false'}"
    if isinstance(value, str) and kind in ("int_type", "float_type", "bool_type") and _reads_as_number(value):
        return f"; write it without quotes: {value.strip()}"
    if dotted.startswith("profiles.") and dotted.count(".") == 1:  # the profile itself, whose name is the user's
        return f"; for example profiles: {EXAMPLES['profiles']}"
    example = EXAMPLES.get(dotted, EXAMPLES.get(key))
    return f"; for example {key}: {example}" if example else "; correct it"


def _level(path: tuple, model: str) -> str:
    """The level of the file that a key of a pydantic model is at."""
    if model == "SweepSpec":
        if len(path) == 1:
            return "sweep"
        return "distribution" if path[0] == "parameters" else path[0]
    return "architecture" if model == "Architecture" else "trial"


def _reads_as_number(text: str) -> bool:
    return re.fullmatch(r"\s*([-+]?[0-9._]+([eE][-+]?[0-9]+)?|true|false)\s*", text) is not None and len(text) <= 40


def _plain_english(message: str) -> str:
    """Pydantic's own message, for a kind of error that has no row in _RULES."""
    message = message.removeprefix("Input should be ")
    return f"must be {message[:1].lower()}{message[1:]}"
