"""Sources of images, one file per source. Importing this package does not import torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flexres_tune.datasets.arrays import HeldOut
from flexres_tune.datasets.sources import DataShape, describe_dataset
from flexres_tune.errors import DataError
from flexres_tune.spec.trial import NO_SPLIT

if TYPE_CHECKING:
    import torch

    from flexres_tune.datasets.images import ImageData
    from flexres_tune.spec import TrialConfig

__all__ = ["DataShape", "HeldOut", "describe_dataset", "load_dataset", "load_trial_data", "split_sizes"]


def split_sizes(config: TrialConfig) -> str:
    """`45,000 training, 5,000 validation, 10,000 test images`: what a trial uses of its data set.

    Raises:
        DataError: the data set is missing or malformed, or has fewer images than the trial asks for.
    """
    shape = describe_dataset(config.images)
    num_rows = shape.num_train + shape.num_val
    num_val = config.num_val_images or shape.num_val
    if num_val >= num_rows:
        raise DataError(
            f"num_val_images must leave images to train on, but got {num_val:,} of the {num_rows:,} images of "
            f"{config.dataset} that are not for testing; use fewer"
        )
    num_train = config.num_train_images or num_rows - num_val
    if num_train > num_rows - num_val:
        raise DataError(
            f"num_train_images must be at most the {num_rows - num_val:,} training images of {config.dataset} (the "
            f"{num_val:,} validation images are not counted), but got {num_train:,}; leave it out for all"
        )
    if config.val_split == NO_SPLIT:
        num_train, num_val = num_train + num_val, 0
    test = f"{shape.num_test:,} test" if shape.num_test else "no test"
    return f"{num_train:,} training, {num_val:,} validation, {test} images"


def load_dataset(
    dataset: str, device: torch.device, num_train_images: int | None = None, held_out: HeldOut | None = None
) -> ImageData:
    """Images of `dataset` on `device`; a second call shares the first one's tensors.

    Args:
        dataset: a data set's name, with its options as in TrialConfig.images.
        num_train_images: use only the first n training images; validation and test images stay the same.
        held_out: other validation images than the data set's own; then nothing is shared.

    Raises:
        DataError: images are missing or damaged, or fewer than `num_train_images`, or none would be left to train on.
    """
    from flexres_tune.datasets import images  # not above: checking a sweep need not wait for torch

    return images.load_dataset(dataset, device, num_train_images, held_out or HeldOut())


def load_trial_data(config: TrialConfig, device: torch.device) -> ImageData:
    """The images that a trial trains on, is validated on and is tested on. Raises as load_dataset."""
    held_out = HeldOut(config.val_split, config.num_val_images, config.seed)
    return load_dataset(config.images, device, config.num_train_images, held_out)
