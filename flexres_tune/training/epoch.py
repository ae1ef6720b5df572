"""One training epoch and one evaluation: mean loss and accuracy. On CUDA the host waits for neither inside."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import nn

from flexres_tune.datasets.images import Split
from flexres_tune.errors import DivergedError
from flexres_tune.optim import learning_rate
from flexres_tune.records import Predictions
from flexres_tune.training.execution import Execution
from flexres_tune.training.metrics import MetricCollector
from flexres_tune.training.predictions import PredictionCollector
from flexres_tune.training.preprocessing import Preprocessing
from flexres_tune.training.state import TrainState
from flexres_tune.training.step import TrainingSteps

EVALUATION_BATCH_SIZE = 500  # larger is not faster, and the memory of a GPU may be shared by eight trials


@dataclass(frozen=True)
class Result:
    """Loss and accuracy of one pass over images."""

    loss: float  # mean over the images, nats
    accuracy: float  # fraction
    predictions: Predictions | None = None  # of each image, if they were asked for
    metrics: Mapping[str, float] = field(default_factory=dict)  # further ones, by column


def train_epoch(
    state: TrainState, steps: TrainingSteps, num_images: int, execution: Execution, should_stop: Callable[[], bool]
) -> Result | None:
    """One pass over all training images in a fresh order; None if `should_stop` returned true before a step.

    Raises:
        DivergedError: a loss is not finite; on a CPU at that step, on CUDA at the end of the epoch, because reading
            it earlier would wait for the device at every step.
    """
    config, device = state.config, execution.device
    sizes = batch_sizes(num_images, config.batch_size)
    first = state.epoch * len(sizes)
    order = torch.randperm(num_images, generator=state.generator, device=device)
    state.model.train()
    with execution.kernels(choose=True):
        steps.begin_epoch(order, [learning_rate(config, first + i, len(sizes)) for i in range(len(sizes))])
        for i, indices in enumerate(order.split(sizes)):
            if should_stop():
                return None
            loss = steps.step(i, indices)
            if device.type == "cpu" and loss is not None:
                _check_finite(loss.item(), state, f" at step {i + 1} of {len(sizes)}")
    result = Result(steps.loss_sum.item() / num_images, steps.num_correct.item() / num_images)
    _check_finite(result.loss, state, "")
    return result


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    execution: Execution,
    with_predictions: bool = False,
    metrics: Sequence[str] = (),
) -> Result:
    """Mean cross-entropy and accuracy on images without augmentation, in the precision of the training.

    `metrics` are further ones, of all logits together. The model runs uncompiled: its two further batch shapes are not worth two further compilations.
    """
    loss_sum = torch.zeros((), dtype=torch.float64, device=execution.device)
    num_correct = torch.zeros((), dtype=torch.int64, device=execution.device)
    collector = PredictionCollector() if with_predictions else None
    further = MetricCollector(metrics) if metrics else None
    model.eval()
    with execution.kernels(choose=False):
        batches = zip(split.images.split(EVALUATION_BATCH_SIZE), split.labels.split(EVALUATION_BATCH_SIZE), strict=True)
        for images, labels in batches:
            with execution.autocast():
                logits = model(preprocessing.evaluation(images))
            loss_sum += F.cross_entropy(logits.float(), labels, reduction="sum")
            num_correct += (logits.argmax(1) == labels).sum()
            if collector is not None:
                collector.add(logits.float(), labels)
            if further is not None:
                further.add(logits.float())
    predictions = None if collector is None else collector.collect(split)
    values = {} if further is None else further.compute(split.labels)
    return Result(loss_sum.item() / len(split.labels), num_correct.item() / len(split.labels), predictions, values)


def batch_sizes(num_images: int, batch_size: int) -> list[int]:
    """Sizes of an epoch's batches: the last is smaller, or larger by one image if that image would be alone.

    Batch norm cannot normalise the 1x1 map of a single image, and its statistics of any one image are poor.
    """
    num_full, rest = divmod(num_images, batch_size)
    if rest == 1 and num_full:
        return [batch_size] * (num_full - 1) + [batch_size + 1]
    return [batch_size] * num_full + [rest] * (rest > 0)


def _check_finite(loss: float, state: TrainState, where: str) -> None:
    if not math.isfinite(loss):
        raise DivergedError(
            f"the training loss is {loss} in epoch {state.epoch + 1}{where} (optimizer {state.config.optimizer}, "
            f"lr {state.config.lr:g}); a lower lr or warmup_epochs may keep it finite"
        )
