"""Further metrics on the validation images, from the logits of an epoch's evaluation: `metrics` of a sweep file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from flexres_tune.errors import FlexResError
from flexres_tune.spec.metrics import metric_column
from flexres_tune.spec.own_code.source import CodeError, CodeName, describe_error

_NUM_BINS = 15  # of the calibration error, as in the paper


class ValidationMetric(Protocol):
    """What `metrics: [my_metrics.py:f1]` must name: a function of all predictions on the validation images.

    It is called once per epoch, without gradients, and must not modify its arguments.
    """

    def __call__(self, logits: Tensor, labels: Tensor) -> float | Tensor:
        """One number, of logits (N, classes), float32, and labels (N,), int64, both on the trial's device."""


def top5(logits: Tensor, labels: Tensor) -> Tensor:
    """Share of images whose class is among the five with the highest logits; of five classes or fewer it is 1."""
    ranked = logits.topk(min(5, logits.shape[1]), dim=1).indices  # (N, 5)
    return (ranked == labels[:, None]).any(1).double().mean()


def f1(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the classes of 2 TP / (2 TP + FP + FN); a class that is neither predicted nor present is left out."""
    true, predicted, actual = _counts(logits, labels)
    counted = (predicted + actual) > 0
    return (2 * true / (predicted + actual).clamp(min=1)).sum() / counted.sum()


def balanced_accuracy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean over the classes of their accuracies; a class without images is left out."""
    true, _, actual = _counts(logits, labels)
    return (true / actual.clamp(min=1)).sum() / (actual > 0).sum()


def ece(logits: Tensor, labels: Tensor) -> Tensor:
    """Expected calibration error: mean of |accuracy - confidence| over 15 bins of confidence, weighted by their images.

    Naeini et al. (2015), Obtaining Well Calibrated Probabilities Using Bayesian Binning; the bins are those of Guo et al.
    (2017), On Calibration of Modern Neural Networks: of equal width, open below.
    """
    confidence, predicted = logits.softmax(1).max(1)  # (N,)
    bins = (confidence.double() * _NUM_BINS).ceil().long().clamp(1, _NUM_BINS) - 1
    difference = torch.zeros(_NUM_BINS, dtype=torch.float64, device=logits.device)
    difference.scatter_add_(0, bins, (predicted == labels).double() - confidence.double())
    return difference.abs().sum() / len(labels)


METRICS: Mapping[str, ValidationMetric] = {
    "top5": top5,
    "f1": f1,
    "balanced_accuracy": balanced_accuracy,
    "ece": ece,
}


class MetricCollector:
    """Collects the logits of an evaluation, and computes metrics of all of them at its end."""

    def __init__(self, names: Sequence[str]):
        self._names = names
        self._logits: list[Tensor] = []

    def add(self, logits: Tensor) -> None:
        """(B, classes) float32 of the next B images."""
        self._logits.append(logits)

    def compute(self, labels: Tensor) -> dict[str, float]:
        """Values by column; one that is not finite is left out.

        Raises:
            CodeError: own code raises an error, or returns no number.
        """
        logits = torch.cat(self._logits)
        found = {metric_column(name): _compute(name, logits, labels) for name in self._names}
        return {column: value for column, value in found.items() if math.isfinite(value)}


def _compute(name: str, logits: Tensor, labels: Tensor) -> float:
    if not isinstance(name, CodeName):
        return float(METRICS[name](logits, labels))
    metric: Callable = name.load()
    try:
        return float(metric(logits, labels))
    except FlexResError:
        raise
    except Exception as error:
        raise CodeError(f"{name} must give one number, but raised {describe_error(error)}") from error


def _counts(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Per class: images that were predicted right, predicted as it, and of it; (classes,) float64."""
    num_classes, predicted = logits.shape[1], logits.argmax(1)
    confusion = torch.zeros(num_classes * num_classes, dtype=torch.float64, device=logits.device)
    confusion.scatter_add_(0, labels * num_classes + predicted, torch.ones_like(labels, dtype=torch.float64))
    confusion = confusion.view(num_classes, num_classes)
    return confusion.diagonal(), confusion.sum(0), confusion.sum(1)
