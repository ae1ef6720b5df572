"""bench train: images/s of `fit` against the textbook loop in the same run, and the share of the device's peak."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch

from flexres_tune.bench.figures import Bench, Figure, ratios
from flexres_tune.bench.textbook import TextbookLoop
from flexres_tune.cluster.connection import PROCESS_ENVIRONMENT
from flexres_tune.datasets import load_dataset
from flexres_tune.datasets.images import ImageData, Split
from flexres_tune.errors import DataError
from flexres_tune.spec import TrialConfig, count_flops
from flexres_tune.training import choose_execution, fit
from flexres_tune.training.device import pick_device

SECONDS_AN_EPOCH = 10.0  # about, of the slower loop: long enough to drown a step's jitter
Epochs = Callable[[TrialConfig, int], Iterator[Any]]
LONG = 200  # epochs that `auto` is told of, so that it measures as it would for a long trial


def bench_train(config: TrialConfig, repeats: int) -> Bench:
    """Both loops in turn, `repeats` times, after a warm-up epoch of each; each in a process of its own, as users run
    them: a trial's is started as sweeps start it, the textbook's as anyone's.
    """
    device = pick_device()
    config = config.model_copy(update={"epochs": LONG})
    with Turns(_textbook_epochs, config, 0, {}) as textbook:
        num_images, note = textbook.facts
        with Turns(_trial_epochs, config, num_images, PROCESS_ENVIRONMENT) as trial:
            execution, num_classes, image_size = trial.facts
            slow, fast = [], []
            for _ in range(1 + repeats):
                slow.append(textbook.run_epoch())
                fast.append(trial.run_epoch())
    slow, fast = slow[1:], fast[1:]
    flops = 3 * count_flops(config.model, num_classes, image_size)
    peak = [matrix_product_flops(device, execution.precision) for _ in range(repeats)]
    achieved = [rate * flops for rate in fast]
    figures = (
        Figure.of("textbook loop", "images/s", slow),
        Figure.of("fit", "images/s", fast),
        Figure.of("fit / textbook", "x", ratios(fast, slow)),
        Figure.of("FLOPs of a training image", "MFLOP", [flops / 1e6]),
        Figure.of("achieved", "GFLOP/s", [rate / 1e9 for rate in achieved]),
        Figure.of(f"matrix-product peak, {execution.precision}", "GFLOP/s", [rate / 1e9 for rate in peak]),
        Figure.of("achieved / peak", "%", [100 * ratio for ratio in ratios(achieved, peak)]),
    )
    title = (
        f"train: {config.model.name}, batch {config.batch_size}, {'+'.join(config.augmentation) or 'no augmentation'}"
    )
    mixup = f", mixup {config.mixup_alpha:g}" if config.mixup_alpha else ""
    notes = (f"{num_images} images an epoch, {note}", f"execution: {execution.label}")
    return Bench(title + mixup, figures, notes)


class Turns:
    """A loop in a process of its own, which runs an epoch whenever it is asked to, and waits in between."""

    def __init__(self, epochs: Epochs, config: TrialConfig, num_images: int, environment: Mapping[str, str]):
        """Args:
        epochs: generator of what the loop tells of itself, then of each epoch's images/s.
        environment: variables that its process is started with, beside this one's.
        """
        context = multiprocessing.get_context("spawn")
        self._connection, other = context.Pipe()
        self._process = context.Process(target=_take_turns, args=(epochs, config, num_images, other))
        with _environment(environment):
            self._process.start()
        other.close()
        self.facts = self._ask()

    def run_epoch(self) -> float:
        """Images a second."""
        return self._ask()

    def _ask(self) -> Any:
        self._connection.send(None)
        answer = self._connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def __enter__(self) -> Turns:
        return self

    def __exit__(self, *exc_info) -> None:
        self._connection.close()
        self._process.join()


def _take_turns(epochs: Epochs, config: TrialConfig, num_images: int, connection: Connection) -> None:
    """The process's main: an answer to each question."""
    answers = epochs(config, num_images)
    try:
        while True:
            connection.recv()
            connection.send(next(answers))
    except EOFError:  # the asker is gone
        pass
    except Exception as error:  # raised where the question was asked
        connection.send(error)


def _textbook_epochs(config: TrialConfig, num_images: int) -> Iterator[Any]:
    device = pick_device()
    data, note = load_images(config, device)
    data = first_images(data, num_enough(data, config, device))
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


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """os.environ with these values: a process inherits what stands there when it is started."""
    before = dict(os.environ)
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def load_images(config: TrialConfig, device: torch.device) -> tuple[ImageData, str]:
    """The data set, or random images of CIFAR-10's shape where it is not to be had: their speed is the same."""
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
    return data, "random images of CIFAR-10's shape, which is not on this machine"


def num_enough(data: ImageData, config: TrialConfig, device: torch.device) -> int:
    """So many training images, in whole batches, that an epoch of the textbook loop takes some seconds."""
    loop = TextbookLoop(config, first_images(data, 2 * config.batch_size), device)
    loop.run_epoch()
    wanted = round(loop.run_epoch() * SECONDS_AN_EPOCH / config.batch_size)
    return max(2, min(wanted, len(data.train.labels) // config.batch_size)) * config.batch_size


def first_images(data: ImageData, num_images: int) -> ImageData:
    """The first training images, and a few others: only training is timed."""
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
