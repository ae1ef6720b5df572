"""Measured speeds, remembered: for this process, and by file for the machine.

One entry a shape (model, image size, batch size, optimizer) and device; a later trial of the same shape reads what the
first one measured. Processes that start together wait for the one that measures. A file that cannot be read or
written costs time, never a trial.
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
from flexres_tune.storage import atomic_write_text
from flexres_tune.training.device import device_name

log = logging.getLogger(__name__)


@dataclass
class Speeds:
    """Of one shape on one device, by Execution.label."""

    step_seconds: dict[str, float] = field(default_factory=dict)  # one training step; infinite where it failed
    start_seconds: dict[str, float] = field(default_factory=dict)  # what the first step took more: compiling


@contextmanager
def remembered_speeds(config: TrialConfig, shape: DataShape, device: torch.device) -> Iterator[Speeds]:
    """Speeds measured so far for this shape; what is added inside the context is remembered."""
    key = _key(config, shape, device)
    paths = DataPaths.from_environment()
    file = paths.root / "speeds" / f"{key}.json"
    known = _of_process(str(file))
    with lock_if_possible(paths.lock(f"speeds-{key}")):
        for name, values in _read(file).items():
            getattr(known, name).update(values)
        before = dataclasses.asdict(known)
        yield known
        if dataclasses.asdict(known) != before:
            _write(file, known)


@cache
def _of_process(file: str) -> Speeds:
    """This process's own copy, for machines whose cache folder cannot be written."""
    return Speeds()


def _key(config: TrialConfig, shape: DataShape, device: torch.device) -> str:
    parts = {
        "device": device_name(device),
        "threads": torch.get_num_threads() if device.type == "cpu" else 0,
        "torch": torch.__version__,
        "model": config.model.model_dump(mode="json"),
        "image": [shape.image_size, shape.num_classes],
        "batch_size": config.batch_size,
        "optimizer": config.optimizer,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


def _read(file: Path) -> dict[str, dict[str, float]]:
    try:
        found = json.loads(file.read_text())
        return {
            name: {str(label): float(value) for label, value in found[name].items()}
            for name in ("step_seconds", "start_seconds")
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
        log.warning("%s: not read, so the speeds are measured anew: %s", file, error)
        return {}


def _write(file: Path, speeds: Speeds) -> None:
    try:
        atomic_write_text(file, json.dumps(dataclasses.asdict(speeds), indent=1))
    except OSError as error:
        log.warning("%s; other processes measure the speeds again", error)
