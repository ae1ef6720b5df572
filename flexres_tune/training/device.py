"""The device of this process: which, its maker's name for it, and the memory used on it."""

from __future__ import annotations

import contextlib
import gc
import platform
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from flexres_tune.errors import DeviceError

CUDA_BYTES = 2**29  # that CUDA itself takes per process, about
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


def trial_device(num_gpus: float) -> torch.device:
    """The device of a trial that Ray has given so many GPUs: the CPU without any, even if the machine has a GPU.

    Ray hides GPUs from a process that has a share of one, but not from a process that has none.
    """
    return pick_device() if num_gpus else torch.device("cpu")


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
    signs = (
        "can't allocate memory",  # torch's allocator on the CPU
        "std::bad_alloc",  # C++ libraries
        "Cannot allocate memory",  # ENOMEM of the system, also if a library cannot be loaded
        "CUDA error: out of memory",  # CUDA itself, while it makes a context or a graph
        "CUDA out of memory",
        "_STATUS_ALLOC_FAILED",  # cuDNN, cuBLAS and cuSPARSE
    )
    return any(sign in str(error) for sign in signs)


def is_device_broken(error: BaseException) -> bool:
    """Whether CUDA failed in a way after which this process cannot use the device any more, such as a failed assert."""
    return isinstance(error, torch.AcceleratorError) and not is_out_of_memory(error)


def limit_memory(device: torch.device, share: float) -> None:
    """Let this process take at most its share of a GPU's memory, so that it does not take that of its neighbours.

    torch frees its own unused blocks before it raises an error.

    Args:
        share: fraction of the GPU that the trial has; 1 or more: no limit.
    """
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        fraction = 1.0 if share >= 1 else max(0.0, share - CUDA_BYTES / total)
        index = torch.cuda.current_device() if device.index is None else device.index  # torch takes no "cuda" here
        torch.cuda.set_per_process_memory_fraction(fraction, index)


def release_memory(device: torch.device) -> None:
    """Free what earlier trials of this process have left on a GPU.

    torch keeps freed blocks for itself, and graphs are in reference cycles, so that only the collector frees them.
    """
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()


@contextlib.contextmanager
def on_device(device: torch.device, allow_tf32: bool, choose_kernels: bool) -> Iterator[None]:
    """Context of everything that runs on a device: it is the current one, and its kernels are what we say.

    Outside it `cuda:1` would not be the current device, and torch would run graphs and streams on `cuda:0`. On a CPU it
    does nothing. If the caller has set torch.backends.cudnn.deterministic, it is obeyed.

    Args:
        allow_tf32: whether products of float32 numbers may keep 10 bits of their mantissa (TF32) instead of 23.
        choose_kernels: cuDNN measures its kernels for each new shape, which takes 1 to 3 s, and uses the fastest. It
            pays for the shape of all full batches only.
    """
    if device.type != "cuda":
        yield
        return
    deterministic = torch.backends.cudnn.deterministic
    benchmark = choose_kernels and not deterministic
    matrix_tf32 = torch.backends.cuda.matmul.allow_tf32
    flags = torch.backends.cudnn.flags(
        enabled=True, benchmark=benchmark, deterministic=deterministic, allow_tf32=allow_tf32
    )
    with torch.cuda.device(device), flags:
        torch.backends.cuda.matmul.allow_tf32 = allow_tf32
        try:
            yield
        finally:
            torch.backends.cuda.matmul.allow_tf32 = matrix_tf32
