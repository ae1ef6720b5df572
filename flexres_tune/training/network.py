"""The network in its fastest form: as it is, compiled, or as CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flexres_tune.training.execution import Execution
from flexres_tune.training.step import Network, autocast


def prepare_network(model: nn.Module, execution: Execution, make_sample: Callable[[], Tensor]) -> Network:
    """A callable that shares the model's weights, for training batches of the sample's shape only.

    torch keeps compiled code by the model's code and shapes, so a later trial of the same shape in the same process
    compiles nothing.

    Args:
        make_sample: a batch as they will be, (B, 3, H, W): its shape and memory format are built in.
    """
    if execution.compile:
        if execution.device.type == "cpu":  # the compiler would warn that it finds no CUDA
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        return torch.compile(model, dynamic=False)
    if execution.graphs:
        return _graphed(model, execution, make_sample())
    return model


class _Outer(nn.Module):
    """Holds the model: capturing replaces the forward of what it is given, and other shapes still need the model's."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model(images)


def _graphed(model: nn.Module, execution: Execution, sample: Tensor) -> Network:  # runs on CUDA only
    """Forward and backward captured once and replayed: two launches a step in place of hundreds.

    Capturing warms up with the sample, which moves batch norm's running statistics: they are put back.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with autocast(execution):
        graphed = torch.cuda.make_graphed_callables(_Outer(model), (sample.clone(),))
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return graphed
