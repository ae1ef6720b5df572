"""Pipeline: a list of augmentations as one function of a batch. Adjacent geometric ones are sampled together."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from flexres_tune.augment.homography import compose, sample, sample_exact
from flexres_tune.augment.registry import Augmentation, Geometric, find_augmentation


def build_augmentation(names: Sequence[str], image_size: int) -> Augmentation:
    """The augmentations `names`, in that order, as f(images, generator) -> images.

    Images are (B, 3, H, W), float32 in [0, 1] or uint8, and the result has the same type; the input is not modified.
    All random numbers come from the generator, which must be on the images' device. The host does not wait for it.
    """
    rows = [find_augmentation(name) for name in names]
    steps: list[Augmentation] = []
    for geometric, run in groupby(rows, key=lambda row: isinstance(row, Geometric)):
        if geometric:
            steps.append(_geometric_step(list(run), image_size))
        else:
            steps.extend(row.apply for row in run)

    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        return functools.reduce(lambda batch, step: step(batch, generator), steps, images)

    return augment


def _geometric_step(rows: Sequence[Geometric], image_size: int) -> Augmentation:
    """One sampling for all of `rows`: a gather if all move images by whole pixels, otherwise an interpolation."""
    shifts = [row.max_shift(image_size) for row in rows if row.max_shift is not None]

    def step(images: Tensor, generator: torch.Generator) -> Tensor:
        homography = compose([row.draw(len(images), image_size, generator, images.device) for row in rows])
        if len(shifts) == len(rows):
            return sample_exact(images, homography, sum(shifts))
        return sample(images, homography)

    return step
