"""NVIDIA's MPS (Multi-Process Service): lets kernels of several processes run on one GPU at the same time.

Without it the processes take turns. A daemon per machine serves all of its GPUs. The first trial on a machine starts it,
and `cluster.probe.stop_mps` ends it after the sweep. A process decides before its first use of CUDA whether it is served.
Deviation from separate processes: if one trial breaks the device, CUDA ends all trials of that GPU; Ray restarts them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch

from flexres_tune.datasets.cache import lock_if_possible

CONTROL = "nvidia-cuda-mps-control"
PIPES, LOGS = "CUDA_MPS_PIPE_DIRECTORY", "CUDA_MPS_LOG_DIRECTORY"
TIMEOUT_S = 30.0


def mps_folder() -> Path:
    """Where the daemon that we start on this machine has its pipes; `cluster.probe.stop_mps` looks there."""
    return Path(tempfile.gettempdir()) / f"flexres_tune_mps_{os.getuid()}"


def use_mps() -> str | None:
    """Let CUDA in this process be served by MPS; starts the daemon if it does not run. The reason if it cannot be.

    A daemon that the cluster has started, and named in CUDA_MPS_PIPE_DIRECTORY, is used as it is.
    """
    if PIPES in os.environ or torch.cuda.is_initialized():
        return None
    if shutil.which(CONTROL) is None:
        return f"mps needs {CONTROL}, which is part of NVIDIA's driver, but it is not on the PATH"
    folder = mps_folder()
    environment = {**os.environ, PIPES: str(folder), LOGS: str(folder)}
    environment.pop("CUDA_VISIBLE_DEVICES", None)  # Ray shows this process its own GPU only; the daemon serves all
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        with lock_if_possible(folder.with_suffix(".lock")):
            if not _answers(environment):
                subprocess.run([CONTROL, "-d"], env=environment, check=True, capture_output=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.SubprocessError) as error:
        return f"mps needs {CONTROL}, but it does not start: {error}"
    os.environ |= {PIPES: str(folder), LOGS: str(folder)}
    return None


def _answers(environment: dict[str, str]) -> bool:
    """Whether the daemon runs."""
    options = {"env": environment, "capture_output": True, "text": True, "timeout": TIMEOUT_S}
    return subprocess.run([CONTROL], input="get_server_list\n", **options).returncode == 0
