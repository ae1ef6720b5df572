"""Autotuning: picks a trial's Execution by measuring a few training steps of its model and batch on its device.

Rules of thumb fail here: a small network can lose from bf16 or from compiling what a large one gains. Each shape is
measured once per machine (`speeds.py` stores the result). A trial shorter than the measurement is not measured.
Explicit settings are obeyed or refused.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from flexres_tune.datasets import DataShape, describe_dataset
from flexres_tune.records import PrecisionUsed
from flexres_tune.spec.parameters import count_flops
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training.autotune.speeds import Speeds, stored_speeds
from flexres_tune.training.autotune.stopwatch import time_steps
from flexres_tune.training.execution import Execution, has_compiler, list_options
from flexres_tune.training.memory_format import runs_channels_last

# of a whole trial: about 10 s on two cores or on an H200, which is what measuring costs there at most
MIN_MEASURED_FLOPS = {"cpu": 1e12, "cuda": 1e15}
MIN_GAIN = 1.1  # a less exact execution must be faster by this factor: a choice within the noise would vary per day
MAX_COMPILE_SAVING = 0.3  # fraction of the time that compiling may save before it was measured; the most seen is 0.23
ASSUMED_COMPILE_SECONDS = 30.0  # until it was measured; 20 to 35 s seen on two cores

# -> (by how many seconds the first steps are longer, s per later step); None if it could not be measured now
Measure = Callable[[Execution], tuple[float, float] | None]


def choose_execution(config: TrialConfig, device: torch.device, precision: PrecisionUsed | None = None) -> Execution:
    """The execution of a trial on a device.

    Args:
        precision: what `precision: auto` stands for, decided by the trial's sweep or checkpoint; None: it is measured.

    Raises:
        DeviceError: the trial demands bf16 or compiling, and this device or machine cannot do it.
        DataError: the data set, whose image size and count are needed, is missing.
        ArchitectureError: the pool window does not fit the data set's images.
    """
    if config.precision == "auto" and precision is not None:
        config = config.model_copy(update={"precision": precision})
    shape = describe_dataset(config.images)
    options = [replace(option, compile=config.compile == "on") for option in _list_options(config, device, shape)]
    num_images = config.epochs * (config.num_train_images or shape.num_train)
    flops = 3 * count_flops(config.model, shape.num_classes, shape.image_size) * num_images
    if len(options) == 1 and config.compile != "auto":
        return options[0]
    if flops < MIN_MEASURED_FLOPS[device.type]:
        return next((option for option in options if option.channels_last), options[0])
    with stored_speeds(config, shape, device) as speeds:
        return pick_fastest(options, config, num_images, speeds, lambda option: time_steps(config, shape, option))


def choose_precision(config: TrialConfig, device: torch.device) -> tuple[PrecisionUsed, dict[str, float]]:
    """(the faster precision for trials of this model and batch size, images/s of each execution measured).

    Nothing is measured if the device has only one. Neither the optimizer nor any other setting of the trial has a part
    in it.

    Raises:
        DataError, ArchitectureError: as `choose_execution`.
    """
    config = config.model_copy(update={"precision": "auto", "compile": "off"})
    shape = describe_dataset(config.images)
    options = _list_options(config, device, shape)
    if len({option.precision for option in options}) == 1:
        return options[0].precision, {}
    with stored_speeds(config, shape, device) as speeds:
        best = _fastest(options, speeds, lambda option: time_steps(config, shape, option))
    seconds = {option.label: speeds.step_seconds.get(option.label, math.inf) for option in options}
    rates = {label: config.batch_size / of_step for label, of_step in seconds.items()}
    return best.precision, rates


def _list_options(config: TrialConfig, device: torch.device, shape: DataShape) -> list[Execution]:
    return list_options(config, device, runs_channels_last(config.model, shape.num_classes, shape.image_size))


def pick_fastest(
    options: Sequence[Execution], config: TrialConfig, num_images: int, speeds: Speeds, measure: Measure
) -> Execution:
    """The fastest option; one that is less exact must be faster by the factor MIN_GAIN.

    Compiling is considered last, for the fastest option only, because to measure it takes half a minute.

    Args:
        options: the most exact first.
        num_images: images that the whole trial trains on, over all epochs.
        speeds: results so far; every measurement is added.
    """
    best = _fastest(options, speeds, measure)
    if config.compile != "auto" or not has_compiler(best.device):
        return best
    compiled = replace(best, compile=True, graph="step" if best.graph == "step" else "none")
    whole = _seconds(best, speeds, measure) * num_images / config.batch_size
    cost = speeds.start_seconds.get(compiled.label, ASSUMED_COMPILE_SECONDS)
    if whole * MAX_COMPILE_SAVING < cost:  # compiling cannot pay, so it is not measured either
        return best
    saved = whole - _seconds(compiled, speeds, measure) * num_images / config.batch_size
    return compiled if saved > speeds.start_seconds.get(compiled.label, 0.0) else best


def _fastest(options: Sequence[Execution], speeds: Speeds, measure: Measure) -> Execution:
    best = options[0]
    for option in options[1:]:
        if _seconds(option, speeds, measure) * MIN_GAIN < _seconds(best, speeds, measure):
            best = option
    return best


def _seconds(option: Execution, speeds: Speeds, measure: Measure) -> float:
    """Seconds per step, measured if `speeds` does not have them; infinite if it could not be measured now."""
    if option.label not in speeds.step_seconds:
        measured = measure(option)
        if measured is None:
            return math.inf
        speeds.start_seconds[option.label], speeds.step_seconds[option.label] = measured
    return speeds.step_seconds[option.label]
