"""One training epoch and one evaluation: mean loss and accuracy. On CUDA the host waits for neither inside."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flexres_tune.augment import build_augmentation, mix_batch
from flexres_tune.datasets.images import ImageData, Split
from flexres_tune.errors import DivergedError
from flexres_tune.optim import learning_rate, set_learning_rate
from flexres_tune.records import Predictions
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training.execution import Execution
from flexres_tune.training.network import Network
from flexres_tune.training.predictions import PredictionCollector
from flexres_tune.training.state import TrainState
from flexres_tune.training.step import train_step

EVALUATION_BATCH_SIZE = 500  # larger is not faster, and the memory of a GPU may be shared by eight trials


@dataclass(frozen=True)
class Result:
    """Loss and accuracy of one pass over images."""

    loss: float  # mean over the images, nats
    accuracy: float  # fraction
    predictions: Predictions | None = None  # of each image, if they were asked for


class Preprocessing:
    """Turns uint8 images into the network's input, and labels into soft targets."""

    def __init__(self, config: TrialConfig, data: ImageData, execution: Execution):
        device = execution.device
        mean, std = (data.mean, data.std) if config.normalize else (torch.zeros(3), torch.ones(3))
        self._mean = mean.to(device).view(3, 1, 1)
        self._std = torch.where(std > 0, std, 1.0).to(device).view(3, 1, 1)  # 0: a constant channel
        self._layout = execution.memory_format
        self._augment = build_augmentation(config.augmentation, data.image_size)
        smoothing = config.label_smoothing  # Szegedy et al. 2016, Rethinking the Inception Architecture, section 7
        classes = torch.eye(data.num_classes, device=device)
        self._targets = classes * (1 - smoothing) + smoothing / data.num_classes  # (classes, classes), row per label
        self._alphas = {"mixup_alpha": config.mixup_alpha, "cutmix_alpha": config.cutmix_alpha}

    def training(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) uint8, (B,) -> (B, 3, H, W) float32, (B, classes): augmented, normalised, mixed."""
        normalised = self._normalise(self._augment(images.float().div_(255), generator))
        images, targets = mix_batch(normalised, self._targets[labels], generator, **self._alphas)
        return images.contiguous(memory_format=self._layout), targets

    def evaluation(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, 3, H, W) float32, normalised."""
        return self._normalise(images.float().div_(255)).contiguous(memory_format=self._layout)

    def _normalise(self, images: Tensor) -> Tensor:
        return (images - self._mean) / self._std


def train_epoch(
    state: TrainState,
    forward: Network,
    split: Split,
    preprocessing: Preprocessing,
    execution: Execution,
    should_stop: Callable[[], bool],
) -> Result | None:
    """One pass over all training images in a fresh order; None if `should_stop` returned true before a step.

    Accuracy compares the prediction with the largest soft target: of a mixed image, with the label of its larger part.

    Args:
        forward: state.model, or a faster form of it for full batches.

    Raises:
        DivergedError: a loss is not finite; on a CPU at that step, on CUDA at the end of the epoch, because reading
            it earlier would wait for the device at every step.
    """
    config, device = state.config, execution.device
    sizes = batch_sizes(len(split.labels), config.batch_size)
    order = torch.randperm(len(split.labels), generator=state.generator, device=device)
    loss_sum = torch.zeros((), dtype=torch.float64, device=device)
    num_correct = torch.zeros((), dtype=torch.int64, device=device)
    state.model.train()
    with execution.kernels(choose=True):
        for i, indices in enumerate(order.split(sizes)):
            if should_stop():
                return None
            set_learning_rate(state.optimizer, learning_rate(config, state.epoch * len(sizes) + i, len(sizes)))
            images, targets = preprocessing.training(split.images[indices], split.labels[indices], state.generator)
            if len(indices) == config.batch_size:
                loss, logits = train_step(state, forward, images, targets, execution)
            else:  # `forward` is prepared for one shape: the last, smaller batch would cost a second compilation
                with execution.kernels(choose=False):
                    loss, logits = train_step(state, state.model, images, targets, execution)
            loss_sum += loss * len(indices)
            num_correct += (logits.argmax(1) == targets.argmax(1)).sum()
            if device.type == "cpu":
                _check_finite(loss.item(), state, f" at step {i + 1} of {len(sizes)}")
    result = Result(loss_sum.item() / len(order), num_correct.item() / len(order))
    _check_finite(result.loss, state, "")
    return result


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    split: Split,
    preprocessing: Preprocessing,
    execution: Execution,
    with_predictions: bool = False,
) -> Result:
    """Mean cross-entropy and accuracy on images without augmentation, in the precision of the training.

    The model runs uncompiled: its two further batch shapes are not worth two further compilations.
    """
    loss_sum = torch.zeros((), dtype=torch.float64, device=execution.device)
    num_correct = torch.zeros((), dtype=torch.int64, device=execution.device)
    collector = PredictionCollector() if with_predictions else None
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
    predictions = None if collector is None else collector.collect(split)
    return Result(loss_sum.item() / len(split.labels), num_correct.item() / len(split.labels), predictions)


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
