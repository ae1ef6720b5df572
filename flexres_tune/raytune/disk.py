"""The disk that a sweep takes: 4 bytes x parameters x (1 + optimizer's slots) a checkpoint, and the tables."""

from __future__ import annotations

from collections.abc import Sequence

from flexres_tune.raytune.keep import KEPT, KEPT_WHILE_RUNNING
from flexres_tune.results.cells import format_bytes
from flexres_tune.spec import PlannedTrial

SLOTS = {"sgd": 1, "nesterov": 1, "adam": 2, "adamw": 2, "adadelta": 2, "adagrad": 1}  # tensors a parameter, by name
CHECKPOINT_BYTES = 40_000  # of generators, history, names and batch norm's running moments, beside the parameters
# Measured on 1,000,000 epochs of random numbers and on the footers of parts with one row (pyarrow 26, zstd).
EPOCH_BYTES, TRIAL_BYTES = 70, 1_000
CHECKPOINT_PERIOD_S = 10.0  # what a killed trial loses at most, beside its current epoch
CHECKPOINTS_PER_S = 10  # of all trials; 5,000,000 parameters with momentum are 40 MB, which one storage takes for all
PARTS_BYTES = 6_000_000  # at most 64 parts of each of three sizes a table, until a sweep's end makes them one


def checkpoint_bytes(trial: PlannedTrial) -> int:
    """Size of one checkpoint: the weights and what the optimizer keeps for each of them, in float32."""
    config = trial.config
    slots = SLOTS[config.optimizer] if config.momentum != 0 else 0
    return trial.num_parameters * 4 * (1 + slots) + CHECKPOINT_BYTES


def checkpoint_period_s(num_at_once: int) -> float:
    """Seconds between two checkpoints of a trial: longer where so many trials would be more than one storage takes."""
    return max(CHECKPOINT_PERIOD_S, num_at_once / CHECKPOINTS_PER_S)


def describe_disk(trials: Sequence[PlannedTrial], num_at_once: int) -> str:
    """One line: what the trials will take at most while they run, and what stays.

    A running trial has one checkpoint, and for a moment a second one beside it, which takes its place.
    """
    sizes = sorted(map(checkpoint_bytes, trials), reverse=True)
    seeds = max(1, len(trials) // max(1, len({trial.config.config_id for trial in trials})))
    running = 2 * sum(sizes[:num_at_once]) + sum(sizes[: KEPT_WHILE_RUNNING * seeds])
    kept = sum(sizes[:KEPT])
    tables = sum(trial.config.epochs for trial in trials) * EPOCH_BYTES + len(trials) * TRIAL_BYTES
    most = format_bytes(running + tables + PARTS_BYTES)
    return (
        f"disk: at most {most} while it runs ({num_at_once} trials at once), of which "
        f"{format_bytes(kept)} of checkpoints and {format_bytes(tables)} of tables stay"
    )
