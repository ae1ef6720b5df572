"""Which memory formats a network of the user's own can run in.

`x.view(len(x), -1)` of a map of more than one pixel, which many published networks begin their classifier with, is an
error if the map is channels-last. Such a network trains in the default format.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.own_code.model import OwnModel


def runs_channels_last(model: Architecture | OwnModel, num_classes: int, image_size: int) -> bool:
    """Whether forward and backward accept images in channels-last; the tool's own networks do."""
    return isinstance(model, Architecture) or channels_last_problem(model, num_classes, image_size) is None


@lru_cache(maxsize=256)
def channels_last_problem(model: OwnModel, num_classes: int, image_size: int) -> str | None:
    """The error of a step in channels-last, which the same step in the default format does not raise; None without one.

    It runs a step of two images on the CPU. The meta device would cost less, but its convolutions return other strides.
    """
    error = _error_of_step(model, num_classes, image_size, torch.channels_last)
    if error is None or _error_of_step(model, num_classes, image_size, torch.contiguous_format) is not None:
        return None  # a network that runs in neither format reports its own error when it is trained
    return error


def _error_of_step(
    model: OwnModel, num_classes: int, image_size: int, memory_format: torch.memory_format
) -> str | None:
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        try:
            network = model.build(num_classes, image_size).to(memory_format=memory_format)
            images = torch.zeros(2, 3, image_size, image_size).contiguous(memory_format=memory_format)
            network(images).sum().backward()
        except Exception as error:  # code of the user may raise anything
            return str(error).strip().partition("\n")[0]
    return None
