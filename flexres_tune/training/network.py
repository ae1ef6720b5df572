"""The network in its fastest form: unchanged, compiled, or captured as CUDA graphs."""

from __future__ import annotations

import functools
import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from flexres_tune.training.device import is_out_of_memory, release_memory
from flexres_tune.training.execution import Execution

Network = Callable[[Tensor], Tensor]  # (B, 3, H, W) float32 -> (B, classes)


def prepare_network(model: nn.Module, execution: Execution, make_sample: Callable[[], Tensor]) -> Network:
    """A callable that shares the model's weights, for training batches of the sample's shape only.

    A trial of the same model and batch shape as the last compiled one in this process compiles nothing.

    Args:
        make_sample: returns a batch (B, 3, H, W) of the shape and memory format that the callable is for.
    """
    if execution.compile:
        if execution.device.type == "cpu":  # or the compiler warns that it finds no CUDA
            logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
        _forget_other_code(repr(model), make_sample().shape, execution)
        return torch.compile(model, dynamic=False)
    if execution.graphs:
        return _graphed(model, execution, make_sample())
    return model


@functools.lru_cache(maxsize=1)  # the body runs if an argument differs from the last call's
def _forget_other_code(model: str, shape: torch.Size, execution: Execution) -> None:
    """Let torch forget the code that it has compiled for other models.

    torch counts the shapes of one function per process, and all models share `ResNet.forward`: from the ninth on it
    would silently run uncompiled. Compiled kernels stay in torch's cache on disk.
    """
    torch._dynamo.reset()


class CaptureError(RuntimeError):
    """A step cannot be captured as a CUDA graph now; the device is still usable."""


@contextmanager
def capturing(device: torch.device) -> Iterator[None]:
    """Context of a capture: memory is freed before it, and no garbage is collected inside it.

    A collection may destroy the graphs of an earlier trial, and CUDA forbids that while a stream is captured.

    Raises:
        CaptureError: in place of any error of torch, unless memory was used up or the device is broken.
    """
    release_memory(device)
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    except (RuntimeError, NotImplementedError) as error:
        if is_out_of_memory(error):
            raise
        torch.cuda.synchronize(device)  # raises if the device is broken
        raise CaptureError(f"cannot be captured as a CUDA graph: {str(error).splitlines()[0]}") from error
    finally:
        if was_enabled:
            gc.enable()


def _graphed(model: nn.Module, execution: Execution, sample: Tensor) -> Network:  # runs on CUDA only
    """Forward and backward captured once and replayed: two launches per step instead of hundreds.

    Capturing runs the model on the sample, which changes batch norm's running statistics: they are restored.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with capturing(execution.device), execution.autocast():
        # Sequential, because capturing replaces its module's forward, and batches of other shapes need the model's
        graphed = torch.cuda.make_graphed_callables(nn.Sequential(model), (sample.clone(),))
    with torch.no_grad():
        for name, buffer in model.named_buffers():
            buffer.copy_(buffers[name])
    return graphed
