"""Rotation about the centre by an angle uniform in ±5°, bilinear, black outside.

±5° is the `rotation5` of the published report on these networks ("FlexRes: Flexible ResNet with Reduced Parameters").
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from flexres_tune.augment.homography import identity

MAX_ANGLE_DEG = 5.0


def draw_rotation(batch: int, image_size: int, generator: torch.Generator, device: torch.device) -> Tensor:
    """Random rotations: (B, 3, 3)."""
    uniform = torch.rand(batch, generator=generator, device=device)
    return rotation((2 * uniform - 1) * MAX_ANGLE_DEG)


def rotation(angle_deg: Tensor) -> Tensor:
    """Rotations by (B,) angles, counter-clockwise as in torchvision: (B, 3, 3)."""
    angle = angle_deg * (math.pi / 180)
    homography = identity(len(angle), angle.device)
    homography[:, 0, 0] = homography[:, 1, 1] = angle.cos()
    homography[:, 1, 0] = angle.sin()
    homography[:, 0, 1] = -angle.sin()
    return homography
