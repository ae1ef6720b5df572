"""Other tools' names for our keys and values, and the nearest name to a misspelt one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.distribution import Distribution, RangeName
from flexres_tune.spec.sweep import GOALS, Confirm, EarlyTerminate, Method, Metric, Resources, SchedulerName, SweepSpec
from flexres_tune.spec.trial import AUGMENTATION_NAMES, OPTIMIZER_NAMES, SCHEDULE_NAMES, Compile, Precision, TrialConfig
from flexres_tune.text import did_you_mean

# what other tools call a thing -> what to write here; empty: nothing
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


def suggest_key(key: Any, level: str) -> str:
    """Message for an unknown key at a level of the file: what to write instead."""
    known, where = LEVELS[level]
    message = f"no such key in {where}"
    lowered = str(key)[:100].lower().replace("-", "_")
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
        return f"{message}; did you mean {instead}?" if instead else f"{message}; remove it, nothing here needs it"
    if near := did_you_mean(lowered, known):
        return message + near
    for other, (names, place) in LEVELS.items():
        if lowered in names and other != level:
            return f"{message}; move it to {place}"
    return f"{message}; it has {', '.join(known)}"


def suggest_value(key: str, value: Any) -> str:
    """`; did you mean X?` for a name that is not among the choices of a key; empty where none is near."""
    if not isinstance(value, str):
        return ""
    lowered = value[:100].lower()
    instead = VALUES.get(key, {}).get(lowered.replace("-", "_"))
    if instead is None and key == "precision":
        instead = VALUES["precision"].get(lowered)
    return f"; did you mean {instead}?" if instead else did_you_mean(lowered, CHOICES.get(key, ()))


TRIAL_KEYS: tuple[str, ...] = (
    *(name for name in TrialConfig.model_fields if name != "seed"),
    *(f"model.{name}" for name in Architecture.model_fields),
)

# level -> its keys, and what to call it in a message
LEVELS: Mapping[str, tuple[tuple[str, ...], str]] = {
    "sweep": (tuple(name for name in SweepSpec.model_fields if name not in ("profile", "source")), "a sweep"),
    "metric": (tuple(Metric.model_fields), "metric"),
    "early_terminate": (tuple(EarlyTerminate.model_fields), "early_terminate"),
    "confirm": (tuple(Confirm.model_fields), "confirm"),
    "resources_per_trial": (tuple(Resources.model_fields), "resources_per_trial"),
    "distribution": (("value", *Distribution.model_fields), "a parameter's distribution"),
    "trial": (TRIAL_KEYS, "a trial"),
    "architecture": ((*Architecture.model_fields, "width"), "a model"),  # width: fit, see width.py
}

CHOICES: Mapping[str, tuple[str, ...]] = {
    "method": get_args(Method),
    "type": get_args(SchedulerName),
    "distribution": get_args(RangeName),
    "name": tuple(GOALS),
    "goal": tuple(GOALS.values()),
    "optimizer": OPTIMIZER_NAMES,
    "lr_schedule": SCHEDULE_NAMES,
    "augmentation": AUGMENTATION_NAMES,
    "precision": get_args(Precision),
    "compile": get_args(Compile),
    "block": ("basic", "bottleneck", "preact"),
}
