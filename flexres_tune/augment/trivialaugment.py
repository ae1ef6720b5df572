"""TrivialAugment: one operation per image, at one strength, both uniform (Müller and Hutter 2021, the wide space).

Operations and strengths are torchvision's TrivialAugmentWide. Deviation: images smaller than 32 pixels are shifted
by at most their own size, because the paper's 32 pixels would leave most of them black.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from flexres_tune.augment import policy
from flexres_tune.augment.operations import OPERATION_NAMES

_NUM_BINS = 31


def trivialaugment(images: Tensor, generator: torch.Generator) -> Tensor:
    """One operation per image: (B, 3, H, W) -> same."""
    space, magnitudes, signed = _tables(images.shape[-1], images.device)
    batch = len(images)
    operation = space[torch.randint(0, len(space), (batch,), generator=generator, device=images.device)]
    bins = torch.randint(0, _NUM_BINS, (batch,), generator=generator, device=images.device)
    magnitude = magnitudes[operation, bins] * policy.draw_sign(signed[operation], generator)
    return policy.on_levels(images, lambda levels: policy.apply_operations(levels, operation, magnitude))


def ranges(image_size: int) -> dict[str, policy.Range]:
    """The operations, each with its weakest and strongest magnitude; shifts are in pixels."""
    ranges = policy.magnitude_ranges(shear=0.99, shift=min(32, image_size), angle_deg=135, blend=0.99, num_bits=2)
    return {"identity": policy.Range(), **ranges, "autocontrast": policy.Range(), "equalize": policy.Range()}


@functools.cache  # copied to the device once: one copy per batch would make the host wait
def _tables(image_size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Operations to choose from, (14,); magnitudes, (operations, bins); which are signed, (operations,)."""
    row = ranges(image_size)
    space = torch.tensor([OPERATION_NAMES.index(name) for name in row])
    return tuple(table.to(device) for table in (space, policy.spread(row, _NUM_BINS), policy.signs(row)))
