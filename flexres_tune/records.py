"""The rows of the tables: every field with its unit and meaning.

The Arrow schemas of `results/` and docs/results.md are derived from these classes: a new column is a new field here and
the line that fills it. Accuracies are fractions in [0, 1]; durations are wall-clock seconds; times are UTC.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Literal

if TYPE_CHECKING:
    import numpy as np


def column(meaning: str, unit: str = "", **kwargs) -> dataclasses.Field:
    """A dataclass field that carries its meaning and unit into the Arrow schema."""
    return dataclasses.field(metadata={"meaning": meaning, "unit": unit}, **kwargs)


class TrialStatus(StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"  # ran its full number of epochs
    STOPPED = "stopped"  # by the scheduler, see `decisions`
    PAUSED = "paused"  # by the search, which may continue it from its checkpoint, see `decisions`
    DIVERGED = "diverged"  # a loss that is not finite
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"  # an exception; its traceback is in `error`
    INTERRUPTED = "interrupted"  # by Ctrl-C, a signal or a lost driver; resumes when the command is run again

    @property
    def is_final(self) -> bool:
        """Whether the same command run again leaves this trial alone."""
        return self not in (TrialStatus.PAUSED, TrialStatus.INTERRUPTED)


PrecisionUsed = Literal["fp32", "tf32", "bf16"]
ClassNumber = Annotated[int, "uint16"]  # the second argument is the Arrow type of the column
Probability = Annotated[float, "float32"]
ImageNumber = Annotated[int, "int32"]
MAX_METRICS_CHARACTERS = 10_000
MAX_CLASSES = 2**16  # that a column of class numbers can tell apart; predictions of more classes are not stored


@dataclass(frozen=True)
class LeftOut:
    """What does not fit into the budget of a sweep."""

    configurations: int = 0  # that the screening does not begin
    trials: int = 0  # of the screening, not begun or not finished
    runs: int = 0  # of the confirmation


class Stage(StrEnum):
    """Which part of a sweep a trial belongs to."""

    SCREEN = "screen"
    CONFIRM = "confirm"
    FINAL = "final"  # the winner once more, on all training images; never ranked


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """Measurements of one epoch: a row of `epochs` without the trial it belongs to."""

    epoch: int = column("number of the finished epoch, from 1", "epochs")
    train_loss: float = column("mean training loss over the epoch, on augmented images", "nats")
    train_accuracy: float = column("accuracy on the augmented training images while training", "fraction")
    val_loss: float | None = column(
        "mean cross-entropy on the held-out validation images; null if none are held out", "nats"
    )
    val_accuracy: float | None = column(
        "accuracy on the held-out validation images; null if none are held out", "fraction"
    )
    lr: float = column("learning rate of the epoch's last step")
    epoch_seconds: float = column("time of the epoch, training and validation", "s")
    images_per_second: float = column("training images per second, without validation", "images/s")
    test_accuracy: float | None = column(
        "accuracy on the test set: measured once, after the last of all epochs; null in all other rows",
        "fraction",
        default=None,
    )
    metrics: str | None = column(
        "values on the validation images of what `metrics` of the sweep file lists, JSON by name; readers see a column per "
        "name; null without",
        default=None,
    )

    def value(self, name: str) -> float | None:
        """A column by its name, or a value of `metrics`; None if there is none."""
        is_column = name in type(self).__dataclass_fields__
        return getattr(self, name) if is_column else parse_metrics(self.metrics).get(name)


@lru_cache(maxsize=1024)  # a search reads the values of its trials again and again
def parse_metrics(text: str | None) -> Mapping[str, float]:
    """The numbers in the JSON of `metrics`; {} for a text that is no object."""
    try:
        found = json.loads(text) if text and len(text) <= MAX_METRICS_CHARACTERS else {}
    except (ValueError, RecursionError):
        return {}
    values = found.items() if isinstance(found, dict) else ()
    return {name: float(value) for name, value in values if type(value) in (int, float) and abs(value) < 1e300}


@dataclass(frozen=True, kw_only=True)
class EpochRecord(EpochMetrics):
    """A row of `epochs`."""

    sweep: str = column("sweep's name", default="")
    trial_id: str = column("trial that the epoch belongs to", default="")
    attempt: int = column("attempt of the trial that computed the epoch, from 1", default=1)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A decision about a trial at a rung, by the scheduler or the search, and its reason: a row of `decisions`."""

    trial_id: str = column("trial that the decision is about")
    epoch: int = column("epoch after which the decision was made", "epochs")
    rung: int = column("rung of the ladder, from 0 at the grace period; the epoch for rules without rungs")
    value: float | None = column(
        "the trial's val_accuracy; of a search, the mean over the configuration's seeds, null before its first result",
        "fraction",
    )
    cutoff: float | None = column(
        "lowest value with which the trial continues, null if there was nothing to compare with; of allocate, the mean "
        "of the configuration that it is compared with",
        "fraction",
    )
    action: str = column(
        "continue | stop, by the scheduler; pause | promote | allocate, by the search; "
        "steer stop | steer prioritise | steer reload, by a person"
    )
    ladder: str = column("ladder that the rung belongs to; only trials of one ladder are compared", default="")
    until_epoch: int | None = column(
        "epoch up to which a promoted trial trains next; null for other actions", "epochs", default=None
    )
    rank: int | None = column("place of the configuration at the rung, from 1; of a search", default=None)
    num_compared: int | None = column(
        "configurations that had reached the rung; of allocate, runs that had ended", "configurations", default=None
    )
    compared_with: str | None = column(
        "allocate: config_id of the configuration from which this run helps to separate the trial's", default=None
    )
    who: str | None = column("user@host of the person who steered the sweep; null for other decisions", default=None)
    decided_at: datetime | None = column("when a person did; null for other decisions", "UTC", default=None)
    sweep: str = column("sweep's name", default="")


@dataclass(frozen=True, kw_only=True)
class Versions:
    """The versions that a trial ran with: a struct column, `versions.torch` in SQL."""

    flexres_tune: str = ""
    torch: str = ""
    ray: str = ""
    python: str = ""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """How one trial of a sweep ended: a row of `trials` without its configuration.

    The table also has the configuration's columns (every field of TrialConfig and of the architecture); `results.schema`
    joins the two.
    """

    sweep: str = column("sweep's name")
    trial_id: str = column("hash of everything that affects the result, with the seed")
    config_id: str = column("hash of everything that affects the result, without the seed")
    seed: int = column("seed of the initial weights, the order of images and the augmentation")
    stage: str = column("screen | confirm | final: the winner on all training images, never ranked")
    profile: str = column("profile of the sweep file that was applied; none if no profile was")
    status: str = column("completed | stopped | paused | diverged | out_of_memory | failed | interrupted")
    error: str | None = column("message and traceback of a trial that failed")
    attempt: int = column("number of times that the trial was started", "attempts")
    num_parameters: int = column("trainable parameters of the model", "parameters")
    best_val_accuracy: float | None = column("highest validation accuracy of any epoch", "fraction")
    best_epoch: int | None = column("epoch of best_val_accuracy", "epochs")
    last_val_accuracy: float | None = column("validation accuracy of the last epoch run", "fraction")
    test_accuracy: float | None = column(
        "accuracy on the test set after the last epoch; null unless the trial ran all its epochs", "fraction"
    )
    epochs_run: int = column("epochs finished", "epochs")
    train_seconds: float = column("sum of epoch_seconds over all epochs of the trial", "s")
    images_per_second: float | None = column("median over the epochs of training images per second", "images/s")
    peak_memory_bytes: int | None = column("peak memory of the device, or of the process on a CPU", "bytes")
    device: str | None = column("name of the device that the trial ran on")
    precision_used: str | None = column(
        "fp32 | tf32 | bf16: the precision that was used; with `precision: auto` the same for all trials on this device"
    )
    execution: str | None = column(
        "the choices made for speed: precision, memory format, compilation, CUDA graphs; see training/execution.py"
    )
    compile_used: bool | None = column("whether torch.compile was used, which `compile: auto` decided")
    hostname: str | None = column("machine of the last attempt")
    node_ip: str | None = column("address of that machine in the Ray cluster")
    started_at: datetime = column("start of the last attempt", "UTC")
    finished_at: datetime = column("end of the last attempt", "UTC")
    versions: Versions = column(
        "versions of flexres_tune, torch, ray (empty for a trial that ran without Ray) and Python"
    )
    git_commit: str | None = column("commit of the working tree, with -dirty if it had changes")
    metrics: str | None = column(
        "`metrics` of the last epoch, JSON by name; readers see a column per name; null without", default=None
    )
    reused_from: str | None = column(
        "sweep that ran the trial, if the row was copied from it; null if this sweep ran it", default=None
    )


@dataclass(frozen=True, eq=False)
class Predictions:
    """What a trained model says about each image of a split: (N,) arrays, in the order of the split.

    Classes are uint16. Probabilities are float32 numbers that float16 can hold, so that their file is small. `second`
    and `third` are the classes of the next highest probabilities; with two classes there is no third, which is None.
    """

    labels: np.ndarray
    images: np.ndarray  # int32, see LabelRecord.image
    predicted: np.ndarray
    predicted_probability: np.ndarray
    second: np.ndarray
    second_probability: np.ndarray
    third: np.ndarray | None
    third_probability: np.ndarray | None
    true_probability: np.ndarray


@dataclass(frozen=True, kw_only=True, eq=False)
class PredictionRecord:
    """What a trial that ran all its epochs says about each image of a split, after the last one: a row of `predictions`.

    The lists have one element per image, in the order of the row of `labels` with the same dataset, split and subset.
    """

    trial_id: str = column("trial whose weights after the last epoch were used")
    dataset: str = column("data set of the images")
    split: str = column("val | test")
    subset: str = column("which images are held out for validation: fixed, or those of a seed or fold")
    predicted: tuple[ClassNumber, ...] = column("class with the highest probability, per image")
    predicted_probability: tuple[Probability, ...] = column("its probability, in float16 precision", "fraction")
    second: tuple[ClassNumber, ...] = column("class with the second highest probability, per image")
    second_probability: tuple[Probability, ...] = column("its probability, in float16 precision", "fraction")
    third: tuple[ClassNumber, ...] | None = column(
        "class with the third highest probability, per image; null if there are two classes"
    )
    third_probability: tuple[Probability, ...] | None = column("its probability, in float16 precision", "fraction")
    true_probability: tuple[Probability, ...] = column(
        "probability of the image's label, in float16 precision", "fraction"
    )
    sweep: str = column("sweep's name", default="")


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelRecord:
    """The images of a split and their labels: a row of `labels`."""

    dataset: str = column("data set of the images")
    split: str = column("val | test")
    subset: str = column("which images are held out for validation: fixed, or those of a seed or fold")
    image: tuple[ImageNumber, ...] = column(
        "number of the image, from 0, among the data set's training images (val) or test images (test)"
    )
    label: tuple[ClassNumber, ...] = column("the image's class")
    class_names: tuple[str, ...] = column("names of the classes, from class 0")
    sweep: str = column("sweep's name", default="")
