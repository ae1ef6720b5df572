"""The network in its fastest form: unchanged, compiled, or captured as CUDA graphs."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flexres_tune.training.execution import Execution

Network = Callable[[Tensor], Tensor]  # (B, 3, H, W) float32 -> (B, classes)


def prepare_network(model: nn.Module, execution: Execution, make_sample: Callable[[], Tensor]) -> Network:
    """A callable that shares the model's weights, for training batches of the sample's shape only.

    torch caches compiled code by the model's code and shapes, so a later trial of the same shape in the same process
    compiles nothing.

    Args:
        make_sample: returns a batch (B, 3, H, W) of the shape and memory format that the callable is for.
    """
    if execution.compile:
        if execution.device.type == "cpu":  # or the compiler warns that it finds no CUDA
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        return torch.compile(model, dynamic=False)
    if execution.graphs:
        return _graphed(model, execution, make_sample())
    return model


def _graphed(model: nn.Module, execution: Execution, sample: Tensor) -> Network:  # runs on CUDA only
    """Forward and backward captured once and replayed: two launches per step instead of hundreds.

    Capturing runs the model on the sample, which changes batch norm's running statistics: they are restored.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with execution.autocast():
        # Sequential, because capturing replaces its module's forward, and batches of other shapes need the model's
        graphed = torch.cuda.make_graphed_callables(nn.Sequential(model), (sample.clone(),))
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return graphed
