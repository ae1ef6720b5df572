"""Sources of images, one file per source. Importing this package does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexres_tune.datasets.sources import DataShape, describe_dataset

if TYPE_CHECKING:
    import torch

    from flexres_tune.datasets.images import ImageData

__all__ = ["DataShape", "describe_dataset", "load_dataset"]


def load_dataset(dataset: str, device: torch.device, num_train_images: int | None = None) -> ImageData:
    """Images of `dataset` on `device`; a second call shares the first one's tensors.

    Args:
        dataset: digits, cifar10 or parquet:PATH.
        num_train_images: use only the first n training images; validation and test images stay the same.

    Raises:
        DataError: images are missing or damaged, or fewer than `num_train_images`.
    """
    from flexres_tune.datasets import images  # not above: checking a sweep need not wait for torch

    return images.load_dataset(dataset, device, num_train_images)
