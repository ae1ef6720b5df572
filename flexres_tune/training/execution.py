"""How a trial runs on a device: precision, memory format, compiled or graphed. Changes speed and rounding only.

Explicit settings are obeyed or refused. `auto` is settled by measuring a few steps of this model and batch on this
device, once a machine (`speeds.py` remembers), because rules of thumb fail: small networks can lose from bf16 and from
compiling what large ones gain. Where the whole trial is shorter than the measuring, nothing is measured.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch

from flexres_tune.datasets import describe_dataset
from flexres_tune.errors import DeviceError
from flexres_tune.spec.parameters import count_flops
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training.speeds import Speeds, remembered_speeds

MIN_MEASURED_FLOPS = 1e12  # of a whole trial: about 10 s on two cores, what measuring costs there at most
MIN_GAIN = 1.1  # a less exact way must be so much faster: a pick within the noise would change from day to day
MAX_COMPILE_SAVING = 0.3  # fraction of the time that compiling may save before it was measured; 0.23 was seen at most
ASSUMED_COMPILE_SECONDS = 30.0  # until it was measured; 20 to 35 s seen on two cores


@dataclass(frozen=True)
class Execution:
    """What `auto` came to."""

    device: torch.device
    precision: Literal["fp32", "bf16"]  # bf16 is autocast: weights and their update stay float32
    compile: bool = False
    channels_last: bool = True
    graphs: bool = False  # CUDA graphs of forward and backward: for batches so small that launching kernels costs most

    @property
    def label(self) -> str:
        """Its name in the file of speeds and in a trial's row: `bf16 channels-last compiled`."""
        parts = [self.precision, "channels-last" if self.channels_last else "channels-first"]
        return " ".join(parts + ["compiled"] * self.compile + ["graphs"] * self.graphs)


def choose_execution(config: TrialConfig, device: torch.device) -> Execution:
    """The execution of a trial on a device.

    Raises:
        DeviceError: bf16 or compile are asked for and not to be had here.
        DataError: the data set, whose image size and count are needed, is missing.
        ArchitectureError: the pool window does not fit the data set's images.
    """
    _refuse_impossible(config, device)
    shape = describe_dataset(config.dataset)
    num_images = config.epochs * (config.num_train_images or shape.num_train)
    flops = 3 * count_flops(config.model, shape.num_classes, shape.image_size) * num_images
    options = [replace(option, compile=config.compile == "on") for option in list_options(config, device)]
    if len(options) == 1 and config.compile != "auto":
        return options[0]
    if flops < MIN_MEASURED_FLOPS:
        return next((option for option in options if option.channels_last), options[0])

    from flexres_tune.training.stopwatch import time_steps  # needs the training step, which needs this module

    with remembered_speeds(config, shape, device) as speeds:
        return pick_fastest(options, config, num_images, speeds, lambda option: time_steps(config, shape, option))


def list_options(config: TrialConfig, device: torch.device) -> list[Execution]:
    """What `auto` may choose from, the most exact first; compiling is asked afterwards, of the best of these."""
    options = []
    if config.precision != "bf16":
        options += [Execution(device, "fp32", channels_last=False), Execution(device, "fp32")]
    if config.precision == "bf16" or (config.precision == "auto" and has_fast_bf16(device)):
        options.append(Execution(device, "bf16"))
    if device.type == "cuda" and config.compile != "on" and not any(config.model.dropout):
        # a graph replays the random state that it was captured with, hence not with dropout
        options += [replace(option, graphs=True) for option in options if option.channels_last]
    return options


def pick_fastest(
    options: list[Execution],
    config: TrialConfig,
    num_images: int,
    speeds: Speeds,
    measure: Callable[[Execution], tuple[float, float]],
) -> Execution:
    """The fastest option, each measured unless `speeds` has it; a later one must be MIN_GAIN times as fast.

    Args:
        options: the most exact first.
        num_images: images the whole trial trains on, over all epochs.
        speeds: filled in with what is measured.
        measure: option -> (seconds of the first step less a later one, seconds a step).
    """

    def seconds(option: Execution) -> float:
        if option.label not in speeds.step_seconds:
            speeds.start_seconds[option.label], speeds.step_seconds[option.label] = measure(option)
        return speeds.step_seconds[option.label]

    best = options[0]
    for option in options[1:]:
        if seconds(option) * MIN_GAIN < seconds(best):
            best = option
    if config.compile != "auto" or best.graphs or not has_compiler():
        return best
    compiled = replace(best, compile=True)
    whole = seconds(best) * num_images / config.batch_size
    cost = speeds.start_seconds.get(compiled.label, ASSUMED_COMPILE_SECONDS)
    if whole * MAX_COMPILE_SAVING < cost:  # not even worth trying
        return best
    saved = whole - seconds(compiled) * num_images / config.batch_size
    return compiled if saved > speeds.start_seconds[compiled.label] else best


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))


def has_compiler() -> bool:
    """Whether torch.compile finds a C++ compiler."""
    return any(map(shutil.which, _compilers()))


def _refuse_impossible(config: TrialConfig, device: torch.device) -> None:
    if config.precision == "bf16" and device.type == "cuda" and not has_fast_bf16(device):
        raise DeviceError(
            f"precision bf16 needs a GPU with bfloat16 units (compute capability 8.0 or above), but "
            f"{torch.cuda.get_device_name(device)} has none; use precision: auto or fp32"
        )
    if config.compile == "on" and not has_compiler():
        raise DeviceError(
            f"compile: on needs a C++ compiler, but none of {', '.join(_compilers())} is on the PATH; install one, "
            "set CXX, or use compile: auto or off"
        )


def _compilers() -> list[str]:
    return [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
