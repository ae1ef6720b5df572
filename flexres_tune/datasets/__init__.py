"""Where images come from, one file a source. Importing this package imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexres_tune.datasets.sources import DataShape, describe_dataset

if TYPE_CHECKING:
    import torch

    from flexres_tune.datasets.images import ImageData

__all__ = ["DataShape", "describe_dataset", "load_dataset"]


def load_dataset(dataset: str, device: torch.device, num_train_images: int | None = None) -> ImageData:
    """Images of `dataset` on `device`; the same arguments give the same object again.

    `dataset` is digits, cifar10 or parquet:PATH. `num_train_images` keeps the first n training images; validation
    and test stay whole. Raises DataError where images are missing, damaged or fewer than asked for.
    """
    from flexres_tune.datasets import images  # here, so that checking a sweep does not wait for torch

    return images.load_dataset(dataset, device, num_train_images)
