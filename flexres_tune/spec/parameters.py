"""An architecture parsed, and its parameters and FLOPs counted layer by layer without torch; the budget check.

parameters(conv) = F * F * C_in * C_out, parameters(BN) = 2 C, parameters(linear) = (in + 1) * out.
FLOPs count a multiply and an add as two, for the forward pass of one image; BN, ReLU and pooling are left out, as
is usual (they are under 2 % of resnet22_2).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

from pydantic import ValidationError

from flexres_tune.errors import ArchitectureError, Problem
from flexres_tune.spec.architecture import Architecture, preset
from flexres_tune.spec.document.document import Finding
from flexres_tune.spec.own_code.model import OwnModel, measure_model
from flexres_tune.spec.own_code.source import CodeError
from flexres_tune.text import did_you_mean

EXPANSION = 4  # output channels of a bottleneck block over its C_i (He et al. 2016, Deep Residual Learning)

IMAGE_CHANNELS = 3  # every data set is brought to RGB


class InputShape(Protocol):
    """What a model must know of a data set."""

    @property
    def image_size(self) -> int:
        """Height and width in pixels."""

    @property
    def num_classes(self) -> int:
        """Outputs of the classifier."""


@dataclass(frozen=True)
class Layer:
    """One convolution (with its batch norm), linear layer or pool, and the shape of its output."""

    name: str
    shape: tuple[int, ...]  # (C, H, W), or (features,) in the head
    num_parameters: int
    flops: int  # forward, one image


def parse_architecture(architecture: str | Mapping[str, Any] | Architecture) -> Architecture:
    """Architecture from a preset's name or a mapping with the presets' keys.

    A mapping may state `num_parameters`, as the presets do; it is checked for 32x32 images and ten classes.

    Raises:
        ArchitectureError: unknown name or key, a value out of range, or another count than the stated one.
    """
    if isinstance(architecture, Architecture):
        return architecture
    mapping = preset(architecture) if isinstance(architecture, str) else dict(architecture)
    stated = mapping.pop("num_parameters", None)
    try:
        parsed = Architecture.model_validate(mapping)
    except ValidationError as error:
        problems = []
        for item in error.errors():
            key = ".".join(map(str, item["loc"]))
            message = str(item.get("ctx", {}).get("error", item["msg"]))
            if item["type"] == "extra_forbidden":
                message = f"no such field{did_you_mean(key, Architecture.model_fields)}"
            problems.append(Problem(key, message))
        raise ArchitectureError("; ".join(map(str, problems))) from None
    if stated is not None and (counted := count_parameters(parsed)) != stated:
        raise ArchitectureError(f"num_parameters must be what the architecture has, {counted:,}, but states {stated:,}")
    return parsed


def count_parameters(
    architecture: str | Mapping[str, Any] | Architecture | OwnModel, num_classes: int = 10, image_size: int = 32
) -> int:
    """Exact number of trainable parameters.

    All blocks of a layer after its first are alike, so at most two per layer are listed: the time does not depend on
    the number of blocks.

    Args:
        architecture: a preset's name, a mapping with the presets' keys, an Architecture or an OwnModel.
        num_classes: outputs of the classifier.
        image_size: height and width of the (square, RGB) images in pixels.

    Raises:
        ArchitectureError: the architecture is not valid, or its pool window does not fit the last map.
        CodeError: an own model cannot be built.
    """
    if isinstance(architecture, OwnModel):
        return measure_model(architecture, num_classes, image_size).num_parameters
    whole = parse_architecture(architecture)
    short = _shortened(whole)
    layers = list_layers(short, num_classes, image_size)
    total = sum(layer.num_parameters for layer in layers)
    for i, (num_blocks, num_listed) in enumerate(zip(whole.blocks, short.blocks, strict=True), 1):
        if num_blocks > num_listed:
            second = sum(layer.num_parameters for layer in layers if layer.name.startswith(f"layer{i}.1."))
            total += (num_blocks - num_listed) * second
    return total


def count_flops(
    architecture: str | Mapping[str, Any] | Architecture | OwnModel, num_classes: int = 10, image_size: int = 32
) -> int:
    """FLOPs of one image's forward pass (multiply and add are two); training takes three times as many."""
    if isinstance(architecture, OwnModel):
        return measure_model(architecture, num_classes, image_size).flops
    return sum(layer.flops for layer in list_layers(parse_architecture(architecture), num_classes, image_size))


def check_budget(
    architecture: Architecture | OwnModel, dataset: str, shape: InputShape, budget: int
) -> tuple[int, list[Finding]]:
    """Number of parameters (0 if the model cannot be built) and problems; their paths start with the trial's key."""
    try:
        count = count_parameters(architecture, shape.num_classes, shape.image_size)
    except CodeError as error:
        return 0, [(("model",), str(error))]
    except ArchitectureError as error:
        images = f"{dataset} has {shape.image_size}x{shape.image_size} images"
        return 0, [(("model", "pool_size"), f"{error}; {images}")]
    if count <= budget:
        return count, []
    if isinstance(architecture, OwnModel):
        message = (
            f"a model must have at most max_parameters={budget:,}, but {architecture.name} has {count:,}; shrink it"
        )
        return count, [(("model",), message)]
    layers = list_layers(_shortened(architecture), shape.num_classes, shape.image_size)
    heaviest = max(layers, key=lambda layer: layer.num_parameters)
    message = (
        f"a model must have at most max_parameters={budget:,}, but {architecture.name} has {count:,}, "
        f"{heaviest.num_parameters:,} of them in {heaviest.name}; use fewer blocks or channels"
    )
    return count, [(("model",), message)]


@lru_cache(maxsize=4096)  # a sweep asks for the same few architectures thousands of times
def list_layers(architecture: Architecture, num_classes: int, image_size: int) -> tuple[Layer, ...]:
    """The network's layers in the order in which images pass them.

    Raises:
        ArchitectureError: the pool window does not fit; names the window and the map.
    """
    return tuple(_layers(architecture, num_classes, image_size))


def _layers(a: Architecture, num_classes: int, size: int) -> Iterator[Layer]:
    preact = a.block == "preact"
    channels = a.stem_channels
    # pre-activation: the first block normalises the stem's output itself
    yield _conv("stem", IMAGE_CHANNELS, channels, a.stem_kernel_size, size, norm=not preact)
    for i, (num_blocks, width) in enumerate(zip(a.blocks, a.channels, strict=True)):
        for b in range(num_blocks):
            stride = 2 if i > 0 and b == 0 else 1
            size_in, size = size, -(-size // stride)
            name = f"layer{i + 1}.{b}"
            out = width * EXPANSION if a.block == "bottleneck" else width
            if preact:
                yield Layer(f"{name}.norm1", (channels, size_in, size_in), 2 * channels, 0)
                yield _conv(f"{name}.conv1", channels, width, a.kernel_size[i][0], size)
                yield _conv(f"{name}.conv2", width, out, a.kernel_size[i][1], size, norm=False)
            elif a.block == "bottleneck":
                yield _conv(f"{name}.conv1", channels, width, 1, size_in)
                yield _conv(f"{name}.conv2", width, width, a.kernel_size[i][0], size)
                yield _conv(f"{name}.conv3", width, out, 1, size)
            else:
                yield _conv(f"{name}.conv1", channels, width, a.kernel_size[i][0], size)
                yield _conv(f"{name}.conv2", width, out, a.kernel_size[i][1], size)
            if stride != 1 or channels != out:
                yield _conv(f"{name}.shortcut", channels, out, a.shortcut_kernel_size[i], size, norm=not preact)
            channels = out
    if preact:
        yield Layer("final_norm", (channels, size, size), 2 * channels, 0)
    if a.extra_conv:
        yield _conv("extra_conv", channels, a.extra_conv, 3, size)
        channels = a.extra_conv
    if a.pool_size > size:
        raise ArchitectureError(
            f"pool_size must fit the output of layer{len(a.blocks)}, {size}x{size}, but got {a.pool_size}; "
            f"use pool_size <= {size}, or fewer layers (each after the first halves the map)"
        )
    size //= a.pool_size
    features = channels * size * size
    yield Layer("pool", (channels, size, size), 0, 0)
    for i, out in enumerate((*a.head, num_classes)):
        name = "classifier" if i == len(a.head) else f"head.{i}"
        yield Layer(name, (out,), (features + 1) * out, 2 * features * out)
        features = out


def _conv(name: str, c_in: int, c_out: int, kernel: int, size: int, norm: bool = True) -> Layer:
    weights = kernel * kernel * c_in * c_out
    return Layer(name, (c_out, size, size), weights + (2 * c_out if norm else 0), 2 * weights * size * size)


def _shortened(architecture: Architecture) -> Architecture:
    """The architecture with at most two blocks per layer: the first, and one for all others."""
    blocks = tuple(min(num_blocks, 2) for num_blocks in architecture.blocks)
    return architecture.model_copy(update={"blocks": blocks})
