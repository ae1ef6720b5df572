"""Stored speeds: seconds per training step of each execution, kept in this process and in a file for the machine.

There is one entry per shape (model, image size, batch size; on CUDA also the augmentation) and device; a later trial of
the same shape, with any optimizer, reads what the first one measured. Processes that start together wait for the one
that measures. A file that cannot be read or written costs time, but no trial fails.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import torch

from flexres_tune.datasets import DataShape
from flexres_tune.datasets.cache import DataPaths, lock_if_possible
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.storage import atomic_write_text, parse_json, read_file
from flexres_tune.training.device import device_name

log = logging.getLogger(__name__)


@dataclass
class Speeds:
    """Speeds of one shape on one device, by Execution.label."""

    step_seconds: dict[str, float] = field(default_factory=dict)  # one training step; infinite if it failed
    start_seconds: dict[str, float] = field(default_factory=dict)  # by which the first steps are longer: compiling


@contextmanager
def stored_speeds(config: TrialConfig, shape: DataShape, device: torch.device) -> Iterator[Speeds]:
    """Context with the speeds measured so far for this shape; those added inside it are stored."""
    key = _key(config, shape, device)
    paths = DataPaths.from_environment()
    file = paths.root / "speeds" / f"{key}.json"
    speeds = _of_process(str(file))
    with lock_if_possible(paths.lock(f"speeds-{key}")):
        for name, values in _read(file).items():
            getattr(speeds, name).update(values)
        before = dataclasses.asdict(speeds)
        yield speeds
        if dataclasses.asdict(speeds) != before:
            _write(file, speeds)


@cache
def _of_process(file: str) -> Speeds:
    """The copy in this process, which is the only one if the cache folder cannot be written."""
    return Speeds()


def _key(config: TrialConfig, shape: DataShape, device: torch.device) -> str:
    parts = {
        "device": device_name(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else 0,
        "torch": torch.__version__,
        "model": config.model.model_dump(mode="json"),
        "image": [shape.image_size, shape.num_classes],
        "batch_size": config.batch_size,
    }
    if device.type == "cuda":  # its kernels cost a launch each, unless a graph holds them
        parts["augmentation"] = [*config.augmentation, config.mixup_alpha > 0, config.cutmix_alpha > 0]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _read(file: Path) -> dict[str, dict[str, float]]:
    try:
        found = parse_json(read_file(file))
        return {
            name: {str(label): float(value) for label, value in found[name].items()}
            for name in ("step_seconds", "start_seconds")
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        log.warning("%s: cannot be read, so the speeds are measured again: %s", file, error)
        return {}


def _write(file: Path, speeds: Speeds) -> None:
    try:
        atomic_write_text(file, json.dumps(dataclasses.asdict(speeds), indent=1))
    except OSError as error:
        log.warning("%s; other processes measure the speeds again", error)
