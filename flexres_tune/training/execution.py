"""Execution: how a trial runs on a device, and what a device can do.

Precision changes the numbers systematically, so it is decided once per sweep and kind of device. Memory format,
compiling and CUDA graphs change the order of sums, and so only the last digits: each trial may have its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from flexres_tune.errors import DeviceError
from flexres_tune.records import PrecisionUsed
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training.device import device_name


@dataclass(frozen=True)
class Execution:
    """Device, precision, memory format, and whether the network is compiled or captured as CUDA graphs."""

    device: torch.device
    precision: PrecisionUsed  # bf16 is autocast: weights and their update stay float32
    compile: bool = False
    channels_last: bool = True
    graphs: bool = False  # CUDA graphs of forward and backward: for batches so small that launching kernels costs most

    @property
    def label(self) -> str:
        """Its name in the file of speeds and in a trial's row: `bf16 channels-last compiled`."""
        parts = [self.precision, "channels-last" if self.channels_last else "channels-first"]
        return " ".join(parts + ["compiled"] * self.compile + ["graphs"] * self.graphs)

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory format of images and weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        """Context of a forward pass: casts to bf16 if the precision is bf16.

        A captured graph must not keep the casts of weights, which change with every step.
        """
        enabled, cache_enabled = self.precision == "bf16", not self.graphs
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=cache_enabled)


def list_options(config: TrialConfig, device: torch.device) -> list[Execution]:
    """The executions that a trial may have on a device without compiling, the most exact first.

    Raises:
        DeviceError: the trial demands bf16 or compiling, and this device or machine cannot do it.
    """
    _refuse_impossible(config, device)
    options = []
    if config.precision != "bf16":
        options += [Execution(device, "fp32", channels_last=False), Execution(device, "fp32")]
    if config.precision == "bf16" or (config.precision == "auto" and has_fast_bf16(device)):
        options.append(Execution(device, "bf16"))
    if device.type == "cuda" and config.compile != "on" and not any(config.model.dropout):
        # a graph replays the random state that it was captured with, so that dropout would always drop the same units
        options += [replace(option, graphs=True) for option in options if option.channels_last]
    return options


def precision_in_sweep(precisions: Mapping[str, PrecisionUsed], device: torch.device) -> PrecisionUsed | None:
    """The precision of all trials of a sweep on this kind of device; None if the sweep has decided nothing.

    A kind of device that is not in the decisions (a node that joined later) gets the precision that was decided first,
    or fp32 if that is bf16 and the device has no bf16 units: the answer does not depend on any measurement.

    Args:
        precisions: the decisions in their order, by `device_name`.
    """
    name, first = device_name(device), next(iter(precisions.values()), None)
    if name in precisions:
        return precisions[name]
    return "fp32" if first == "bf16" and not has_fast_bf16(device) else first


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
            f"{torch.cuda.get_device_name(device)} has none; use precision: fp32, or a node whose GPU has them"
        )
    if config.compile == "on" and not has_compiler():
        raise DeviceError(
            f"compile: on needs a C++ compiler, but none of {', '.join(_compilers())} is on the PATH; install one, "
            "set CXX, or use compile: auto or off"
        )


def _compilers() -> list[str]:
    return [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
