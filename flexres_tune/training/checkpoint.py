"""Checkpoints: the state of one trial in one file, written atomically, so that a reader finds all of it or none.

On object storage the file is an object, written as a whole. The file holds no code: torch reads it with weights_only.
"""

from __future__ import annotations

import copy
import io
import logging
import time
import zipfile
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import torch

from flexres_tune.errors import CheckpointError, StorageError, describe_os_error
from flexres_tune.records import PrecisionUsed
from flexres_tune.storage import AnyPath, atomic_write, read_file
from flexres_tune.text import excerpt

if TYPE_CHECKING:
    from flexres_tune.training.state import TrainState

FORMAT = 1  # of the payload; a file of another format is not read
KEYS = {"trial_id", "epoch", "history", "device_type", "precision", "model", "optimizer", "generators"}
MAX_BYTES = 4 * 2**30  # of a file; one of 5,000,000 parameters has 0.06
OUTAGE_S = 600.0  # how long a starting trial waits for a server: without its checkpoint it would lose its epochs
OUTAGE_RETRY_S = 5.0

T = TypeVar("T")

log = logging.getLogger(__name__)


class DamagedCheckpointError(CheckpointError):
    """A file that is not a complete checkpoint: the trial starts from the beginning."""

    def __init__(self, path: AnyPath, reason: str):
        super().__init__(f"{path}: {reason}; delete it to train its trial again")
        self.reason = reason


class Checkpointer:
    """Saves and restores one trial in one file. Between two saves it keeps a copy of the state after the last epoch."""

    def __init__(
        self,
        path: AnyPath | None,
        period_s: float = 0,
        on_error: Callable[[CheckpointError], None] | None = None,
    ):
        """With `path` None nothing is saved.

        Args:
            period_s: the least time between two saves, except for the last epoch's; 0 saves after every epoch.
            on_error: called if the file cannot be written; the trial continues, and the next save is attempted as
                usual. None: the error is raised, so that whoever named a file learns that it was not written.
        """
        self._path = path
        self._period_s = period_s
        self._on_error = on_error
        self._saved_at = time.monotonic()
        self._unsaved: dict[str, Any] | None = None
        self._read: dict[str, Any] | None = None  # by `precision`, for `restore`
        self._was_read = False

    def precision(self, trial_id: str) -> PrecisionUsed | None:
        """The precision of the saved epochs, in which the trial must continue; None if there is no usable file.

        A file that an older version wrote does not say it, which gives None too.

        Raises:
            CheckpointError: the file belongs to another trial, or cannot be read.
        """
        payload = self._payload(trial_id)
        return payload and payload["precision"]

    def _payload(self, trial_id: str) -> dict[str, Any] | None:
        """The file's content, read once; None if there is no file. A damaged one is logged and not used."""
        if not self._was_read and self._path is not None and has_checkpoint(self._path):
            try:
                self._read = load_checkpoint(self._path, trial_id)
            except DamagedCheckpointError as error:
                log.warning("%s: %s; the trial starts from the beginning", self._path, error.reason)
        self._was_read = True
        return self._read

    def restore(self, make_state: Callable[[], TrainState]) -> TrainState:
        """The saved state, or a new one if there is no file. A damaged file is logged and not used.

        Raises:
            CheckpointError: the file belongs to another trial, or cannot be read.
        """
        state = make_state()
        self._saved_at = time.monotonic()
        payload = self._payload(state.config.trial_id)
        self._read, self._was_read = None, False  # a later call reads the file as it is then
        if payload is None:
            return state
        try:
            state.load_payload(payload)
        except Exception as error:  # torch raises many kinds, depending on which value is wrong
            log.warning(
                "%s: does not fit the model or the optimizer: %s; the trial starts from the beginning",
                self._path,
                excerpt(error, 300),
            )
            return make_state()
        if payload["device_type"] != state.device.type:
            log.warning(
                "%s: was written on %s but is read on %s: order and augmentation are drawn afresh",
                *(self._path, excerpt(payload["device_type"]), state.device.type),
            )
        return state

    def end_epoch(self, state: TrainState, is_last: bool) -> None:
        """Save the state if the period has passed or no further epoch follows; else copy it for `save_unsaved`."""
        if self._path is None:
            return
        if is_last or time.monotonic() - self._saved_at >= self._period_s:
            self._save(state.to_payload())
            self._saved_at, self._unsaved = time.monotonic(), None
        else:
            # the next epoch changes the weights in place, and the trial may be interrupted in the middle of it
            self._unsaved = copy.deepcopy(state.to_payload())

    def save_unsaved(self) -> None:
        """Save the last finished epoch, unless it is saved: the trial ends inside the next one."""
        if self._unsaved is not None:
            self._save(self._unsaved)
            self._unsaved = None

    def _save(self, payload: dict[str, Any]) -> None:
        try:
            save_checkpoint(self._path, payload)
        except CheckpointError as error:
            if self._on_error is None:
                raise
            self._on_error(error)


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
    """Whether the file exists; waits up to ten minutes for a server that does not answer.

    Raises:
        CheckpointError: the server did not answer in that time.
    """
    try:
        return _retry_during_outage(path.exists)
    except StorageError as error:
        raise CheckpointError(str(error)) from error


def load_checkpoint(path: AnyPath, trial_id: str) -> dict[str, Any]:
    """The payload saved for this trial, all tensors on the CPU.

    Raises:
        DamagedCheckpointError: the file is not a complete checkpoint, or has another format.
        CheckpointError: the file belongs to another trial, or cannot be read at all.
    """
    try:
        content = _retry_during_outage(lambda: read_file(path, MAX_BYTES))  # before parsing, which raises OSErrors too
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {describe_os_error(error)}") from error
    try:
        payload = _parse(content)
    except Exception as error:  # torch raises many kinds, depending on which byte is wrong
        # Without torch's text, which may advise to read the file in a way that executes what is in it.
        reason = f"is damaged: it must hold tensors and numbers, but torch raises {type(error).__name__}"
        raise DamagedCheckpointError(path, reason) from error
    if isinstance(payload, dict):
        payload.setdefault("precision", None)  # an older version did not write it
    if not isinstance(payload, dict) or payload.pop("format", None) != FORMAT or payload.keys() != KEYS:
        raise DamagedCheckpointError(path, f"is not a checkpoint of format {FORMAT}")
    if payload["precision"] not in (None, *get_args(PrecisionUsed)):
        raise DamagedCheckpointError(path, "is damaged: its precision must be fp32, tf32 or bf16")
    if type(payload["epoch"]) is not int:
        raise DamagedCheckpointError(path, "is damaged: its epoch must be a whole number")
    if payload["trial_id"] != trial_id:
        raise CheckpointError(
            f"{path}: belongs to trial {excerpt(payload['trial_id'])}, but this is {trial_id}: their configurations or "
            "seeds differ; give another file, or delete this one"
        )
    return payload


def _parse(content: bytes) -> Any:
    """What torch.save has written. An archive that unpacks to more than its own size was not written by it.

    Raises many kinds of exceptions, depending on which byte is wrong.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(info.file_size for info in archive.infolist()) > len(content):
            raise ValueError("compressed")
    payload = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    _check_tensors(payload, len(content))
    return payload


def _check_tensors(value: Any, num_bytes: int) -> None:
    """Raise ValueError for a tensor with more elements than the file has bytes: reading an expanded one never ends."""
    if isinstance(value, torch.Tensor) and value.numel() > num_bytes:
        raise ValueError("expanded")
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for each in inner:
        _check_tensors(each, num_bytes)


def _retry_during_outage(request: Callable[[], T]) -> T:
    """The result of request(), repeated while the server does not answer; a folder always answers at once."""
    deadline = time.monotonic() + OUTAGE_S
    while True:
        try:
            return request()
        except StorageError as error:
            if time.monotonic() > deadline:
                raise
            log.warning("%s; waiting for it", error)
        time.sleep(OUTAGE_RETRY_S)
