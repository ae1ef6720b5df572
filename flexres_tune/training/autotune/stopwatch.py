"""Seconds per training step: the real step, on random images, with a model of its own."""

from __future__ import annotations

import logging
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from flexres_tune.datasets import DataShape
from flexres_tune.datasets.images import ImageData, Split
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training.device import is_device_broken, is_out_of_memory, release_memory
from flexres_tune.training.execution import Execution
from flexres_tune.training.graph import NUM_EAGER_STEPS
from flexres_tune.training.preprocessing import Preprocessing
from flexres_tune.training.state import TrainState
from flexres_tune.training.step import TrainingSteps

BUDGET_S = 1.0  # for measuring one execution, after its first steps
MAX_BLOCKS = 20
NUM_BATCHES = 8  # of random images, in an epoch of the measurement


@dataclass(frozen=True)
class Rhythm:
    """How many steps run before the host waits for the device."""

    num_first: int  # that are not counted: torch compiles, chooses kernels, and records a graph in them
    num_steps: int  # per measured block


# On a CPU only the time counts in which this thread computes: the results are stored for all later trials of this
# machine, and a measurement by the clock beside other work once found bf16 ten times slower than fp32.
CLOCKS = {"cpu": time.thread_time, "cuda": time.perf_counter}

# On CUDA the host runs ahead of the device, as in an epoch
RHYTHMS = {"cpu": Rhythm(1, 1), "cuda": Rhythm(NUM_EAGER_STEPS + 2, 10)}

log = logging.getLogger(__name__)


def time_steps(
    config: TrialConfig, shape: DataShape, execution: Execution, budget_s: float = BUDGET_S
) -> tuple[float, float] | None:
    """(by how many seconds the first steps are longer, median seconds of a later one, by CLOCKS).

    Both are infinite if the device cannot run this execution. None if it could not be measured now, because memory was
    used up, maybe by another process, or a capture failed: nothing may be remembered of that.

    The trial to come is not affected: model, generators and images are made for the measurement. Only the trial's model
    and batch size count, and on CUDA its augmentation, whose kernels may cost more than the network's: it is measured
    with sgd, so that trials that differ in their optimizers run in the same way.

    Raises:
        torch.AcceleratorError: the device cannot be used by this process any more.
    """
    on_cuda = execution.device.type == "cuda" and not config.code  # which runs in no graph
    keys = ("model", "dataset", "label_column", "resize", "batch_size") + (
        "augmentation",
        "mixup_alpha",
        "cutmix_alpha",
    ) * on_cuda
    measured = TrialConfig(**{"lr": 1e-3, "augmentation": [], **{key: getattr(config, key) for key in keys}})
    rhythm, clock = RHYTHMS[execution.device.type], CLOCKS[execution.device.type]
    seconds: list[float] = []  # per step
    try:
        stepper = Stepper(measured, shape, execution)
        first = stepper.run(rhythm.num_first)
        while not seconds or (rhythm.num_steps * sum(seconds) < budget_s and len(seconds) < MAX_BLOCKS):
            seconds.append(stepper.run(rhythm.num_steps, clock) / rhythm.num_steps)
    except (RuntimeError, NotImplementedError) as error:
        if is_device_broken(error):
            raise
        log.warning("%s: not used: %s", execution.label, (str(error) or type(error).__name__).splitlines()[0])
        return None if is_out_of_memory(error) else (math.inf, math.inf)
    finally:
        stepper = None
        release_memory(execution.device)
    if execution.failures:  # the steps ran, but not as a graph
        return None
    step = statistics.median(seconds)
    return max(0.0, first - rhythm.num_first * step), step


class Stepper:
    """A fresh model and a few batches of random images, ready to take training steps."""

    def __init__(self, config: TrialConfig, shape: DataShape, execution: Execution):
        device = execution.device
        self._device, self._num_taken = device, 0
        self._execution, self._batch_size = execution, config.batch_size
        generator = torch.Generator(device).manual_seed(0)
        num_images = NUM_BATCHES * config.batch_size
        size = (num_images, 3, shape.image_size, shape.image_size)
        images = torch.randint(256, size, generator=generator, dtype=torch.uint8, device=device)
        split = Split(images, torch.randint(shape.num_classes, (num_images,), generator=generator, device=device))
        grey = torch.full((3,), 0.5, device=device)
        names = tuple(map(str, range(shape.num_classes)))
        data = ImageData("random", split, split, split, shape.num_classes, names, shape.image_size, grey, grey)
        self._state = TrainState(config, shape.num_classes, shape.image_size, execution)
        self._steps = TrainingSteps(self._state, split, Preprocessing(config, data, execution), execution)
        self._order = torch.arange(num_images, device=device)
        self._rates = [config.lr] * NUM_BATCHES

    def run(self, num_steps: int, clock: Callable[[], float] = time.perf_counter) -> float:
        """Take steps; the seconds by the clock until the device has finished them."""
        started = clock()
        with self._execution.kernels(choose=True), self._state.own_randomness():
            for _ in range(num_steps):
                i = self._num_taken % NUM_BATCHES
                if i == 0:
                    self._steps.begin_epoch(self._order, self._rates)
                self._steps.step(i, self._order[i * self._batch_size : (i + 1) * self._batch_size])
                self._num_taken += 1
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return clock() - started
