"""What a sweep remembers: each field of the tables with its unit and meaning, once.

The Arrow schemas of `results/` are derived from these classes: a new column is a new field here and the
line that fills it. Accuracies are fractions in [0, 1]; times are wall-clock seconds; moments are UTC.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


def column(meaning: str, unit: str = "", **kwargs) -> dataclasses.Field:
    """A dataclass field that carries its meaning and unit into the Arrow schema."""
    return dataclasses.field(metadata={"meaning": meaning, "unit": unit}, **kwargs)


class TrialStatus(StrEnum):
    """How a trial ended."""

    COMPLETED = "completed"  # ran its full number of epochs
    STOPPED = "stopped"  # by the scheduler, see `decisions`
    DIVERGED = "diverged"  # a loss that is not finite
    OUT_OF_MEMORY = "out_of_memory"
    FAILED = "failed"  # an exception; its traceback is in `error`
    INTERRUPTED = "interrupted"  # by a person, a signal or a lost driver; goes on when the command is run again

    @property
    def is_final(self) -> bool:
        """Whether the same command run again leaves this trial alone."""
        return self is not TrialStatus.INTERRUPTED


class Stage(StrEnum):
    """Which part of a sweep a trial belongs to."""

    SCREEN = "screen"
    CONFIRM = "confirm"


@dataclass(frozen=True, kw_only=True)
class EpochMetrics:
    """One epoch of one trial, measured: a row of `epochs`, less the trial it belongs to."""

    epoch: int = column("epoch just finished, from 1", "epochs")
    train_loss: float = column("mean training loss over the epoch, on augmented images", "nats")
    train_accuracy: float = column("accuracy on the augmented training images while training", "fraction")
    val_loss: float = column("mean cross-entropy on the held-out validation images", "nats")
    val_accuracy: float = column("accuracy on the held-out validation images", "fraction")
    lr: float = column("learning rate of the epoch's last step")
    epoch_seconds: float = column("time of the epoch, training and validation", "s")
    images_per_second: float = column("training images a second, validation not counted", "images/s")
    test_accuracy: float | None = column(
        "accuracy on the test set: measured once, after the last epoch of a full budget; null on all others",
        "fraction",
        default=None,
    )


@dataclass(frozen=True, kw_only=True)
class EpochRecord(EpochMetrics):
    """A row of `epochs`."""

    sweep: str = column("sweep's name", default="")
    trial_id: str = column("trial this epoch belongs to", default="")
    attempt: int = column("attempt of the trial that computed this epoch, from 1", default=1)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the scheduler decided about a trial at a rung, and why: a row of `decisions`."""

    trial_id: str = column("trial decided about")
    epoch: int = column("epoch at which the decision was taken", "epochs")
    rung: int = column("rung of the ladder, from 0 at the grace period; epoch for rules without rungs")
    value: float = column("the trial's val_accuracy", "fraction")
    cutoff: float | None = column("value needed to go on; null where nothing was there to compare with", "fraction")
    action: str = column("continue | stop")
    ladder: str = column("ladder the rung belongs to: trials are compared only within one", default="")
    sweep: str = column("sweep's name", default="")


@dataclass(frozen=True, kw_only=True)
class Versions:
    """The versions a trial ran with; a struct column, so `versions.torch` in SQL."""

    flexres_tune: str = ""
    torch: str = ""
    ray: str = ""
    python: str = ""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """How one trial of a sweep ended: a row of `trials`, less its configuration.

    The configuration's columns (every TrialConfig and architecture field) stand beside these in the table;
    `results.schema` joins the two.
    """

    sweep: str = column("sweep's name")
    trial_id: str = column("hash of everything that affects the result, seed included")
    config_id: str = column("hash of everything that affects the result, seed left out")
    seed: int = column("seed of initial weights, order of images and augmentation")
    stage: str = column("screen | confirm")
    profile: str = column("profile of the sweep file that was laid over it; none if none was")
    status: str = column("completed | stopped | diverged | out_of_memory | failed | interrupted")
    error: str | None = column("message and traceback, for trials that did not end well")
    attempt: int = column("how many times the trial has been started", "attempts")
    num_parameters: int = column("trainable parameters of the model", "parameters")
    best_val_accuracy: float | None = column("highest validation accuracy of any epoch", "fraction")
    best_epoch: int | None = column("epoch of best_val_accuracy", "epochs")
    last_val_accuracy: float | None = column("validation accuracy of the last epoch run", "fraction")
    test_accuracy: float | None = column(
        "accuracy on the test set after the last epoch; null unless the trial ran its full budget", "fraction"
    )
    epochs_run: int = column("epochs finished", "epochs")
    train_seconds: float = column("sum of epoch_seconds over all epochs of the trial", "s")
    images_per_second: float | None = column("median over the epochs of training images a second", "images/s")
    peak_memory_bytes: int | None = column("highest memory of the device, or of the process on a CPU", "bytes")
    device: str | None = column("device the trial ran on, by its maker's name")
    precision_used: str | None = column("fp32 | bf16: what `precision: auto` came to on this device")
    execution: str | None = column(
        "all that was chosen for speed: precision, memory format, compiled, graphs; see training/execution.py"
    )
    compile_used: bool | None = column("whether torch.compile was used: what `compile: auto` came to")
    hostname: str | None = column("machine of the last attempt")
    node_ip: str | None = column("its address in the Ray cluster")
    started_at: datetime = column("start of the last attempt", "UTC")
    finished_at: datetime = column("end of the last attempt", "UTC")
    versions: Versions = column("versions of flexres_tune, torch, ray (empty for a trial run without it) and Python")
    git_commit: str | None = column("commit of the working tree, with -dirty if it had changes")
    reused_from: str | None = column(
        "sweep that ran the trial, where its row was taken over; null if this one did", default=None
    )
