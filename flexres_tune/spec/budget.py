"""Whether a model fits its budget and its images, without listing every block.

parameters = those of the model with at most two blocks a layer + (B_i - 2) * those of layer i's second block,
because a layer's blocks after the first are alike. So a hundred thousand blocks cost no more than two.
"""

from __future__ import annotations

from typing import Protocol

from flexres_tune.errors import ArchitectureError
from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.document import Finding
from flexres_tune.spec.layers import list_layers


class DataShape(Protocol):
    """What a model has to know of a data set."""

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier."""


def count_quickly(architecture: Architecture, num_classes: int = 10, image_size: int = 32) -> int:
    """Exact number of trainable parameters, as `count_parameters` gives it.

    Raises:
        ArchitectureError: the pool window does not fit.
    """
    clipped = _clip(architecture)
    layers = list_layers(clipped, num_classes, image_size)
    total = sum(layer.num_parameters for layer in layers)
    for i, (num_blocks, num_listed) in enumerate(zip(architecture.blocks, clipped.blocks, strict=True), 1):
        second = sum(layer.num_parameters for layer in layers if layer.name.startswith(f"layer{i}.1."))
        total += (num_blocks - num_listed) * second
    return total


def check_budget(architecture: Architecture, dataset: str, shape: DataShape, budget: int) -> tuple[int, list[Finding]]:
    """Number of parameters, and what is wrong; paths start with the trial's key. (0, ...) where it cannot be built."""
    try:
        count = count_quickly(architecture, shape.num_classes, shape.image_size)
    except ArchitectureError as error:
        images = f"{dataset} has {shape.image_size}x{shape.image_size} images"
        return 0, [(("model", "pool_size"), f"{error}; {images}")]
    if count <= budget:
        return count, []
    heaviest = max(
        list_layers(_clip(architecture), shape.num_classes, shape.image_size), key=lambda layer: layer.num_parameters
    )
    message = (
        f"a model must have at most max_parameters={budget:,}, but {architecture.name} has {count:,}, "
        f"{heaviest.num_parameters:,} of them in {heaviest.name}; use fewer blocks or channels"
    )
    return count, [(("model",), message)]


def _clip(architecture: Architecture) -> Architecture:
    blocks = tuple(min(num_blocks, 2) for num_blocks in architecture.blocks)
    return architecture.model_copy(update={"blocks": blocks})
