"""Optimizers and learning-rate schedules, one row each."""

from flexres_tune.optim.optimizers import (
    OPTIMIZERS,
    build_optimizer,
    can_capture,
    learning_rate_on_device,
    load_optimizer_state,
    optimizer_state,
    set_learning_rate,
)
from flexres_tune.optim.schedules import SCHEDULES, learning_rate

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "build_optimizer",
    "can_capture",
    "learning_rate",
    "learning_rate_on_device",
    "load_optimizer_state",
    "optimizer_state",
    "set_learning_rate",
]
