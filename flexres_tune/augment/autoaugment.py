"""AutoAugment: one of 25 learned sub-policies per image (Cubuk et al. 2019, the policy found on CIFAR-10).

A sub-policy is two operations, each with a probability and a magnitude from 0 to 9. Magnitudes are torchvision's
(AutoAugmentPolicy.CIFAR10). Deviation from the paper, as in torchvision: the outside is black, not grey.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor

from flexres_tune.augment import policy
from flexres_tune.augment.operations import OPERATION_NAMES

_NUM_BINS = 10

# operation, probability, magnitude (0 if the operation has none); twice
POLICY = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("color", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
)


def autoaugment(images: Tensor, generator: torch.Generator) -> Tensor:
    """One sub-policy per image: (B, 3, H, W) -> same."""
    operations, probabilities, magnitudes, signed = _tables(images.shape[-1], images.device)
    batch = len(images)
    chosen = torch.randint(0, len(POLICY), (batch,), generator=generator, device=images.device)

    def change(levels: Tensor) -> Tensor:
        for stage in range(2):
            operation = operations[chosen, stage]
            magnitude = magnitudes[chosen, stage] * policy.draw_sign(signed[operation], generator)
            applied = torch.rand(batch, generator=generator, device=images.device) < probabilities[chosen, stage]
            levels = policy.apply_operations(levels, operation * applied, magnitude)  # row 0 is the identity
        return levels

    return policy.on_levels(images, change)


def ranges(image_size: int) -> dict[str, policy.Range]:
    """Values of magnitudes 0 and 9; shifts are in pixels."""
    return policy.magnitude_ranges(shear=0.3, shift=150 / 331 * image_size, angle_deg=30, blend=0.9, num_bits=4)


@functools.cache  # copied to the device once: one copy per batch would make the host wait
def _tables(image_size: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Operations, probabilities and magnitudes, (25, 2) each; and which operations are signed, (operations,)."""
    operations = torch.tensor([[OPERATION_NAMES.index(name) for name, _, _ in pair] for pair in POLICY])
    probabilities = torch.tensor([[probability for _, probability, _ in pair] for pair in POLICY])
    bins = torch.tensor([[magnitude for _, _, magnitude in pair] for pair in POLICY])
    magnitudes = policy.spread(ranges(image_size), _NUM_BINS)[operations, bins]
    return tuple(
        table.to(device) for table in (operations, probabilities, magnitudes, policy.signs(ranges(image_size)))
    )
