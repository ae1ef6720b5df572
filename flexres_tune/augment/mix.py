"""Mixup and cutmix: mix each image with another of its batch, and their targets in the same proportion.

mixup (Zhang et al. 2018): x = lambda x_i + (1 - lambda) x_j, y = lambda y_i + (1 - lambda) y_j;
cutmix (Yun et al. 2019): a rectangle of x_i is replaced by x_j's, and lambda is the share of the area left of x_i.
lambda ~ Beta(alpha, alpha). As in both papers' code it is drawn once per batch, j is a permutation of the batch, and
cutmix has one rectangle per batch.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mix_batch(
    images: Tensor,
    targets: Tensor,
    generator: torch.Generator,
    mixup_alpha: float = 0.0,
    cutmix_alpha: float = 0.0,
) -> tuple[Tensor, Tensor]:
    """Mixed images (B, C, H, W) and soft targets (B, classes), both floating point.

    At most one alpha is above 0 (TrialConfig guarantees it). If both are 0, the same tensors are returned and
    nothing is drawn. The host does not wait for the device.
    """
    assert not (mixup_alpha and cutmix_alpha), "mixup and cutmix exclude each other"
    alpha = mixup_alpha or cutmix_alpha
    if not alpha:
        return images, targets
    weight = draw_beta(alpha, generator, images.device)
    partner = torch.randperm(len(images), generator=generator, device=images.device)
    if mixup_alpha:
        images = images[partner].lerp_(images, weight.to(images.dtype))
    else:
        hole = _draw_rectangle(weight, images, generator)
        images = torch.where(hole, images[partner], images)
        weight = 1 - hole.float().mean()  # the share left, after the image's edge has cut the rectangle
    return images, targets[partner].lerp_(targets, weight.to(targets.dtype))


def draw_beta(alpha: float, generator: torch.Generator, device: torch.device) -> Tensor:
    """One number from Beta(alpha, alpha), as G_1 / (G_1 + G_2) of Gamma(alpha) numbers: shape (), float32.

    The G are computed as logarithms, Gamma(alpha) = Gamma(alpha + 1) U^(1/alpha): for small alpha both would be 0 in
    floating point, and their ratio NaN. torch.distributions draws by the same function, but takes no generator.
    """
    shape = torch.full((2,), alpha + 1, dtype=torch.float64, device=device)
    uniform = torch.rand(2, generator=generator, dtype=torch.float64, device=device).clamp_(min=1e-300)
    log_gamma = torch._standard_gamma(shape, generator=generator).log() + uniform.log() / alpha
    return torch.sigmoid(log_gamma[0] - log_gamma[1]).float()


def _draw_rectangle(weight: Tensor, images: Tensor, generator: torch.Generator) -> Tensor:
    """True in a rectangle of the image's proportions and (1 - weight) of its area, cut by its edge: (H, W)."""
    share = (1 - weight).sqrt()

    def inside(size: int) -> Tensor:
        half = (size * share).floor() // 2
        centre = torch.randint(0, size, (), generator=generator, device=images.device)
        position = torch.arange(size, device=images.device)
        return (position >= centre - half) & (position < centre + half)

    return inside(images.shape[2])[:, None] & inside(images.shape[3])
