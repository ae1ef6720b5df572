"""Which loggers `run --logger` knows, and what they need; without ray, so that a missing package is said at once."""

from __future__ import annotations

import importlib
import os
from enum import StrEnum

from flexres_tune.errors import FlexResError


class LoggerName(StrEnum):
    """Ray Tune's own callbacks."""

    tensorboard = "tensorboard"
    wandb = "wandb"
    mlflow = "mlflow"


PACKAGES = {LoggerName.tensorboard: "tensorboardX", LoggerName.wandb: "wandb", LoggerName.mlflow: "mlflow"}


def check_logger(name: str) -> None:
    """Raise FlexResError where the logger cannot work: its package is missing, or wandb has no account."""
    package = PACKAGES[LoggerName(name)]
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise FlexResError(f"--logger {name} needs the package {package}: {error}; pip install {package}") from None
    if name == LoggerName.wandb and not _has_account():
        raise FlexResError(
            "--logger wandb needs an account: run `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline to write "
            "below the results folder"
        )


def _has_account() -> bool:
    import wandb

    offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")
    return offline or bool(os.environ.get("WANDB_API_KEY") or getattr(wandb.api, "api_key", None))
