"""Functions that run on a node and return what it has: versions, GPUs, memory, disk, data, storage, clock.

cluster/nodes.py sends them to the node by value. A node may lack every package, even this one, so only the standard
library is imported at the top.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

TORCH_TIMEOUT_S = 120  # its first import from a network file system takes long

# Runs in a new process: Ray hides the GPUs from a task that requested none.
_COUNT_GPUS = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"


@dataclass(frozen=True)
class NodeFacts:
    """What was found on a node. Sizes are in bytes. None: could not be determined."""

    hostname: str
    python: str
    torch: str | None
    ray: str | None
    code: str | None  # version and digest of flexres_tune's source; None if it cannot be imported
    num_gpus_torch: int | None
    torch_problem: str | None
    memory_available: int | None
    shm_free: int | None
    disk_used_fraction: float  # of the disk that holds Ray's files
    disk_free: int
    data_problems: dict[str, str | None] = field(default_factory=dict)  # by data set; None: it can be read
    storage_problem: str | None = None


# A data set, and the source of the own code that loads it, as plain values: a node may lack this package
DataName = tuple[str, dict | None]


def probe_node(
    datasets: tuple[DataName, ...], storage: str | None, mark: str, folder: str | None, ray_folder: str = "/tmp"
) -> NodeFacts:
    """Facts of this machine.

    Args:
        datasets: data sets whose images are read, as the first trial would read them.
        storage: folder or address where a file named `mark` is written.
        folder: working directory of the command, to which relative data paths refer.
    """
    if folder and os.path.isdir(folder):
        os.chdir(folder)
    code = code_version()
    num_gpus, torch_problem = _count_gpus()
    disk = shutil.disk_usage(ray_folder)
    return NodeFacts(
        hostname=socket.gethostname(),
        python=platform.python_version(),
        torch=_version("torch"),
        ray=_version("ray"),
        code=code,
        num_gpus_torch=num_gpus,
        torch_problem=torch_problem,
        memory_available=_memory_available(),
        shm_free=shutil.disk_usage("/dev/shm").free if os.path.isdir("/dev/shm") else None,
        disk_used_fraction=1 - disk.free / disk.total,
        disk_free=disk.free,
        data_problems={name: _data_problem(name, source, code is not None) for name, source in datasets},
        storage_problem=write_mark(storage, mark) if storage else None,
    )


def write_mark(storage: str, mark: str) -> str | None:
    """Write a file into the folder; returns the problem, or None."""
    try:
        place = _place(storage)
        place.mkdir(parents=True, exist_ok=True)
        (place / mark).write_text(socket.gethostname())
    except ImportError as error:
        return f"{storage}: a package that writes there is missing: {error}"
    except OSError as error:
        return f"{storage}: {error.strerror}" if error.strerror else str(error)
    return None


def seen_marks(storage: str, prefix: str) -> list[str]:
    """Names of the marks with this prefix that this node sees."""
    try:
        place = _place(storage)
        names = os.listdir(place) if isinstance(place, Path) else place.list_folder()
        return sorted(name for name in names if name.startswith(prefix))
    except (OSError, ImportError):
        return []


def remove_mark(storage: str, mark: str) -> None:
    """Remove a mark; called on the node that wrote it."""
    (_place(storage) / mark).unlink(missing_ok=True)


def _place(storage: str):
    """A folder needs only the standard library; object storage needs this package and pyarrow on the node."""
    if "://" not in storage:
        return Path(storage)
    from flexres_tune.storage import make_path

    return make_path(storage)


def clock() -> float:
    """Seconds since the epoch, on this node's clock."""
    return time.time()


def stop_mps(folder_name: str, timeout_s: float = 30.0) -> bool:
    """End the MPS daemon that trials have started on this machine, unless processes still use it; whether it ended.

    Args:
        folder_name: of its pipes, in the folder for temporary files (see training/mps.py).
    """
    folder = Path(tempfile.gettempdir()) / folder_name
    control = shutil.which("nvidia-cuda-mps-control")
    if control is None or not folder.is_dir():
        return False
    environment = {**os.environ, "CUDA_MPS_PIPE_DIRECTORY": str(folder)}

    def ask(command: str) -> str:
        options = {"env": environment, "capture_output": True, "text": True, "timeout": timeout_s}
        return subprocess.run([control], input=f"{command}\n", check=True, **options).stdout

    try:
        if any(ask(f"get_client_list {server}").split() for server in ask("get_server_list").split()):
            return False
        ask("quit")
    except (OSError, subprocess.SubprocessError):  # it does not run
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return True


def code_version() -> str | None:
    """`0.1.0 (5e1c0f4a)`: flexres_tune's version and a digest of its source; None if it cannot be imported."""
    try:
        spec = importlib.util.find_spec("flexres_tune")
        if spec is None or not spec.submodule_search_locations:
            return None
        root = Path(spec.submodule_search_locations[0])
        digest = hashlib.sha256()
        for file in sorted(root.rglob("*.py")):
            digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
        import flexres_tune

        return f"{flexres_tune.__version__} ({digest.hexdigest()[:8]})"
    except (ImportError, OSError, AttributeError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _count_gpus() -> tuple[int | None, str | None]:
    """(number of GPUs that torch sees, why it is unknown)."""
    environment = {k: v for k, v in os.environ.items() if not (k == "CUDA_VISIBLE_DEVICES" and v == "")}
    try:
        command = [sys.executable, "-c", _COUNT_GPUS]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TORCH_TIMEOUT_S, env=environment)
        if done.returncode:
            return None, (done.stderr.strip().splitlines() or ["it ended without a message"])[-1]
        return int(done.stdout.split()[-1]), None
    except (OSError, subprocess.TimeoutExpired, ValueError, IndexError) as error:
        return None, f"{type(error).__name__}: {error}"


def _memory_available() -> int | None:
    with contextlib.suppress(OSError):
        if found := re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text()):
            return int(found[1]) * 1024
    return None


def _data_problem(name: str, source: dict | None, has_code: bool) -> str | None:
    if not has_code:
        return "flexres_tune, which reads it, is missing on this node"
    try:
        from flexres_tune.datasets.verify import verify_dataset
        from flexres_tune.spec.own_code.source import CodeName, Source

        verify_dataset(name if source is None else CodeName(name, Source.model_validate(source)))
    except Exception as error:  # the first trial would fail with the same error
        return f"{type(error).__name__}: {error}"
    return None
