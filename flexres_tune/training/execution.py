"""Execution: how a trial runs on a device, and what a device can do.

Precision changes the numbers systematically, so it is decided once per sweep and kind of device. Memory format,
compiling and CUDA graphs change the order of sums, and so only the last digits: each trial may have its own.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import sysconfig
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch

from flexres_tune.errors import DeviceError
from flexres_tune.optim import can_capture
from flexres_tune.records import PrecisionUsed
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training.device import device_name, on_device

Graph = Literal[
    "none", "network", "step"
]  # CUDA graphs of forward and backward; of the whole step, the update included
GRAPH_LABELS: Mapping[Graph, list[str]] = {"none": [], "network": ["graphs"], "step": ["step-graph"]}


@dataclass(frozen=True)
class Execution:
    """Device, precision, memory format, and whether the network is compiled or captured as CUDA graphs."""

    device: torch.device
    # fp32 keeps 23 bits of a mantissa everywhere. tf32 keeps 10 in the products of convolutions and matrices on NVIDIA
    # GPUs, and bf16 (autocast) 7 in most activations; weights and their update are float32 in all three.
    precision: PrecisionUsed
    compile: bool = False
    channels_last: bool = True
    graph: Graph = "none"  # replay instead of launching each kernel, which costs most if batches are small
    failures: list[str] = field(default_factory=list, init=False, compare=False, repr=False)  # why it is not replayed

    @property
    def label(self) -> str:
        """Its name in the file of speeds and in a trial's row: `bf16 channels-last compiled step-graph`.

        A graph that could not be captured is left out of it: the trial runs eagerly.
        """
        parts = [self.precision, "channels-last" if self.channels_last else "channels-first"]
        graph = [] if self.failures else GRAPH_LABELS[self.graph]
        return " ".join(parts + ["compiled"] * self.compile + graph)

    @property
    def memory_format(self) -> torch.memory_format:
        """Memory format of images and weights."""
        return torch.channels_last if self.channels_last else torch.contiguous_format

    def autocast(self) -> torch.autocast:
        """Context of a forward pass: casts to bf16 if the precision is bf16.

        A captured graph must not keep the casts of weights, which change with every step.
        """
        enabled, cache_enabled = self.precision == "bf16", self.graph == "none"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled, cache_enabled=cache_enabled)

    def kernels(self, choose: bool) -> AbstractContextManager[None]:
        """Context of measuring, capturing, training and evaluation, so that all of them run the same kernels.

        Args:
            choose: cuDNN looks for the fastest kernels; for the shape of full batches only.
        """
        return on_device(self.device, allow_tf32=self.precision != "fp32", choose_kernels=choose)


def list_options(config: TrialConfig, device: torch.device, channels_last: bool = True) -> list[Execution]:
    """The executions that a trial may have on a device without compiling, the most exact first.

    Args:
        channels_last: whether its network can run in this memory format.

    Raises:
        DeviceError: the trial demands tf32, bf16 or compiling, and this device or machine cannot do it.
    """
    _refuse_impossible(config, device)
    wanted = config.precision
    options = []
    if wanted in ("fp32", "auto"):
        options += [Execution(device, "fp32", channels_last=False), Execution(device, "fp32")]
    if wanted == "tf32" or (wanted == "auto" and has_tf32(device)):
        options.append(Execution(device, "tf32"))
    if wanted == "bf16" or (wanted == "auto" and has_fast_bf16(device)):
        options.append(Execution(device, "bf16"))
    if not channels_last:
        options = list({option.precision: replace(option, channels_last=False) for option in options}.values())
    if device.type == "cuda" and not config.code:  # own code may wait or branch
        graphs: list[Graph] = ["network"] if config.compile != "on" else []
        graphs += ["step"] if can_capture(config.optimizer) else []
        options += [replace(option, graph=graph) for graph in graphs for option in options if option.channels_last]
    return options


def precision_in_sweep(precisions: Mapping[str, PrecisionUsed], device: torch.device) -> PrecisionUsed | None:
    """The precision of all trials of a sweep on this kind of device; None if the sweep has decided nothing.

    A kind of device that is not in the decisions (a node that joined later) gets the precision that was decided first,
    or fp32 if it has no units for that one: the answer does not depend on any measurement.

    Args:
        precisions: the decisions in their order, by `device_name`.
    """
    name, first = device_name(device), next(iter(precisions.values()), None)
    if name in precisions:
        return precisions[name]
    lacks = (first == "bf16" and not has_fast_bf16(device)) or (first == "tf32" and not has_tf32(device))
    return "fp32" if lacks else first


def has_tf32(device: torch.device) -> bool:
    """Whether the device has NVIDIA's units for products of float32 numbers with 10 bits of mantissa."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def has_fast_bf16(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 in hardware."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            return torch.cuda.is_bf16_supported(including_emulation=False)
    cpu = torch.cpu.get_capabilities()
    return bool(cpu.get("avx512_bf16") or cpu.get("amx_bf16"))


def has_compiler(device: torch.device) -> bool:
    """Whether torch.compile finds a C++ compiler, or on CUDA Triton, a C compiler and Python.h."""
    return not _missing_for_compiling(device)


def _missing_for_compiling(device: torch.device) -> str:
    """What torch.compile lacks for this device, in words; empty if nothing."""
    if device.type != "cuda":
        compilers = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
        if any(map(shutil.which, compilers)):
            return ""
        return f"a C++ compiler, but none of {', '.join(compilers)} is on the PATH; install one, set CXX"
    compilers = [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang", "cc"]
    if not any(map(shutil.which, compilers)):
        return f"a C compiler, but none of {', '.join(compilers)} is on the PATH; install one, set CC"
    if importlib.util.find_spec("triton") is None:
        return "the package triton, but it is not installed; install it"
    header = Path(sysconfig.get_paths()["include"]) / "Python.h"
    return "" if header.exists() else f"Python's headers, but {header} does not exist; install them (python3-dev)"


def _refuse_impossible(config: TrialConfig, device: torch.device) -> None:
    if config.precision == "bf16" and device.type == "cuda" and not has_fast_bf16(device):
        raise DeviceError(
            f"precision bf16 needs a GPU with bfloat16 units (compute capability 8.0 or above), but "
            f"{torch.cuda.get_device_name(device)} has none; use precision: fp32, or a node whose GPU has them"
        )
    if config.precision == "tf32" and not has_tf32(device):
        raise DeviceError(
            f"precision tf32 needs an NVIDIA GPU of compute capability 8.0 or above, but this trial runs on "
            f"{device_name(device)}; use precision: fp32, or a node whose GPU has it"
        )
    if config.compile == "on" and (missing := _missing_for_compiling(device)):
        raise DeviceError(f"compile: on needs {missing}, or use compile: auto or off")
