"""Crop: zero padding of an eighth of the image on each side (4 at 32), then a random crop of the old size."""

from __future__ import annotations

import torch
from torch import Tensor

from flexres_tune.augment.homography import identity


def max_shift(image_size: int) -> int:
    """Padding in pixels."""
    return image_size // 8


def draw_crop(batch: int, image_size: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Shifts by whole pixels, uniform in both directions: (B, 3, 3)."""
    pad = max_shift(image_size)
    homography = identity(batch, device)
    homography[:, :2, 2] = torch.randint(-pad, pad + 1, (batch, 2), generator=generator, device=device).float()
    return homography
