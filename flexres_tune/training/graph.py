"""A training step as one CUDA graph: recorded once, then replayed with one launch instead of hundreds.

A graph repeats the same kernels on the same memory. So all that differs between steps is on the device: which images
come next (an order and a counter), the learning rate (a table of the epoch's rates), random numbers (the generators are
registered with the graph, and every replay draws on), sums of losses, and the optimizer's own counters.

The first steps run eagerly: they are the trial's own steps, so the weights need not be restored. torch needs them to
set up its libraries, and optimizers create their state in the first one.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch
from torch import Tensor

from flexres_tune.optim import learning_rate_on_device
from flexres_tune.training.device import is_out_of_memory, release_memory

NUM_EAGER_STEPS = 3  # as torch's documentation of CUDA graphs advises

Replay = Callable[[], None]


class CaptureError(RuntimeError):
    """A step cannot be captured as a CUDA graph now; the device is still usable."""


class Recorder(Protocol):
    """Where eager steps run before a recording, and the recording itself."""

    def eager(self) -> AbstractContextManager[None]:
        """Context of the steps that are not recorded."""

    def record(self, function: Callable[[], None]) -> Replay:
        """What repeats the device's work of function(). Nothing has run on the device when this returns.

        Raises:
            CaptureError: it cannot be recorded.
        """


class CudaRecorder:
    """Records CUDA graphs of one device, on a stream of its own.

    Args of the constructor:
        generators: those that the recorded steps draw from, besides the device's default one, which torch registers.
    """

    def __init__(self, device: torch.device, generators: Sequence[torch.Generator]):
        self._device = device
        self._generators = generators
        self._stream = torch.cuda.Stream(device)

    @contextmanager
    def eager(self) -> Iterator[None]:
        """The recording's stream: what libraries set up per stream is there when the recording begins."""
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            yield
        current.wait_stream(self._stream)

    def record(self, function: Callable[[], None]) -> Replay:
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        # thread_local: another thread, such as that of an earlier trial, may use CUDA while this one records
        recording = torch.cuda.graph(graph, stream=self._stream, capture_error_mode="thread_local")
        with capturing(self._device), recording:
            function()
        return graph.replay


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
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # raises if the device is broken
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CaptureError(f"the step cannot be captured as a CUDA graph: {reason}") from error
    finally:
        if was_enabled:
            gc.enable()


class GraphedSteps:
    """Steps on full batches, in their order: the first NUM_EAGER_STEPS eagerly, the others as a replayed graph."""

    def __init__(
        self,
        train_on: Callable[[Tensor], None],
        optimizer: torch.optim.Optimizer,
        batch_size: int,
        num_images: int,
        recorder: Recorder,
    ):
        """Nothing runs yet.

        Args:
            train_on: takes a step on the images of these indices (batch_size,); the host must not wait for the device.
            optimizer: one that `can_capture`.
            num_images: of an epoch.
        """
        self._train_on = train_on
        self._recorder = recorder
        self._lr = learning_rate_on_device(optimizer)
        device = self._lr.device
        self._order = torch.zeros(num_images, dtype=torch.int64, device=device)
        self._rates = torch.zeros(max(1, num_images // batch_size), dtype=torch.float32, device=device)
        self._next = torch.zeros(1, dtype=torch.int64, device=device)  # number of the next batch
        self._offsets = torch.arange(batch_size, device=device)
        self._num_eager = 0
        self._replay: Replay | None = None

    def begin_epoch(self, order: Tensor, rates: Sequence[float]) -> None:
        """Set the order of images (num_images,), and the learning rates of its full batches."""
        self._order.copy_(order)
        self._rates[: len(rates)].copy_(torch.tensor(rates, dtype=torch.float32))
        self._next.zero_()

    def step(self) -> None:
        """Train on the epoch's next full batch.

        Raises:
            CaptureError: the step was taken, but the next ones cannot be replayed.
        """
        if self._replay is not None:
            return self._replay()
        with self._recorder.eager():
            self._step()
        self._num_eager += 1
        if self._num_eager == NUM_EAGER_STEPS:
            self._replay = self._recorder.record(self._step)

    def _step(self) -> None:
        self._lr.copy_(self._rates.index_select(0, self._next)[0])
        self._train_on(self._order.index_select(0, self._next * len(self._offsets) + self._offsets))
        self._next += 1
