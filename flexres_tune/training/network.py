"""The network in its fastest form: unchanged, compiled, or captured as CUDA graphs."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable

import torch
from torch import Tensor, nn

from flexres_tune.training.execution import Execution
from flexres_tune.training.graph import capturing

Network = Callable[[Tensor], Tensor]  # (B, 3, H, W) float32 -> (B, classes)


def prepare_network(model: nn.Module, execution: Execution, make_sample: Callable[[], Tensor]) -> Network:
    """A callable that shares the model's weights, for training batches of the sample's shape only.

    A trial of the same model and batch shape as the last compiled one in this process compiles nothing.

    Args:
        make_sample: returns a batch (B, 3, H, W) of the shape and memory format that the callable is for.

    Raises:
        CaptureError: the network cannot be captured.
    """
    if execution.compile:
        if execution.device.type == "cpu":  # or the compiler warns that it finds no CUDA
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        _forget_other_code(repr(model), make_sample().shape, execution)
        return torch.compile(model, dynamic=False)
    if execution.graph == "network":
        return _graphed(model, execution, make_sample())
    return model


@functools.lru_cache(maxsize=1)  # the body runs if an argument differs from the last call's
def _forget_other_code(model: str, shape: torch.Size, execution: Execution) -> None:
    """Let torch forget the code that it has compiled for other models.

    torch counts the shapes of one function per process, and all models share `ResNet.forward`: from the ninth on it
    would silently run uncompiled. Compiled kernels stay in torch's cache on disk.
    """
    torch._dynamo.reset()


def _graphed(model: nn.Module, execution: Execution, sample: Tensor) -> Network:  # runs on CUDA only
    """Forward and backward captured once and replayed: two launches per step instead of hundreds.

    Capturing runs the model on the sample, which changes batch norm's running statistics and draws random numbers for
    dropout: both are restored.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with capturing(execution.device), torch.random.fork_rng([execution.device]), execution.autocast():
        # Sequential, because capturing replaces its module's forward, and batches of other shapes need the model's
        graphed = torch.cuda.make_graphed_callables(nn.Sequential(model), (sample.clone(),))
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return graphed
