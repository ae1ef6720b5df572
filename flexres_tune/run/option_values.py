"""Values of options of `run` that must be checked before a sweep starts; no ray."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable
from enum import StrEnum

from flexres_tune.errors import FlexResError
from flexres_tune.records import TrialStatus


class LoggerName(StrEnum):
    """Loggers of Ray Tune that --logger can add; raytune/loggers.py has a row for each."""

    tensorboard = "tensorboard"
    wandb = "wandb"
    mlflow = "mlflow"


LOGGER_PACKAGES = {LoggerName.tensorboard: "tensorboardX", LoggerName.wandb: "wandb", LoggerName.mlflow: "mlflow"}


def check_logger(name: LoggerName) -> None:
    """Raise FlexResError if a logger cannot work: its package is missing, or wandb has no account. Imports no ray."""
    package = LOGGER_PACKAGES[name]
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise FlexResError(f"--logger {name} needs the package {package}: {error}; pip install {package}") from None
    if name == LoggerName.wandb and not _has_wandb_account():
        raise FlexResError(
            "--logger wandb needs an account: run `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline to write "
            "below the results folder"
        )


def _has_wandb_account() -> bool:
    import wandb

    offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")
    return offline or bool(os.environ.get("WANDB_API_KEY") or getattr(wandb.api, "api_key", None))


def parse_statuses(texts: Iterable[str]) -> tuple[TrialStatus, ...]:
    """`failed`, `diverged` ... as statuses; only those that another attempt may change."""
    may = (TrialStatus.FAILED, TrialStatus.OUT_OF_MEMORY, TrialStatus.DIVERGED)
    names = [text.strip() for text in texts if text.strip()]
    for name in names:
        if name not in may:
            raise FlexResError(
                f"--retry: each must be one of {', '.join(may)}, but got {name[:60]!r}; separate them by commas"
            )
    return tuple(map(TrialStatus, names))
