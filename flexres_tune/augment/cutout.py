"""Cutout: one square of half the image's size is set to black (DeVries and Taylor 2017; 16x16 at 32).

As in the paper the centre is anywhere, so the square may extend beyond the edge. Deviation: the paper's code cuts after
normalisation, when 0 is the mean colour; here images are not normalised yet, and 0 is black, as in crop's padding.
"""

from __future__ import annotations

import torch
from torch import Tensor


def cutout(images: Tensor, generator: torch.Generator) -> Tensor:
    """One black square per image: (B, C, H, W) -> same."""
    size = images.shape[-1]
    centre = torch.randint(0, size, (2, len(images), 1), generator=generator, device=images.device)
    offset = torch.arange(size, device=images.device) - centre + size // 4  # (2, B, size); square: 0 .. size // 2 - 1
    inside = (offset >= 0) & (offset < size // 2)
    hole = inside[0, :, None, :, None] & inside[1, :, None, None, :]  # (B, 1, H, W)
    return images.masked_fill(hole, 0)
