"""The augmentations by name. To add one: a file in this folder, its row here, its name in spec/trial.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from flexres_tune.augment.autoaugment import autoaugment
from flexres_tune.augment.crop import draw_crop, max_shift
from flexres_tune.augment.cutout import cutout
from flexres_tune.augment.flip import draw_flip
from flexres_tune.augment.perspective import draw_perspective
from flexres_tune.augment.rotation import draw_rotation
from flexres_tune.augment.trivialaugment import trivialaugment
from flexres_tune.spec.own_code.source import CodeName


class Augmentation(Protocol):
    """What `augmentation: [crop, my_aug.py:solarize]` must name: a random change to a batch of images.

    It must not modify its input, must take all its random numbers from the generator, which is on the images' device,
    and must not wait for that device.
    """

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, 3, H, W) float32 in [0, 1] -> the same shape, type and range."""


@dataclass(frozen=True)
class Geometric:
    """An augmentation that moves pixels: draws one homography per image.

    `max_shift` is set for those that move images by whole pixels, to the most that they do (0 for a flip): if all of a
    run have it, the run is a gather and not an interpolation.
    """

    draw: Callable[[int, int, torch.Generator, torch.device], Tensor]  # batch, image_size -> (B, 3, 3)
    max_shift: Callable[[int], int] | None = None


@dataclass(frozen=True)
class Pixelwise:
    """Any other augmentation: a function from images to images."""

    apply: Augmentation


AUGMENTATIONS: Mapping[str, Geometric | Pixelwise] = {
    "crop": Geometric(draw_crop, max_shift),
    "flip": Geometric(draw_flip, lambda image_size: 0),
    "rotation": Geometric(draw_rotation),
    "perspective": Geometric(draw_perspective),
    "autoaugment": Pixelwise(autoaugment),
    "trivialaugment": Pixelwise(trivialaugment),
    "cutout": Pixelwise(cutout),
}


def find_augmentation(name: str) -> Geometric | Pixelwise:
    """The augmentation of a name, or of the user's own code."""
    return Pixelwise(name.load()) if isinstance(name, CodeName) else AUGMENTATIONS[name]
