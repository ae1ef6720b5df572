"""Learning-rate schedules: lr(step) = config.lr * warmup(step) * shape(step, num_steps), over a trial's own steps.

They are pure functions of the step, so a checkpoint need not hold any state of a schedule.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

from flexres_tune.spec.own_code.source import CodeName
from flexres_tune.spec.trial import TrialConfig


class Schedule(Protocol):
    """What `lr_schedule: my_schedules.py:trapezoid` must name: a pure function of the step."""

    def __call__(self, step: int, num_steps: int) -> float:
        """The factor of the peak learning rate at `step`, from 0 to num_steps - 1; at least 0."""


def learning_rate(config: TrialConfig, step: int, num_steps_per_epoch: int) -> float:
    """Learning rate of one optimizer step.

    Args:
        config: lr is the peak; lr_schedule, epochs and warmup_epochs determine the rest.
        step: from 0 over the whole trial, to epochs * num_steps_per_epoch - 1.
        num_steps_per_epoch: optimizer steps per epoch.
    """
    name = config.lr_schedule
    schedule: Schedule = name.load() if isinstance(name, CodeName) else SCHEDULES[name]
    shape = schedule(step, config.epochs * num_steps_per_epoch)
    return config.lr * _warmup(step, config.warmup_epochs * num_steps_per_epoch) * shape


def _warmup(step: int, num_warmup_steps: float) -> float:
    """Linear rise to 1, reached after num_warmup_steps (which may be a fraction); no step has rate 0."""
    return min(1.0, (step + 1) / (num_warmup_steps + 1))


def constant(step: int, num_steps: int) -> float:
    """1 throughout."""
    return 1.0


def cosine(step: int, num_steps: int) -> float:
    """(1 + cos(pi t)) / 2, t = step / num_steps: from 1 to 0 (Loshchilov & Hutter 2017, SGDR, without restarts)."""
    return (1 + math.cos(math.pi * step / num_steps)) / 2


def step_decay(step: int, num_steps: int) -> float:
    """1; 0.1 after half of the steps; 0.01 after three quarters (He et al. 2016 on CIFAR-10)."""
    return 0.1 ** ((2 * step >= num_steps) + (4 * step >= 3 * num_steps))


def onecycle(step: int, num_steps: int) -> float:
    """From 1/25 up to 1 over 30 % of the steps, then down to 1/25 * 1e-4, each as half a cosine (Smith & Topin 2018).

    Equal to torch's OneCycleLR, whose peak is at step 0.3 * num_steps - 1. Deviation from the paper, as in torch: two
    phases rather than three, and momentum is constant, because four of our six optimizers have none.
    """
    start, end = 1 / 25, 1 / 25 * 1e-4
    peak_step, last_step = 0.3 * num_steps - 1, num_steps - 1
    if step <= peak_step:
        return _anneal(start, 1.0, step / peak_step if peak_step else 1.0)
    return _anneal(1.0, end, (step - peak_step) / (last_step - peak_step))


def _anneal(start: float, end: float, progress: float) -> float:
    return end + (start - end) / 2 * (1 + math.cos(math.pi * progress))


# To add one: a function, its row here, and its name in spec/trial.py's SCHEDULE_NAMES.
SCHEDULES: Mapping[str, Schedule] = {
    "constant": constant,
    "cosine": cosine,
    "step": step_decay,
    "onecycle": onecycle,
}
