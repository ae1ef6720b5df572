"""The operations that AutoAugment and TrivialAugment choose from, on uint8 images, with one magnitude per image.

They equal torchvision's (transforms.v2.functional on tensors, nearest neighbour, black outside), which take one
magnitude per batch. Blends are computed as Pillow does, a + f (b - a), so that equal pixels stay equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from flexres_tune.augment.homography import identity, sample
from flexres_tune.augment.rotation import rotation

Operation = Callable[[Tensor, Tensor], Tensor]  # (B, 3, H, W) uint8, (B,) float32 -> (B, 3, H, W) uint8


def shear_x(images: Tensor, slope: Tensor) -> Tensor:
    """Rows move by `slope` times their distance from the top edge."""
    return sample(images, _affine(images, xy=slope, dx=slope * (images.shape[2] / 2)), mode="nearest")


def shear_y(images: Tensor, slope: Tensor) -> Tensor:
    """Columns move by `slope` times their distance from the left edge."""
    return sample(images, _affine(images, yx=slope, dy=slope * (images.shape[3] / 2)), mode="nearest")


def translate_x(images: Tensor, pixels: Tensor) -> Tensor:
    """Move to the right by whole pixels."""
    return sample(images, _affine(images, dx=-pixels.trunc()), mode="nearest")


def translate_y(images: Tensor, pixels: Tensor) -> Tensor:
    """Move down by whole pixels."""
    return sample(images, _affine(images, dy=-pixels.trunc()), mode="nearest")


def rotate(images: Tensor, angle_deg: Tensor) -> Tensor:
    """Rotate about the centre, counter-clockwise."""
    return sample(images, rotation(angle_deg), mode="nearest")


def brightness(images: Tensor, change: Tensor) -> Tensor:
    """Blend with black by a factor of 1 + change."""
    return _levels(images * (1 + _each(change)))


def color(images: Tensor, change: Tensor) -> Tensor:
    """Blend with the image's own grey by a factor of 1 + change."""
    return _blend(_grey(images), images, 1 + change)


def contrast(images: Tensor, change: Tensor) -> Tensor:
    """Blend with the image's mean grey by a factor of 1 + change."""
    return _blend(_grey(images).mean((1, 2, 3), keepdim=True), images, 1 + change)


def sharpness(images: Tensor, change: Tensor) -> Tensor:
    """Blend with the image smoothed by [[1, 1, 1], [1, 5, 1], [1, 1, 1]] / 13 by 1 + change; the border is kept."""
    x = images.float()
    rows = x[:, :, :-2] + x[:, :, 1:-1] + x[:, :, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:]  # not a convolution: autocast would make it 8 bits
    smooth = x.clone()
    smooth[:, :, 1:-1, 1:-1] = ((sums + 4 * x[:, :, 1:-1, 1:-1]) / 13).round()
    return _blend(smooth, images, 1 + change)


def posterize(images: Tensor, bits: Tensor) -> Tensor:
    """Keep the first `bits` of each level's eight."""
    lost = (8 - _each(bits).round()).to(torch.uint8)
    return (images >> lost) << lost


def solarize(images: Tensor, threshold: Tensor) -> Tensor:
    """Invert the levels of at least `threshold` (0 to 255)."""
    return torch.where(images >= _each(threshold), ~images, images)


def autocontrast(images: Tensor, unused: Tensor) -> Tensor:
    """Stretch each channel to 0..255."""
    x = images.float()
    low, high = x.amin((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
    scale = (high - low) * (1 / 255)
    return torch.where(high > low, _levels((x - low) / scale), images)


def equalize(images: Tensor, unused: Tensor) -> Tensor:
    """Make each channel's histogram flat."""
    from torchvision.transforms.v2.functional import equalize  # not above: only the policies need this slow import

    return equalize(images)


def invert(images: Tensor, unused: Tensor) -> Tensor:
    """255 - level."""
    return ~images


# row 0 is an operation that is not applied
_FUNCTIONS = (
    *(shear_x, shear_y, translate_x, translate_y, rotate, brightness, color, contrast, sharpness),
    *(posterize, solarize, autocontrast, equalize, invert),
)
OPERATIONS: Mapping[str, Operation | None] = {"identity": None} | {each.__name__: each for each in _FUNCTIONS}
OPERATION_NAMES = tuple(OPERATIONS)


def _each(magnitude: Tensor) -> Tensor:
    return magnitude[:, None, None, None]


def _levels(x: Tensor) -> Tensor:
    """Clip to 0..255 and round down to whole levels, as torchvision and Pillow do."""
    return x.clamp(0, 255).to(torch.uint8)


def _blend(degenerate: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    return _levels(degenerate + _each(factor) * (images - degenerate))


def _grey(images: Tensor) -> Tensor:
    """Luma in whole levels: (B, 1, H, W) float32."""
    red, green, blue = images.float().unbind(1)
    return (0.2989 * red + 0.587 * green + 0.114 * blue).floor_()[:, None]


def _affine(images: Tensor, **entries: Tensor) -> Tensor:
    """Identities with these entries replaced; xy is the factor of y in x, dx the shift of x: (B, 3, 3)."""
    homography = identity(len(images), images.device)
    for name, value in entries.items():
        row, column = {"xy": (0, 1), "yx": (1, 0), "dx": (0, 2), "dy": (1, 2)}[name]
        homography[:, row, column] = value
    return homography
