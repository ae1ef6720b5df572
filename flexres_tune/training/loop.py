"""fit: one trial, epoch by epoch, as a generator of EpochMetrics."""

from __future__ import annotations

import copy
import dataclasses
import logging
import math
import time
from collections.abc import Callable, Iterator
from typing import Any

from flexres_tune.datasets.images import ImageData
from flexres_tune.errors import ArchitectureError, CheckpointError, DivergedError
from flexres_tune.records import EpochMetrics
from flexres_tune.spec.parameters import list_layers
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.storage import AnyPath
from flexres_tune.training.checkpoint import DamagedCheckpointError, has_checkpoint, load_checkpoint, save_checkpoint
from flexres_tune.training.epoch import Preprocessing, Result, batch_sizes, evaluate, train_epoch
from flexres_tune.training.execution import Execution
from flexres_tune.training.network import prepare_network
from flexres_tune.training.state import TrainState
from flexres_tune.training.step import Network

log = logging.getLogger(__name__)


def never() -> bool:
    """Do not stop."""
    return False


def raise_it(error: CheckpointError) -> None:
    """End the trial: a person who named a checkpoint file wants to hear that it is not written."""
    raise error


def fit(
    config: TrialConfig,
    data: ImageData,
    execution: Execution,
    checkpoint: AnyPath | None = None,
    checkpoint_period_s: float = 0,
    should_stop: Callable[[], bool] = never,
    on_unsaved: Callable[[CheckpointError], None] = raise_it,
) -> Iterator[EpochMetrics]:
    """Train one trial; yields each epoch's metrics, those of a checkpoint's epochs first.

    The same arguments give the same numbers on a CPU, to the last digit, whatever else runs in the process and
    wherever the trial was interrupted; on CUDA up to the order of the device's sums. torch's global generators and
    settings are left as they were. The test set is read once, after the last epoch.

    Args:
        data: images on execution.device.
        checkpoint: file to go on from if it is there, and to write: after an epoch, before it is yielded, if
            checkpoint_period_s have passed since the last time; after the last epoch; and the last finished epoch's
            state when should_stop or an exception ends a later one. Closing the generator at a yield writes nothing.
            A damaged file is logged, and the trial starts anew.
        checkpoint_period_s: seconds; 0 writes after each epoch.
        should_stop: asked exactly once before each training step; once true, the generator ends.
        on_unsaved: hears that the checkpoint could not be written; if it returns, the trial goes on without, and the
            next save is tried as usual.

    Raises:
        DivergedError: the training or validation loss is not finite; names epoch and loss.
        ArchitectureError: the model cannot be trained on these images, or not with this batch size.
        CheckpointError: the checkpoint belongs to another trial, or cannot be read or written.
    """

    def save(payload: dict[str, Any] | None) -> None:
        if checkpoint is None or payload is None:
            return
        try:
            save_checkpoint(checkpoint, payload)
        except CheckpointError as error:
            on_unsaved(error)

    _check_batch_norm(config, data)
    state = _start(config, data, execution, checkpoint)
    yield from tuple(state.history)

    preprocessing = Preprocessing(config, data, execution)
    forward = _prepare(state, data, preprocessing, execution)
    saved_at, unsaved = time.monotonic(), None
    while state.epoch < config.epochs:
        try:
            started = time.perf_counter()
            with state.own_randomness():
                train = train_epoch(state, forward, data.train, preprocessing, execution, should_stop)
            trained = time.perf_counter()
            if train is None:
                break
            val = evaluate(state.model, data.val, preprocessing, execution)
            metrics = _metrics(state, data, train, val, trained - started, time.perf_counter() - started)
            if state.epoch + 1 == config.epochs:
                test = evaluate(state.model, data.test, preprocessing, execution)
                metrics = dataclasses.replace(metrics, test_accuracy=test.accuracy)
        except BaseException:
            save(unsaved)
            raise
        state.history.append(metrics)
        if checkpoint is not None:
            if state.epoch == config.epochs or time.monotonic() - saved_at >= checkpoint_period_s:
                save(state.to_payload())
                saved_at, unsaved = time.monotonic(), None
            else:
                # the next epoch changes the weights in place, and should_stop may want these in the middle of it
                unsaved = copy.deepcopy(state.to_payload())
        yield metrics
    save(unsaved)


def _prepare(state: TrainState, data: ImageData, preprocessing: Preprocessing, execution: Execution) -> Network:
    """The network for full batches; a trial without one has no use for a faster form."""
    batch_size = state.config.batch_size
    if len(data.train.labels) < batch_size:
        return state.model
    with state.own_randomness():
        state.model.train()
        first = data.train.images[:batch_size]
        return prepare_network(state.model, execution, lambda: preprocessing.evaluation(first))


def _start(config: TrialConfig, data: ImageData, execution: Execution, checkpoint: AnyPath | None) -> TrainState:
    state = TrainState(config, data.num_classes, data.image_size, execution)
    if checkpoint is None or not has_checkpoint(checkpoint):
        return state
    try:
        payload = load_checkpoint(checkpoint, config.trial_id)
        try:
            state.load_payload(payload)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise DamagedCheckpointError(f"{checkpoint}: does not fit the model or the optimizer: {error}") from error
    except DamagedCheckpointError as error:
        log.warning("%s; the trial starts anew", error)
        return TrainState(config, data.num_classes, data.image_size, execution)
    if payload["device_type"] != execution.device.type:
        log.warning(
            "%s: written on %s and read on %s: order and augmentation are drawn afresh",
            *(checkpoint, payload["device_type"], execution.device.type),
        )
    return state


def _metrics(
    state: TrainState, data: ImageData, train: Result, val: Result, train_seconds: float, seconds: float
) -> EpochMetrics:
    epoch = state.epoch + 1
    if not math.isfinite(val.loss):
        raise DivergedError(
            f"the validation loss is {val.loss} after epoch {epoch} (optimizer {state.config.optimizer}, "
            f"lr {state.config.lr:g}); a lower lr or warmup_epochs may keep it finite"
        )
    return EpochMetrics(
        epoch=epoch,
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        val_loss=val.loss,
        val_accuracy=val.accuracy,
        lr=state.optimizer.param_groups[0]["lr"],
        epoch_seconds=seconds,
        images_per_second=len(data.train.labels) / train_seconds,
    )


def _check_batch_norm(config: TrialConfig, data: ImageData) -> None:
    """Refuse at once what torch would refuse at the first step: batch norm over a single value a channel."""
    if min(batch_sizes(len(data.train.labels), config.batch_size)) > 1:
        return
    for layer in list_layers(config.model, data.num_classes, data.image_size):
        if layer.shape[1:] == (1, 1) and layer.name != "pool":
            raise ArchitectureError(
                f"a batch of one image has one value a channel in {layer.name}, whose map is 1x1, and batch norm "
                f"needs two, but batch_size is {config.batch_size} and there are {len(data.train.labels)} training "
                "images; use batch_size >= 2, at least 2 images, or fewer layers"
            )
