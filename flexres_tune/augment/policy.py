"""Applies one of many operations per image: the part that AutoAugment and TrivialAugment share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from flexres_tune.augment.operations import OPERATION_NAMES, OPERATIONS


@dataclass(frozen=True)
class Range:
    """Magnitudes of one operation, from weakest to strongest; a signed one is negated with probability 1/2."""

    low: float = 0.0
    high: float = 0.0
    signed: bool = False


def magnitude_ranges(shear: float, shift: float, angle_deg: float, blend: float, num_bits: int) -> dict[str, Range]:
    """Ranges of the operations that have a magnitude, up to these: shifts in pixels, the bits that posterize keeps."""
    signed = dict.fromkeys(("shear_x", "shear_y"), shear) | dict.fromkeys(("translate_x", "translate_y"), shift)
    signed |= {"rotate": angle_deg} | dict.fromkeys(("brightness", "color", "contrast", "sharpness"), blend)
    ranges = {name: Range(0, high, signed=True) for name, high in signed.items()}
    return ranges | {"posterize": Range(8, num_bits), "solarize": Range(255, 0)}


def spread(ranges: Mapping[str, Range], num_bins: int) -> Tensor:
    """Magnitudes by operation and bin, in the order of OPERATIONS; 0 if `ranges` has no row: (operations, bins)."""
    table = torch.zeros(len(OPERATIONS), num_bins)
    for name, row in ranges.items():
        table[OPERATION_NAMES.index(name)] = torch.linspace(row.low, row.high, num_bins)
    return table


def signs(ranges: Mapping[str, Range]) -> Tensor:
    """Whether an operation's magnitude has a sign, in the order of OPERATIONS: (operations,) bool."""
    return torch.tensor([name in ranges and ranges[name].signed for name in OPERATIONS])


def draw_sign(signed: Tensor, generator: torch.Generator) -> Tensor:
    """-1 or 1 with probability 1/2 if `signed`, otherwise 1: (B,) float32."""
    negative = torch.randint(0, 2, signed.shape, generator=generator, device=signed.device).bool()
    return 1.0 - 2.0 * (negative & signed)


def on_levels(images: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply `change` to the images as uint8, for which the policies are defined; the result has the images' type."""
    if images.dtype == torch.uint8:
        return change(images)
    return change((images * 255).round().to(torch.uint8)).to(images.dtype) / 255


def apply_operations(images: Tensor, operation: Tensor, magnitude: Tensor, dense: bool | None = None) -> Tensor:
    """Apply to each uint8 image its own operation (an index of OPERATIONS) at its own magnitude, both (B,).

    On a CPU an operation is computed for the images that drew it. On any other device (`dense`) it is computed for all,
    and a mask selects: to learn which images drew it the host would have to wait, which costs more than the work.
    """
    if dense is None:
        dense = images.device.type != "cpu"
    out = images.clone()
    for index, change in enumerate(OPERATIONS.values()):
        if change is None:
            continue
        if dense:
            out = torch.where((operation == index)[:, None, None, None], change(images, magnitude), out)
        else:
            rows = (operation == index).nonzero()[:, 0]
            if len(rows):
                out[rows] = change(images[rows], magnitude[rows])
    return out
