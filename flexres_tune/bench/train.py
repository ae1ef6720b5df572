"""bench train: images/s of `fit` against the textbook loop in one run, and as a share of the device's peak FLOP/s."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.connection import Connection
from typing import Any
from unittest import mock

import torch

from flexres_tune.bench.figures import Bench, Figure, ratios
from flexres_tune.bench.steps import say_step
from flexres_tune.bench.textbook import TextbookLoop
from flexres_tune.cluster.connection import PROCESS_ENVIRONMENT
from flexres_tune.datasets import load_dataset
from flexres_tune.datasets.images import ImageData, Split
from flexres_tune.errors import DataError
from flexres_tune.spec import TrialConfig, count_flops
from flexres_tune.training import choose_execution, fit
from flexres_tune.training.device import pick_device

EPOCH_S = 10.0  # approximately, of the slower loop: long enough that the jitter of a step does not matter
Epochs = Callable[[TrialConfig, int], Iterator[Any]]
NUM_EPOCHS = 200  # in the configuration, so that `auto` measures as it does for a long trial


def bench_train(config: TrialConfig, repeats: int) -> Bench:
    """Both loops alternately, `repeats` times, after one warm-up epoch each.

    Each runs in its own process, as users run them: `fit` with the environment that a sweep gives its trials, the
    textbook loop with the user's.
    """
    device = pick_device()
    config = config.model_copy(update={"epochs": NUM_EPOCHS})
    say_step("starting the textbook loop")
    with LoopProcess(_textbook_epochs, config, 0, {}) as textbook:
        num_images, note = textbook.facts
        say_step("starting fit, which measures how to use the device")
        with LoopProcess(_trial_epochs, config, num_images, PROCESS_ENVIRONMENT) as trial:
            execution, num_classes, image_size = trial.facts
            slow, fast = [], []
            for number in range(1 + repeats):
                say_step(f"an epoch of each, {number} of {repeats}" if number else "an epoch of each to warm up")
                slow.append(textbook.request())
                fast.append(trial.request())
    slow, fast = slow[1:], fast[1:]
    flops = 3 * count_flops(config.model, num_classes, image_size)
    say_step("matrix products")
    peak = [matrix_product_flops(device, execution.precision) for _ in range(repeats)]
    achieved = [rate * flops for rate in fast]
    figures = (
        Figure.of("textbook loop", "images/s", slow),
        Figure.of("fit", "images/s", fast),
        Figure.of("fit / textbook", "x", ratios(fast, slow)),
        Figure.of("FLOPs per training image", "MFLOP", [flops / 1e6]),
        Figure.of("achieved", "GFLOP/s", [rate / 1e9 for rate in achieved]),
        Figure.of(f"matrix-product peak, {execution.precision}", "GFLOP/s", [rate / 1e9 for rate in peak]),
        Figure.of("achieved / peak", "%", [100 * ratio for ratio in ratios(achieved, peak)]),
    )
    title = (
        f"train: {config.model.name}, batch {config.batch_size}, {'+'.join(config.augmentation) or 'no augmentation'}"
    )
    mixup = f", mixup {config.mixup_alpha:g}" if config.mixup_alpha else ""
    notes = (f"{num_images} images per epoch, {note}", f"execution: {execution.label}")
    return Bench(title + mixup, figures, notes)


class LoopProcess:
    """A training loop in its own process, which runs one epoch per request and waits between them."""

    def __init__(self, epochs: Epochs, config: TrialConfig, num_images: int, environment: Mapping[str, str]):
        """Start the process; `facts` is what it reports first.

        Args:
            epochs: generator that yields facts about the loop, and then the images/s of each epoch.
            environment: variables of the process, in addition to this one's.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_serve_epochs, args=(epochs, config, num_images, other))
        with mock.patch.dict(os.environ, environment):  # which the process inherits
            self._process.start()
        other.close()
        self.facts = self.request()

    def request(self) -> Any:
        """The generator's next value: of an epoch, images per second."""
        self._connection.send(None)
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __enter__(self) -> LoopProcess:
        return self

    def __exit__(self, *exc_info) -> None:
        self._connection.close()
        self._process.join()


def _serve_epochs(epochs: Epochs, config: TrialConfig, num_images: int, connection: Connection) -> None:
    """Main function of the process: answers every request with the generator's next value."""
    answers = epochs(config, num_images)
    try:
        while True:
            connection.recv()
            connection.send(next(answers))
    except EOFError:  # the parent has closed the connection
        pass
    except Exception as error:  # raised in the parent
        connection.send(error)


def _textbook_epochs(config: TrialConfig, num_images: int) -> Iterator[Any]:
    device = pick_device()
    data, note = load_images(config, device)
    data = first_images(data, enough_images(data, config, device))
    yield len(data.train.labels), note
    loop = TextbookLoop(config, data, device)
    while True:
        yield loop.run_epoch()


def _trial_epochs(config: TrialConfig, num_images: int) -> Iterator[Any]:
    device = pick_device()
    data, _ = load_images(config, device)
    execution = choose_execution(config, device)
    yield execution, data.num_classes, data.image_size
    for metrics in fit(config, first_images(data, num_images), execution):
        yield metrics.images_per_second


def load_images(config: TrialConfig, device: torch.device) -> tuple[ImageData, str]:
    """The data set and its name. If CIFAR-10 is missing, random images of its shape: they train at the same speed."""
    try:
        return load_dataset(config.dataset, device), config.dataset
    except DataError:
        if config.dataset != "cifar10":
            raise
    generator = torch.Generator().manual_seed(0)

    def split(number: int) -> Split:
        images = torch.randint(256, (number, 3, 32, 32), generator=generator, dtype=torch.uint8)
        return Split(images.to(device), torch.randint(10, (number,), generator=generator).to(device))

    statistics = torch.full((3,), 0.5, device=device)
    names = tuple(map(str, range(10)))
    data = ImageData("random", split(50_000), split(500), split(500), 10, names, 32, statistics, statistics)
    return data, "random images of CIFAR-10's shape, because CIFAR-10 is not on this machine"


def enough_images(data: ImageData, config: TrialConfig, device: torch.device) -> int:
    """A number of training images, in whole batches, with which an epoch of the textbook loop takes EPOCH_S."""
    loop = TextbookLoop(config, first_images(data, 2 * config.batch_size), device)
    loop.run_epoch()
    wanted = round(loop.run_epoch() * EPOCH_S / config.batch_size)
    return max(2, min(wanted, len(data.train.labels) // config.batch_size)) * config.batch_size


def first_images(data: ImageData, num_images: int) -> ImageData:
    """The first training images, and a few for validation and test: only training is timed."""
    return dataclasses.replace(
        data, train=_head(data.train, num_images), val=_head(data.val, 64), test=_head(data.test, 64)
    )


def matrix_product_flops(device: torch.device, precision: str, seconds: float = 1.0) -> float:
    """FLOP/s of a large square matrix product in this precision, the device's practical peak."""
    size = 8192 if device.type == "cuda" else 2048
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.rand(size, size, device=device).to(dtype) for _ in range(2))
    a @ b
    num, started = 0, time.perf_counter()
    _synchronise(device)
    while num < 3 or time.perf_counter() - started < seconds:
        a @ b
        _synchronise(device)
        num += 1
    return num * 2 * size**3 / (time.perf_counter() - started)


def _head(split: Split, number: int) -> Split:
    return Split(split.images[:number], split.labels[:number])


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
