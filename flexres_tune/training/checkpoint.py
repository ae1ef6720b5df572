"""Checkpoints: state dicts of one trial in one file, written aside and renamed, so that a reader finds all or nothing.

On object storage the one file is an object, written in one piece.

The file holds no code: it is read with torch's weights_only.
"""

from __future__ import annotations

import io
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from flexres_tune.errors import CheckpointError, StorageError, describe_os_error
from flexres_tune.storage import AnyPath, atomic_write

FORMAT = 1  # of the payload; a file of another format is not read
KEYS = {"trial_id", "epoch", "history", "device_type", "model", "optimizer", "generators"}
AWAY_S = 600.0  # so long a trial that starts waits for a server that is away: anew, it would lose what it had
AWAY_RETRY_S = 5.0

T = TypeVar("T")

log = logging.getLogger(__name__)


class DamagedCheckpointError(CheckpointError):
    """A file that is not a whole checkpoint: the trial starts anew."""


def save_checkpoint(path: AnyPath, payload: dict[str, Any]) -> None:
    """Write the payload (see KEYS; tensors, numbers, strings, lists, dicts) so that `path` is never half written.

    Raises:
        CheckpointError: the folder cannot be written, the disk is full, or the server does not answer.
    """
    assert payload.keys() == KEYS, payload.keys() ^ KEYS
    try:
        with atomic_write(path) as temporary, open(temporary, "wb") as file:
            torch.save({"format": FORMAT, **payload}, file)
    except OSError as error:
        raise CheckpointError(str(error)) from error
    except RuntimeError as error:  # torch's writer may report a full disk as a RuntimeError
        raise CheckpointError(f"{path}: cannot be written: {error}; free some space") from error


def has_checkpoint(path: AnyPath) -> bool:
    """Whether there is one; a server that is away is waited for, ten minutes at most.

    Raises:
        CheckpointError: it stayed away.
    """
    try:
        return _patiently(path.exists)
    except StorageError as error:
        raise CheckpointError(str(error)) from error


def load_checkpoint(path: AnyPath, trial_id: str) -> dict[str, Any]:
    """The payload saved for this trial, all tensors on the CPU.

    Raises:
        DamagedCheckpointError: not a whole checkpoint, or of another format.
        CheckpointError: of another trial, or not readable at all.
    """
    try:
        content = _patiently(path.read_bytes)  # apart from parsing, whose complaints are OSErrors too
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {describe_os_error(error)}") from error
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


def _patiently(ask: Callable[[], T]) -> T:
    """ask(), again and again while a server is away; a folder's answer is the first."""
    deadline = time.monotonic() + AWAY_S
    while True:
        try:
            return ask()
        except StorageError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("%s; waiting for it", error)
        time.sleep(AWAY_RETRY_S)
