"""fit: train one trial, epoch by epoch, as a generator of EpochMetrics."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

from flexres_tune.datasets.images import ImageData
from flexres_tune.errors import ArchitectureError, DivergedError
from flexres_tune.optim import learning_rate
from flexres_tune.records import EpochMetrics, Predictions
from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.parameters import list_layers
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training.checkpoint import Checkpointer
from flexres_tune.training.epoch import Result, batch_sizes, evaluate, train_epoch
from flexres_tune.training.execution import Execution
from flexres_tune.training.preprocessing import Preprocessing
from flexres_tune.training.state import TrainState
from flexres_tune.training.step import TrainingSteps

FinalPredictions = dict[str, Predictions | None]  # by split: val, test
# what fit() is: `final_predictions` reads the value that it returns
Epochs = Generator[EpochMetrics, None, Callable[[], FinalPredictions]]


@dataclass(frozen=True)
class Request:
    """What a caller asks of fit()."""

    until_epoch: int | None = None  # at which the trial pauses; the schedule spans all its epochs in any case
    metrics: Sequence[str] = ()  # further ones of the validation images; a checkpoint's epochs have those of then


WHOLE = Request()


def fit(
    config: TrialConfig,
    data: ImageData,
    execution: Execution,
    checkpointer: Checkpointer | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    request: Request = WHOLE,
) -> Epochs:
    """Train one trial; yields the metrics of every epoch, first those of epochs that a checkpoint holds.

    On a CPU the same trial gives the same numbers, to the last digit, regardless of what else runs in the process and
    of where the trial was paused or interrupted; on CUDA up to the order of the device's sums. torch's global generators and
    settings are restored. The test set is read once, after the last epoch.

    Args:
        data: images on execution.device.
        checkpointer: the trial resumes from its file if that exists. It saves the state after an epoch, before the
            metrics are yielded, as often as its period says; after the last epoch; and if should_stop or an exception
            ends a later epoch, the state after the last finished one. Closing the generator at a yield saves nothing.
        should_stop: called exactly once before each training step; the generator ends when it returns true.
        request: how far to train, and what to measure.

    Raises:
        DivergedError: the training or validation loss is not finite; names epoch and loss.
        ArchitectureError: the model cannot be trained on these images, or not with this batch size.
        CheckpointError: the checkpoint belongs to another trial, or cannot be read or written.
        CodeError: a metric of the user's own raises an error.
    """
    _check_batch_norm(config, data)
    checkpointer = checkpointer or Checkpointer(None)
    state = checkpointer.restore(lambda: TrainState(config, data.num_classes, data.image_size, execution))
    last_epoch = min(request.until_epoch or config.epochs, config.epochs)
    yield from tuple(state.history[:last_epoch])
    if state.epoch >= last_epoch:
        return lambda: _predict(state, data, execution)

    preprocessing = Preprocessing(config, data, execution)
    predictions: FinalPredictions = {}
    steps = TrainingSteps(state, data.train, preprocessing, execution)
    while state.epoch < last_epoch:
        try:
            started = time.perf_counter()
            with state.own_randomness():
                train = train_epoch(state, steps, len(data.train), execution, should_stop)
            trained = time.perf_counter()
            if train is None:
                break
            is_end = state.epoch + 1 == config.epochs
            val = _validate(state, data, preprocessing, execution, is_end, request.metrics)
            measured = _metrics(state, data, train, val, trained - started, time.perf_counter() - started)
            if is_end:
                measured, predictions = _test(measured, val, state, data, preprocessing, execution)
        except BaseException:
            checkpointer.save_unsaved()
            raise
        state.history.append(measured)
        checkpointer.end_epoch(state, is_last=state.epoch == last_epoch)
        yield measured
    checkpointer.save_unsaved()
    return lambda: predictions


def _validate(
    state: TrainState,
    data: ImageData,
    preprocessing: Preprocessing,
    execution: Execution,
    is_end: bool,
    metrics: Sequence[str],
) -> Result | None:
    """The result on the validation images; None if no images are held out."""
    if not len(data.val):
        return None
    return evaluate(state.model, data.val, preprocessing, execution, is_end, metrics)


def _test(
    metrics: EpochMetrics,
    val: Result | None,
    state: TrainState,
    data: ImageData,
    preprocessing: Preprocessing,
    execution: Execution,
) -> tuple[EpochMetrics, FinalPredictions]:
    """The last epoch's metrics with the accuracy on the test set, if there is one, and the predictions of all splits."""
    if not len(data.test.labels):
        return metrics, {"val": val.predictions if val else None}
    test = evaluate(state.model, data.test, preprocessing, execution, with_predictions=True)
    predictions = {"val": val.predictions if val else None, "test": test.predictions}
    return dataclasses.replace(metrics, test_accuracy=test.accuracy), predictions


def final_predictions(epochs: Epochs) -> FinalPredictions:
    """The predictions of a trial that ran all its epochs; `epochs` is fit(), of which the last epoch was taken.

    They were computed with the metrics of that epoch. If it was in the checkpoint, they are computed now, from the same
    weights.
    """
    try:
        next(epochs)
    except StopIteration as end:
        return end.value()
    raise ValueError("the last epoch must have been taken from fit()")


def _predict(state: TrainState, data: ImageData, execution: Execution) -> FinalPredictions:
    preprocessing = Preprocessing(state.config, data, execution)
    splits = {"val": data.val} | ({"test": data.test} if len(data.test.labels) else {})
    return {
        name: evaluate(state.model, split, preprocessing, execution, with_predictions=True).predictions
        for name, split in splits.items()
        if len(split)
    }


def _metrics(
    state: TrainState, data: ImageData, train: Result, val: Result | None, train_seconds: float, seconds: float
) -> EpochMetrics:
    epoch, num_steps = state.epoch + 1, len(batch_sizes(len(data.train), state.config.batch_size))
    if val is not None and not math.isfinite(val.loss):
        raise DivergedError(
            f"the validation loss is {val.loss} after epoch {epoch} (optimizer {state.config.optimizer}, "
            f"lr {state.config.lr:g}); a lower lr or warmup_epochs may keep it finite"
        )
    return EpochMetrics(
        epoch=epoch,
        train_loss=train.loss,
        train_accuracy=train.accuracy,
        val_loss=val.loss if val else None,
        val_accuracy=val.accuracy if val else None,
        lr=learning_rate(state.config, epoch * num_steps - 1, num_steps),
        epoch_seconds=seconds,
        images_per_second=len(data.train.labels) / train_seconds,
        metrics=json.dumps(val.metrics) if val and val.metrics else None,
    )


def _check_batch_norm(config: TrialConfig, data: ImageData) -> None:
    """Refuse before training what torch would refuse at the first step: batch norm over one value per channel."""
    if min(batch_sizes(len(data.train.labels), config.batch_size)) > 1 or not isinstance(config.model, Architecture):
        return
    for layer in list_layers(config.model, data.num_classes, data.image_size):
        if layer.shape[1:] == (1, 1) and layer.name != "pool":
            raise ArchitectureError(
                f"a batch of one image has one value per channel in {layer.name}, whose map is 1x1, and batch norm "
                f"needs two, but batch_size is {config.batch_size} and there are {len(data.train.labels)} training "
                "images; use batch_size >= 2, at least 2 images, or fewer layers"
            )
