"""bench train: images/s of `fit` against the textbook loop in the same run, and the share of the device's peak."""

from __future__ import annotations

import dataclasses
import time

import torch

from flexres_tune.benching.figures import Bench, Figure, ratios
from flexres_tune.benching.textbook import TextbookLoop
from flexres_tune.datasets import load_dataset
from flexres_tune.datasets.images import ImageData, Split
from flexres_tune.errors import DataError
from flexres_tune.spec import TrialConfig, count_flops
from flexres_tune.training import choose_execution, fit
from flexres_tune.training.device import pick_device

SECONDS_AN_EPOCH = 6.0  # about, of the slower loop: long enough to drown a step's jitter
LONG = 200  # epochs that `auto` is told of, so that it measures as it would for a long trial


def bench_train(config: TrialConfig, repeats: int) -> Bench:
    """Both loops in turn, `repeats` times, after a warm-up epoch of each."""
    device = pick_device()
    data, note = load_images(config, device)
    config = config.model_copy(update={"epochs": LONG})
    execution = choose_execution(config, device)
    data = first_images(data, config, device)
    textbook = TextbookLoop(config, data, device)
    trial = fit(config, data, execution)
    textbook.run_epoch()
    next(trial)
    slow, fast = [], []
    for _ in range(repeats):
        slow.append(textbook.run_epoch())
        fast.append(next(trial).images_per_second)
    flops = 3 * count_flops(config.model, data.num_classes, data.image_size)
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
    notes = (f"{len(data.train.labels)} images an epoch, {note}", f"execution: {execution.label}")
    return Bench(title + mixup, figures, notes)


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


def first_images(data: ImageData, config: TrialConfig, device: torch.device) -> ImageData:
    """So many training images, in whole batches, that an epoch of the textbook loop takes some seconds."""
    probe = dataclasses.replace(data, train=_head(data.train, 2 * config.batch_size))
    loop = TextbookLoop(config, probe, device)
    loop.run_epoch()
    rate = loop.run_epoch()
    num_batches = max(
        2, min(round(rate * SECONDS_AN_EPOCH / config.batch_size), len(data.train.labels) // config.batch_size)
    )
    return dataclasses.replace(
        data,
        train=_head(data.train, num_batches * config.batch_size),
        val=_head(data.val, 64),
        test=_head(data.test, 64),
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
