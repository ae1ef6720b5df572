"""The state of a machine's GPUs, as nvidia-smi prints it, and how fast each device multiplies matrices.

Runs on a node without this package (see cluster/probe.py), so it imports only the standard library.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

MEASURE_S = 5.0
START_TIMEOUT_S = 120.0  # of the first import of torch from a network file system
SMI_TIMEOUT_S = 30.0
COLUMNS = ("index", "name", "driver_version", "ecc.errors.uncorrected.volatile.total", "temperature.gpu")
REASON_COLUMNS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")  # newer drivers, older drivers
# Bits of the reasons by which a driver lowers the clocks (nvml.h). Idle, power cap and user settings are normal.
THROTTLING = {
    0x08: "hardware slowdown",
    0x20: "too hot (software)",
    0x40: "too hot (hardware)",
    0x80: "power brake",
}

# Runs in a new process, because Ray hides the GPUs from a task that requested none. Prints `ready`, later the rates.
_MULTIPLY = """
import sys, time, torch
seconds = float(sys.argv[1])
devices = [torch.device("cuda", n) for n in range(torch.cuda.device_count())] or [torch.device("cpu")]
on_gpu = devices[0].type == "cuda"
size, dtype = (8192, torch.bfloat16) if on_gpu else (1024, torch.float32)
pairs = [(torch.randn(size, size, device=d, dtype=dtype), torch.empty(size, size, device=d, dtype=dtype)) for d in devices]
wait = lambda: [torch.cuda.synchronize(d) for d in devices] if on_gpu else None
for a, out in pairs:
    torch.mm(a, a, out=out)
wait()
print("ready", flush=True)
for device, (a, out) in zip(devices, pairs):
    start, count = time.monotonic(), 0
    while time.monotonic() - start < seconds:
        for _ in range(8):
            torch.mm(a, a, out=out)
        wait()
        count += 8
    rate = count * 2 * size**3 / (time.monotonic() - start)
    name = torch.cuda.get_device_name(device) if on_gpu else "CPU"
    print(rate, name, flush=True)
"""


@dataclass(frozen=True)
class GpuState:
    """One line of nvidia-smi; None: the GPU does not report it."""

    index: int
    name: str
    driver: str
    num_ecc_errors: int | None  # uncorrected, since the driver was loaded
    temperature_c: int | None
    throttling: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeviceRate:
    """Operations per second of a matrix product on a device."""

    name: str
    flops: float


@dataclass(frozen=True)
class GpuHealth:
    """What was found on a machine. `states` is empty without nvidia-smi, `rates` if nothing was measured."""

    states: tuple[GpuState, ...] = ()
    has_mps: bool = False  # whether NVIDIA's MPS can be started
    rates: tuple[DeviceRate, ...] = ()
    problem: str | None = None  # why a part is missing


def examine_gpus(measure_s: float = 0.0) -> GpuHealth:
    """State and speed of this machine's devices. With `measure_s`, each multiplies matrices for so long first.

    The state is read under load: an idle GPU does not throttle.
    """
    has_mps = shutil.which("nvidia-cuda-mps-control") is not None
    rates: tuple[DeviceRate, ...] = ()
    states: list[GpuState] = []
    try:
        if measure_s:
            rates = measure_rates(measure_s, on_half=lambda: states.extend(read_states()))
        else:
            states.extend(read_states())
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return GpuHealth(tuple(states), has_mps, rates, f"{type(error).__name__}: {error}")
    return GpuHealth(tuple(states), has_mps, rates)


def read_states() -> list[GpuState]:
    """nvidia-smi's lines; empty if it is not installed. Raises OSError or SubprocessError if it fails."""
    smi = shutil.which("nvidia-smi")
    if smi is None:
        return []
    for reasons in REASON_COLUMNS:
        query = f"--query-gpu={','.join((*COLUMNS, reasons))}"
        done = subprocess.run(
            [smi, query, "--format=csv,noheader,nounits"], capture_output=True, text=True, timeout=SMI_TIMEOUT_S
        )
        if done.returncode == 0:
            return parse_states(done.stdout)
    raise OSError(f"nvidia-smi: {(done.stdout + done.stderr).strip().splitlines()[-1:]}")


def parse_states(text: str) -> list[GpuState]:
    """The lines of `nvidia-smi --query-gpu=... --format=csv,noheader,nounits`. Raises ValueError for other text."""
    states = []
    for line in text.strip().splitlines():
        fields = [field.strip() for field in line.split(",")]
        if len(fields) != len(COLUMNS) + 1:
            raise ValueError(f"nvidia-smi prints a line with {len(fields)} values: {line[:100]!r}")
        index, name, driver, ecc, temperature, reasons = fields
        bits = int(reasons, 16) if reasons.startswith("0x") else 0
        words = tuple(word for bit, word in THROTTLING.items() if bits & bit)
        states.append(GpuState(int(index), name, driver, _number(ecc), _number(temperature), words))
    return states


def measure_rates(seconds: float, on_half: Callable[[], object] = lambda: None) -> tuple[DeviceRate, ...]:
    """The rate of each device, one after the other; `on_half` is called while the first one is busy.

    Raises OSError or ValueError if torch cannot be used, or does not answer: a damaged GPU may never do.
    """
    command = [sys.executable, "-c", _MULTIPLY, str(seconds)]
    timeout_s, started = START_TIMEOUT_S + 64 * seconds, time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        timer = threading.Timer(timeout_s, process.kill)
        timer.start()
        try:
            if process.stdout.readline().strip() == "ready":
                time.sleep(seconds / 2)
                on_half()
            output, errors = process.communicate()
        finally:
            timer.cancel()
    if process.returncode and time.monotonic() - started >= timeout_s:
        raise OSError(f"torch did not answer within {timeout_s:g} s")
    if process.returncode:
        raise OSError((errors.strip().splitlines() or ["torch ended without a message"])[-1])
    pairs = [line.split(" ", 1) for line in output.splitlines()]
    return tuple(DeviceRate(name, float(rate)) for rate, name in pairs)


def _number(text: str) -> int | None:
    return int(text) if text.isdigit() else None  # [N/A], [Not Supported]
