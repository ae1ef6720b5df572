"""Checkpoints: state dicts of one trial in one file, written aside and renamed, so that a reader finds all or nothing.

The file holds no code: it is read with torch's weights_only.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

from flexres_tune.errors import CheckpointError

FORMAT = 1  # of the payload; a file of another format is not read
KEYS = {"trial_id", "epoch", "history", "device_type", "model", "optimizer", "generators"}


class DamagedCheckpointError(CheckpointError):
    """A file that is not a whole checkpoint: the trial starts anew."""


def save_checkpoint(path: Path, payload: dict[str, Any]) -> None:
    """Write the payload (see KEYS; tensors, numbers, strings, lists, dicts) so that `path` is never half written.

    Raises:
        CheckpointError: the folder cannot be written, or the disk is full.
    """
    assert payload.keys() == KEYS, payload.keys() ^ KEYS
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            torch.save({"format": FORMAT, **payload}, file)
            file.flush()
            os.fsync(file.fileno())  # without it a machine that loses power may keep the name and lose the bytes
        os.replace(aside, path)
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as RuntimeError
        raise CheckpointError(f"{path}: cannot be written: {error}; free the disk or give another folder") from error
    finally:
        aside.unlink(missing_ok=True)


def load_checkpoint(path: Path, trial_id: str) -> dict[str, Any]:
    """The payload saved for this trial, all tensors on the CPU.

    Raises:
        DamagedCheckpointError: not a whole checkpoint, or of another format.
        CheckpointError: of another trial, or not readable at all.
    """
    try:
        content = path.read_bytes()  # apart from parsing, whose complaints are OSErrors too
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}") from error
    try:
        payload = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen kinds, by the byte that is wrong
        first_line = (str(error).splitlines() or [""])[0]
        raise DamagedCheckpointError(f"{path}: is damaged: {type(error).__name__}: {first_line}") from error
    if not isinstance(payload, dict) or payload.pop("format", None) != FORMAT or payload.keys() != KEYS:
        raise DamagedCheckpointError(f"{path}: is not a checkpoint of format {FORMAT}")
    if payload["trial_id"] != trial_id:
        raise CheckpointError(
            f"{path}: belongs to trial {payload['trial_id']}, but this is {trial_id}: their configurations or seeds "
            "differ; give another file, or delete this one"
        )
    return payload
