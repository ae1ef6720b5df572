"""How a trial runs on a device: precision, torch.compile, memory format. Changes speed and rounding, nothing else.

`auto` is settled by rules over the model's FLOPs. Measured on a CPU with AVX512-BF16 (AMD EPYC, 2 cores, torch 2.15.0,
forward and backward, best of 3 to 20 steps, so n = 1 run), training images a second:

    model, image size       MFLOP/image   fp32 NCHW   fp32 channels-last   bf16 channels-last
    tiny, 8x8                       1.1       7,134               15,301               17,392
    tiny, 32x32                    17.7           -                1,284                3,513
    small, 32x32                   25.0         242                1,423                2,169
    resnet22_2, 32x32           1,041.1          44                   53                   97
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import Literal

import torch

from flexres_tune.datasets import describe_dataset
from flexres_tune.errors import DeviceError
from flexres_tune.spec.layers import count_flops
from flexres_tune.spec.trial import TrialConfig

# Below this a step is mostly launching kernels, and autocast adds one a weight: the table's gain is gone at 1.1 MFLOP.
MIN_BF16_FLOPS = 10_000_000  # forward, one image

# Assumed, not measured: what compiling a training step costs, and what it saves of the time on CUDA.
COMPILE_SECONDS = 40.0
COMPILE_SAVING = 0.2  # fraction of the uncompiled time
CUDA_FLOPS_PER_SECOND = 30e12  # reached by small-image ResNets in bf16, far below the device's peak


@dataclass(frozen=True)
class Execution:
    """What `auto` came to."""

    device: torch.device
    precision: Literal["fp32", "bf16"]  # bf16 is autocast: weights and their update stay float32
    compile: bool
    channels_last: bool


def choose_execution(config: TrialConfig, device: torch.device) -> Execution:
    """The execution of a trial on a device: explicit settings obeyed, `auto` settled by the rules of this module.

    Raises:
        DeviceError: bf16 or compile are asked for and not to be had here.
        DataError: the data set, whose image size and count the rules read, is missing.
        ArchitectureError: the pool window does not fit the data set's images.
    """
    shape = describe_dataset(config.dataset)
    flops = count_flops(config.model, shape.num_classes, shape.image_size)
    num_images = config.epochs * (config.num_train_images or shape.num_train)
    # channels-last is never slower in the table above, and is what CUDA's tensor cores read
    return Execution(device, _precision(config, device, flops), _compiles(config, device, flops, num_images), True)


def _precision(config: TrialConfig, device: torch.device, flops: int) -> Literal["fp32", "bf16"]:
    if config.precision == "bf16" and device.type == "cuda" and not has_fast_bf16(device):
        raise DeviceError(
            f"precision bf16 needs a GPU with bfloat16 units (compute capability 8.0 or above), but "
            f"{torch.cuda.get_device_name(device)} has none; use precision: auto or fp32"
        )
    if config.precision != "auto":
        return config.precision
    return "bf16" if flops >= MIN_BF16_FLOPS and has_fast_bf16(device) else "fp32"


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))


def _compiles(config: TrialConfig, device: torch.device, flops: int, num_images: int) -> bool:
    if config.compile == "on" and not any(map(shutil.which, _compilers())):
        raise DeviceError(
            f"compile: on needs a C++ compiler, but none of {', '.join(_compilers())} is on the PATH; install one, "
            "set CXX, or use compile: auto or off"
        )
    if config.compile != "auto":
        return config.compile == "on"
    return device.type == "cuda" and compile_saves_seconds(flops, num_images) > 0


def _compilers() -> list[str]:
    return [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]


def compile_saves_seconds(flops: int, num_images: int) -> float:
    """num_images * 3 flops / speed * saving - cost: what compiling gains over a whole trial on CUDA, in seconds.

    Args:
        flops: of one image's forward pass; a training step takes three times as many.
        num_images: images the trial trains on, over all epochs.
    """
    return num_images * 3 * flops / CUDA_FLOPS_PER_SECOND * COMPILE_SAVING - COMPILE_SECONDS
