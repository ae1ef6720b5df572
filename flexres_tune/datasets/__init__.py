"""Sources of images, one file per source. Importing this package does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexres_tune.datasets.arrays import HeldOut
from flexres_tune.datasets.sources import DataShape, describe_dataset

if TYPE_CHECKING:
    import torch

    from flexres_tune.datasets.images import ImageData
    from flexres_tune.spec import TrialConfig

__all__ = ["DataShape", "HeldOut", "describe_dataset", "load_dataset", "load_trial_data"]


def load_dataset(
    dataset: str, device: torch.device, num_train_images: int | None = None, held_out: HeldOut | None = None
) -> ImageData:
    """Images of `dataset` on `device`; a second call shares the first one's tensors.

    Args:
        dataset: digits, cifar10 or parquet:PATH.
        num_train_images: use only the first n training images; validation and test images stay the same.
        held_out: other validation images than the data set's own; then nothing is shared.

    Raises:
        DataError: images are missing or damaged, or fewer than `num_train_images`, or none would be left to train on.
    """
    from flexres_tune.datasets import images  # not above: checking a sweep need not wait for torch

    return images.load_dataset(dataset, device, num_train_images, held_out or HeldOut())


def load_trial_data(config: TrialConfig, device: torch.device) -> ImageData:
    """The images that a trial trains on, is validated on and is tested on. Raises as load_dataset."""
    held_out = HeldOut(config.val_split, config.val_images, config.seed)
    return load_dataset(config.dataset, device, config.num_train_images, held_out)
