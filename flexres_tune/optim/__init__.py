"""Optimizers and learning-rate schedules, one row each."""

from flexres_tune.optim.optimizers import OPTIMIZERS, build_optimizer, load_optimizer_state, set_learning_rate
from flexres_tune.optim.schedules import SCHEDULES, learning_rate

__all__ = ["OPTIMIZERS", "SCHEDULES", "build_optimizer", "learning_rate", "load_optimizer_state", "set_learning_rate"]
