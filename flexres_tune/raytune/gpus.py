"""NVIDIA GPUs of this machine, without torch and without ray."""

from __future__ import annotations

import os
from pathlib import Path


def has_nvidia_gpu() -> bool:
    """Whether this machine shows an NVIDIA GPU to this process; without torch, so that `--dry-run` answers at once."""
    return (num_visible_gpus() or 0) > 0


def num_visible_gpus() -> int | None:
    """NVIDIA GPUs that this process may use; None where it sees none and nothing says so."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in ("", "-1", "NoDevFiles")])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) or None
