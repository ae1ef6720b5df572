"""Augmentation: random changes to a batch of images, on the images' device, drawn separately for every image."""

from flexres_tune.augment.mix import mix_batch
from flexres_tune.augment.pipeline import Augmentation, build_augmentation
from flexres_tune.augment.registry import AUGMENTATIONS

__all__ = ["AUGMENTATIONS", "Augmentation", "build_augmentation", "mix_batch"]
