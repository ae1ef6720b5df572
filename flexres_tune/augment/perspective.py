"""Perspective: each corner moves inward by up to a quarter of the image, with probability 1/2.

The draws are those of torchvision's RandomPerspective(distortion_scale=0.5, p=0.5). Deviation: the homography
is not the solution of eight equations, because the square-to-quadrilateral map has a closed form (Heckbert 1989,
Fundamentals of Texture Mapping and Image Warping, section 2.2.3), and its adjugate is the inverse, up to a scale that
does not matter.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from flexres_tune.augment.homography import compose, identity

_DISTORTION = 0.5
_PROBABILITY = 0.5


def draw_perspective(batch: int, image_size: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Random perspective changes, or identities: (B, 3, 3)."""
    reach = int(_DISTORTION * (image_size // 2))
    inward = torch.randint(0, reach + 1, (batch, 4, 2), generator=generator, device=device).float()
    applied = torch.rand(batch, generator=generator, device=device) < _PROBABILITY
    homography = perspective(_corners(image_size, device) + inward * _inward(device), image_size)
    return torch.where(applied[:, None, None], homography, identity(batch, device))


@functools.cache  # copied to the device once: one copy per batch would make the host wait
def _inward(device: torch.device) -> Tensor:
    """Direction towards the middle from each corner, from the top left, clockwise: (4, 2)."""
    return torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]], device=device)


def _corners(image_size: int, device: torch.device) -> Tensor:
    """Corners from the top left, clockwise, in pixels from the top left: (4, 2)."""
    return (1 - _inward(device)) / 2 * (image_size - 1)


def perspective(corners: Tensor, image_size: int) -> Tensor:
    """Homographies that move the image's corners to `corners` (B, 4, 2), in pixels from the top left: (B, 3, 3)."""
    centre = image_size / 2  # torchvision measures corners from the outer edge of the first pixel
    to_image = _square_to(_corners(image_size, corners.device)[None] - centre)
    return compose([to_image.expand(len(corners), 3, 3), _adjugate(_square_to(corners - centre))])


def _square_to(quad: Tensor) -> Tensor:
    """Maps of the unit square to quadrilaterals (B, 4, 2), given clockwise from the image of (0, 0): (B, 3, 3)."""
    p0, p1, p2, p3 = quad.unbind(1)  # (B, 2) each
    s, d1, d2 = p0 - p1 + p2 - p3, p1 - p2, p3 - p2
    determinant = d1[:, 0] * d2[:, 1] - d1[:, 1] * d2[:, 0]
    g = ((s[:, 0] * d2[:, 1] - s[:, 1] * d2[:, 0]) / determinant)[:, None]
    h = ((d1[:, 0] * s[:, 1] - d1[:, 1] * s[:, 0]) / determinant)[:, None]
    upper = torch.stack([p1 - p0 + g * p1, p3 - p0 + h * p3, p0], dim=2)  # (B, 2, 3)
    return torch.cat([upper, torch.stack([g, h, torch.ones_like(g)], dim=2)], dim=1)


def _adjugate(m: Tensor) -> Tensor:
    """Inverse times determinant of (B, 3, 3)."""
    a, b, c = m.unbind(2)  # columns
    return torch.stack([b.cross(c, dim=1), c.cross(a, dim=1), a.cross(b, dim=1)], dim=1)
