"""The device of this process: which, its maker's name for it, and the memory used on it."""

from __future__ import annotations

import contextlib
import platform
import re
import resource
import sys
from pathlib import Path

import torch

from flexres_tune.errors import DeviceError

_PROC = Path("/proc")


def pick_device(name: str | None = None) -> torch.device:
    """The device named (cpu, cuda, cuda:1), or the first CUDA device if there is one, else the CPU.

    Raises:
        DeviceError: no such device here.
    """
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise DeviceError(f"device must be cpu, cuda or cuda:N, but got {name!r}")
    device = torch.device(name)
    num_devices = torch.cuda.device_count()
    if device.type == "cuda" and (device.index or 0) >= num_devices:
        raise DeviceError(
            f"device {name} is not here: torch {torch.__version__} sees {num_devices} CUDA devices; use --device cpu"
        )
    return device


def device_name(device: torch.device) -> str:
    """The maker's name: "NVIDIA H200", or the CPU's model."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        cpuinfo = (_PROC / "cpuinfo").read_text()
    except OSError:  # not Linux
        cpuinfo = ""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()


def reset_peak_memory(device: torch.device) -> None:
    """Forget the peak so far, so that a process that is reused reports each trial's own."""
    if device.type == "cuda":
        torch.cuda.init()  # before the first tensor there is nothing to reset, and torch raises
        torch.cuda.reset_peak_memory_stats(device)
        return
    with contextlib.suppress(OSError):  # not Linux, or not permitted: the peak is then the process's, from its start
        (_PROC / "self/clear_refs").write_text("5")  # resets VmHWM, see proc(5)


def peak_memory_bytes(device: torch.device) -> int:
    """Highest memory since `reset_peak_memory`: torch's tensors on CUDA, the whole resident process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", (_PROC / "self/status").read_text(), re.MULTILINE)
    except OSError:
        found = None
    if found:
        return int(found[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes, the others kibibytes


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the device's or the machine's memory is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # of torch's CPU allocator, of C++ libraries, and of the system (ENOMEM, also if a library cannot be loaded)
    signs = ("can't allocate memory", "std::bad_alloc", "Cannot allocate memory")
    return any(sign in str(error) for sign in signs)
