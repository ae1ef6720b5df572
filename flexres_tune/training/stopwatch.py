"""Seconds per training step: the real step, on random images, with a model of its own."""

from __future__ import annotations

import logging
import math
import statistics
import time

import torch

from flexres_tune.datasets import DataShape
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training.device import is_device_broken, is_out_of_memory, release_memory
from flexres_tune.training.execution import Execution
from flexres_tune.training.network import CaptureError, prepare_network
from flexres_tune.training.state import TrainState
from flexres_tune.training.step import train_step

BUDGET_S = 1.0  # for measuring one execution, after its first step
MAX_STEPS = 20

log = logging.getLogger(__name__)


def time_steps(
    config: TrialConfig, shape: DataShape, execution: Execution, budget_s: float = BUDGET_S
) -> tuple[float, float] | None:
    """(by how many seconds the first step is longer, median seconds of a later one).

    Both are infinite if the device cannot run this execution. None if it could not be measured now, because memory was
    used up, maybe by another process, or a capture failed: nothing may be remembered of that.

    The trial to come is not affected: model, generators and images are made for the measurement. Only the trial's model
    and batch size count: it is measured with sgd, so that trials that differ in their optimizers run in the same way.

    Raises:
        torch.AcceleratorError: the device cannot be used by this process any more.
    """
    measured = TrialConfig(model=config.model, dataset=config.dataset, batch_size=config.batch_size, lr=1e-3)
    seconds = []
    started = time.perf_counter()
    try:
        stepper = Stepper(measured, shape, execution)
        while len(seconds) < 2 or (sum(seconds[1:]) < budget_s and len(seconds) <= MAX_STEPS):
            stepper.step()
            seconds.append(time.perf_counter() - started)
            started = time.perf_counter()
    except (RuntimeError, NotImplementedError) as error:
        if is_device_broken(error):
            raise
        log.warning("%s: not used: %s", execution.label, str(error).splitlines()[0])
        is_passing = is_out_of_memory(error) or isinstance(error, CaptureError)
        return None if is_passing else (math.inf, math.inf)
    finally:
        stepper = None
        release_memory(execution.device)
    step = statistics.median(seconds[1:])
    return max(0.0, seconds[0] - step), step


class Stepper:
    """A fresh model and one batch of random images, ready to take training steps."""

    def __init__(self, config: TrialConfig, shape: DataShape, execution: Execution):
        device = execution.device
        self._execution = execution
        self._state = TrainState(config, shape.num_classes, shape.image_size, execution)
        generator = torch.Generator(device).manual_seed(0)
        size = (config.batch_size, 3, shape.image_size, shape.image_size)
        images = torch.rand(size, generator=generator, device=device)
        self._images = images.contiguous(memory_format=execution.memory_format)
        labels = torch.randint(shape.num_classes, (config.batch_size,), generator=generator, device=device)
        self._targets = torch.eye(shape.num_classes, device=device)[labels]
        with execution.kernels(choose=True), self._state.own_randomness():
            self._state.model.train()
            self._network = prepare_network(self._state.model, execution, lambda: self._images)

    def step(self) -> None:
        """Take one step; returns when the device has finished it."""
        with self._execution.kernels(choose=True), self._state.own_randomness():
            train_step(self._state, self._network, self._images, self._targets, self._execution)
        if self._execution.device.type == "cuda":
            torch.cuda.synchronize(self._execution.device)
