"""A few training steps of a small trial, eagerly or as a graph: what the checks of `bench gpu` run and compare."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from flexres_tune.datasets import load_dataset
from flexres_tune.datasets.images import ImageData, Split
from flexres_tune.spec import TrialConfig
from flexres_tune.training import Execution
from flexres_tune.training.device import pick_device
from flexres_tune.training.preprocessing import Preprocessing
from flexres_tune.training.state import TrainState
from flexres_tune.training.step import TrainingSteps

Answer = tuple[bool, str]  # whether a check passed, what it measured
CPU = torch.device("cpu")


def small_config(**fields) -> TrialConfig:
    return TrialConfig(
        **{"model": "tiny", "dataset": "digits", "batch_size": 64, "lr": 0.05, "compile": "off", **fields}
    )


def fp32_execution(graph: str) -> Execution:
    return Execution(pick_device(), "fp32", graph=graph)


def digits(device: torch.device, num_images: int | None = None) -> ImageData:
    return load_dataset("digits", device, num_images)


def random_images(device: torch.device, num_images: int) -> ImageData:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (num_images, 3, 32, 32), generator=generator, dtype=torch.uint8).to(device)
    split = Split(images, torch.randint(10, (num_images,), generator=generator).to(device))
    half = torch.full((3,), 0.5, device=device)
    return ImageData("random", split, split, split, 10, tuple(map(str, range(10))), 32, half, half)


def make_steps(
    execution: Execution, config: TrialConfig | None = None, data: ImageData | None = None
) -> tuple[TrainState, TrainingSteps]:
    config, data = config or small_config(augmentation=[]), data or digits(execution.device)
    state = TrainState(config, data.num_classes, data.image_size, execution)
    return state, TrainingSteps(state, data.train, Preprocessing(config, data, execution), execution)


def take_steps(state: TrainState, steps: TrainingSteps, num: int, begin: bool = True, first: int = 0) -> None:
    """Take steps of one epoch, on the images in their order; later calls continue it with begin=False."""
    batch, execution = state.config.batch_size, steps.execution
    num_images = len(steps.split)
    order = torch.arange(num_images, device=state.device)
    with execution.kernels(choose=True), state.own_randomness():
        if begin:
            steps.begin_epoch(order, [state.config.lr] * (num_images // batch))
        for i in range(first, first + num):
            steps.step(i, order[i * batch : (i + 1) * batch])


def losses_of_steps(execution: Execution, num_steps: int, shuffled: bool = True) -> list[float]:
    """The loss of each step, over as many epochs as are needed; the same order of images on every device."""
    config = small_config(augmentation=["crop", "flip"] if shuffled else [], lr=0.02, momentum=0.9)
    state, steps = make_steps(execution, config)
    batch, losses = config.batch_size, []
    num_batches = len(steps.split) // batch
    with execution.kernels(choose=False), state.own_randomness():
        while len(losses) < num_steps:
            order = torch.randperm(len(steps.split), generator=torch.Generator().manual_seed(len(losses)))
            order = order.to(execution.device)
            steps.begin_epoch(order, [config.lr] * num_batches)
            before = 0.0
            for i in range(min(num_batches, num_steps - len(losses))):
                steps.step(i, order[i * batch : (i + 1) * batch])
                losses.append((steps.loss_sum.item() - before) / batch)
                before = steps.loss_sum.item()
    if execution.failures:
        raise RuntimeError(execution.failures[0])
    return losses


def size_of_update(state: TrainState, steps: TrainingSteps, order: Tensor, rates: Sequence[float], i: int) -> float:
    """Norm of the change of the weights by step i."""
    before = torch.nn.utils.parameters_to_vector(p.reshape(-1) for p in state.model.parameters()).detach().clone()
    batch = state.config.batch_size
    with steps.execution.kernels(choose=True), state.own_randomness():
        if i == 0:
            padded = torch.zeros(len(steps.split), dtype=torch.int64, device=order.device)
            padded[: len(order)] = order[: len(padded)]
            steps.begin_epoch(padded, [*rates, *[0.0] * (len(padded) // batch - len(rates))])
        steps.step(i, order[i * batch : (i + 1) * batch])
    after = torch.nn.utils.parameters_to_vector(p.reshape(-1) for p in state.model.parameters()).detach()
    return float((after - before).norm())


def are_close(expected: Sequence[float], found: Sequence[float], tolerance: float) -> Answer:
    worst = max(abs(a - b) / abs(a) for a, b in zip(expected, found, strict=True))
    return worst <= tolerance, f"largest relative difference {worst:.1e} in {len(found)} losses"


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Context in which cuDNN's kernels give the same sums in every run."""
    before = torch.backends.cudnn.deterministic
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.backends.cudnn.deterministic = before
