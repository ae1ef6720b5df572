"""Geometric changes as 3x3 homographies, one per image: composed as matrices, so that an image is sampled once.

A homography maps output to input: out(p) = in(H p), p = (x, y, 1) in pixels from the image's centre, x to the right
and y down. First A, then B is therefore A @ B. Outside the input the image is black. Composed changes differ from
successive ones in one respect: what an earlier change moved out of the frame can come back.

Products are written elementwise: under autocast or TF32 a matrix product would keep 8 to 11 bits, and samples would
miss their pixels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def identity(batch: int, device: torch.device) -> Tensor:
    """Homographies that change nothing: (B, 3, 3) float32."""
    return torch.eye(3, device=device).repeat(batch, 1, 1)


def compose(homographies: Sequence[Tensor]) -> Tensor:
    """The product of (B, 3, 3) homographies, in the order in which their changes are made."""
    product = homographies[0]
    for nxt in homographies[1:]:
        product = (product[:, :, :, None] * nxt[:, None, :, :]).sum(2)
    return product


def sample(images: Tensor, homography: Tensor, mode: str = "bilinear") -> Tensor:
    """The images under (B, 3, 3) homographies; `mode` is bilinear or nearest. uint8 images stay uint8, rounded."""
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) - (width - 1) / 2  # (W,)
    y = (torch.arange(height, device=images.device) - (height - 1) / 2)[:, None]  # (H, 1)
    m = homography[:, :, :, None, None]  # (B, 3, 3, 1, 1)
    u, v, w = (m[:, i, 0] * x + m[:, i, 1] * y + m[:, i, 2] for i in range(3))  # (B, H, W) each
    grid = torch.stack([u / w * (2 / width), v / w * (2 / height)], dim=-1)  # -1 and 1 are the outer pixels' edges
    # a pixel on the horizon of a perspective has w = 0, which gives NaN: it is outside, as everything beyond ±1 is
    grid = grid.nan_to_num_(nan=4.0).clamp_(-4, 4)
    out = F.grid_sample(images.to(grid.dtype), grid, mode=mode, padding_mode="zeros", align_corners=False)
    if images.dtype == torch.uint8:
        return out.round_().clamp_(0, 255).to(torch.uint8)
    return out.clamp_(0, 1).to(images.dtype)  # the weights of four neighbours can sum to a little over 1


def sample_exact(images: Tensor, homography: Tensor, max_shift: int) -> Tensor:
    """The images under shifts by whole pixels, at most `max_shift`, and horizontal flips: a gather, no interpolation.

    Bitwise equal to zero padding, cropping and flipping, and several times as fast as `sample`.
    """
    batch, channels, height, width = images.shape
    padded = F.pad(images, [max_shift] * 4).flatten(2)  # (B, C, (H + 2 max_shift) (W + 2 max_shift))
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    column = (x * homography[:, 0, :1] + homography[:, 0, 2:] + (width - 1) / 2).long() + max_shift  # (B, W)
    row = torch.arange(height, device=images.device) + homography[:, 1, 2:].long() + max_shift  # (B, H)
    index = (row * (width + 2 * max_shift))[:, :, None] + column[:, None, :]
    return padded.gather(2, index.view(batch, 1, -1).expand(-1, channels, -1)).view(images.shape)
