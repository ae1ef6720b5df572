"""Figure: median and range of n measurements. Bench: the figures of one benchmark, and the machine."""

from __future__ import annotations

import contextlib
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

INVENTED_METRICS = {  # of epochs that are not trained; accuracies are the caller's
    "train_loss": 1.0,
    "val_loss": 1.0,
    "lr": 0.1,
    "epoch_seconds": 0.01,
    "images_per_second": 1000.0,
}


@dataclass(frozen=True)
class Figure:
    """One measured quantity."""

    name: str
    unit: str
    median: float
    low: float
    high: float
    n: int

    @classmethod
    def of(cls, name: str, unit: str, values: Sequence[float]) -> Figure:
        """Median and range of repeated measurements."""
        return cls(name, unit, statistics.median(values), min(values), max(values), len(values))


@dataclass(frozen=True)
class Bench:
    """One benchmark's outcome."""

    title: str
    figures: tuple[Figure, ...]
    notes: tuple[str, ...] = ()
    machine: str = field(default_factory=lambda: describe_machine())


def describe_machine() -> str:
    """Device, cores and versions, without which a figure means nothing."""
    import torch  # not above: its memory must not count in what is measured before

    from flexres_tune.training.device import device_name

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    cores = "" if device.type == "cuda" else f", {os.cpu_count()} cores"
    return (
        f"{device_name(device)}{cores}, torch {torch.__version__}, {_ray_version()}Python {platform.python_version()}"
    )


def _ray_version() -> str:
    with contextlib.suppress(PackageNotFoundError):  # training needs no ray
        return f"ray {version('ray')}, "
    return ""


def ratios(numerators: Sequence[float], denominators: Sequence[float]) -> list[float]:
    """Ratios pair by pair. The two of a pair are measured one after the other, so a slow minute affects both."""
    return [a / b for a, b in zip(numerators, denominators, strict=True)]
