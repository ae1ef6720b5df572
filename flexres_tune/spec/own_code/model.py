"""A model that the user's own code builds: `model: my_nets.py:build` with its `model.` values, counted before it runs.

The callable is called as build(num_classes=..., image_size=..., **values); it need not take the first two. To count
parameters and FLOPs the network is built on torch's meta device, which takes no memory and computes no number, so torch
is imported here, but only when a model is counted.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, Protocol

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator

from flexres_tune.spec.document.document import show_values
from flexres_tune.spec.own_code.source import CodeError, CodeName, describe_error, signature_problem

if TYPE_CHECKING:
    from torch import nn

MAX_WIDTH = 100_000


class ModelBuilder(Protocol):
    """What `model: my_nets.py:build` must name: a function, or the class of a torch module.

    It must return a module whose call maps images (B, 3, image_size, image_size), float32 or bfloat16, to logits
    (B, num_classes); one that raises an error for images in channels-last trains in the default format. Weights must be
    drawn by torch's global generators on the CPU, which are seeded before the call; the module is moved to its device
    afterwards. It must not wait for the device in forward().
    """

    def __call__(self, *, num_classes: int, image_size: int, **values: Any) -> nn.Module:
        """A new network; num_classes and image_size are passed if the callable takes them."""


class ModelSize(NamedTuple):
    """What a network costs."""

    num_parameters: int  # trainable
    flops: int  # forward, one image; multiply and add are two


def _code_name(value: Any) -> CodeName:
    if not isinstance(value, CodeName):
        raise ValueError("must be a reference whose source was read")
    return value


class OwnModel(BaseModel):
    """A model of the user's own; stands where an Architecture stands in a trial."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    code: Annotated[CodeName, PlainValidator(_code_name), PlainSerializer(str)]
    values: dict[str, Any] = Field(default_factory=dict)  # keyword arguments, plain YAML values

    def __hash__(self) -> int:
        return hash((self.code, json.dumps(self.values, sort_keys=True)))

    def __eq__(self, other: object) -> bool:
        is_same = isinstance(other, OwnModel) and (self.code, self.values) == (other.code, other.values)
        return is_same and self.code.source == other.code.source

    @property
    def name(self) -> str:
        """The reference as written."""
        return str(self.code)

    def build(self, num_classes: int, image_size: int) -> nn.Module:
        """A new network, with weights from torch's global generators.

        Raises:
            CodeError: the callable raises an error, or returns something else.
        """
        from torch import nn

        arguments = self.arguments(num_classes, image_size)
        if problem := signature_problem(self.code, **arguments):
            raise CodeError(problem)
        try:
            network = self.code.load()(**arguments)
        except Exception as error:
            raise CodeError(f"{self._call} must build a model, but raised {describe_error(error)}") from error
        if not isinstance(network, nn.Module):
            raise CodeError(f"{self._call} must return a torch.nn.Module, but returned a {type(network).__name__}")
        return network

    def arguments(self, num_classes: int, image_size: int) -> dict[str, Any]:
        """What the callable is called with: the sweep's values, and of the other two what it takes."""
        given = {"num_classes": num_classes, "image_size": image_size}
        return {key: value for key, value in given.items() if _takes(self.code, key)} | self.values

    @property
    def _call(self) -> str:
        return f"{self.code} with {show_values(self.values)}" if self.values else str(self.code)


@lru_cache(maxsize=1024)  # a sweep asks for the same few models thousands of times
def measure_model(model: OwnModel, num_classes: int, image_size: int) -> ModelSize:
    """The network's trainable parameters and FLOPs.

    Raises:
        CodeError: it cannot be built, has no trainable parameters, or does not map images to logits.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.random.fork_rng(devices=[]):
        try:
            with torch.device("meta"):
                network = model.build(num_classes, image_size)
            images = torch.empty(2, 3, image_size, image_size, device="meta")
            flops = _count_flops(network, images, FlopCounterMode)
        except Exception:  # some code computes with its numbers while it builds or runs
            network = model.build(num_classes, image_size)
            images = torch.zeros(2, 3, image_size, image_size)
            try:
                flops = _count_flops(network, images, FlopCounterMode)
            except Exception as error:
                raise CodeError(
                    f"{model.name} must map images (2, 3, {image_size}, {image_size}) to logits (2, {num_classes}), but "
                    f"raised {describe_error(error)}"
                ) from error
    count = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    if not count:
        raise CodeError(f"{model.name} must have trainable parameters, but has none")
    shape, dtype = flops[1]
    if shape != (2, num_classes) or not dtype.is_floating_point:
        raise CodeError(
            f"{model.name} must map images (2, 3, {image_size}, {image_size}) to logits (2, {num_classes}), but returns "
            f"{shape} of {dtype}"
        )
    return ModelSize(count, flops[0] // 2)


def _count_flops(network: nn.Module, images: Any, counter_type: Callable[..., Any]) -> tuple[int, tuple[Any, Any]]:
    import torch

    network.eval()
    with torch.no_grad(), counter_type(display=False) as counter:
        logits = network(images)
    is_tensor = isinstance(logits, torch.Tensor)
    return counter.get_total_flops(), (tuple(logits.shape), logits.dtype) if is_tensor else (type(logits), torch.bool)


def widest_own(model: OwnModel, max_parameters: int, num_classes: int, image_size: int) -> OwnModel:
    """The model with the largest whole `width` of at most `max_parameters`.

    The count is taken to grow with the width, so that bisection finds it.

    Raises:
        CodeError: it takes no width, or its width 1 is over the budget.
    """

    def at(width: int) -> OwnModel:
        return model.model_copy(update={"values": {**model.values, "width": width}})

    def fits(width: int) -> bool:
        return measure_model(at(width), num_classes, image_size).num_parameters <= max_parameters

    if not _takes(model.code, "width"):
        raise CodeError(f"{model.name} must take a keyword argument width for `model.width: fit`, but does not")
    if not fits(1):
        raise CodeError(f"{model.name} with width 1 must have at most max_parameters={max_parameters:,}, but has more")
    low, high = 1, 2
    while high <= MAX_WIDTH and fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return at(low)


def _takes(code: CodeName, keyword: str) -> bool:
    """Whether the callable takes a keyword argument."""
    try:
        parameters: Mapping[str, inspect.Parameter] = inspect.signature(code.load()).parameters
    except (TypeError, ValueError):
        return True
    return keyword in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())
