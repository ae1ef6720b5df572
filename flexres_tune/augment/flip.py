"""Flip: exchanges left and right with probability 1/2."""

from __future__ import annotations

import torch
from torch import Tensor

from flexres_tune.augment.homography import identity


def draw_flip(batch: int, image_size: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Horizontal mirrors or identities: (B, 3, 3)."""
    homography = identity(batch, device)
    homography[:, 0, 0] = 1.0 - 2.0 * torch.randint(0, 2, (batch,), generator=generator, device=device)
    return homography
