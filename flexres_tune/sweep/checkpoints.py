"""Which checkpoints stay: of trials that will go on, and of the best of each stage, whose weights can be exported."""

from __future__ import annotations

import bisect
import contextlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flexres_tune.errors import StorageError
from flexres_tune.records import TrialStatus
from flexres_tune.results.paths import SweepPaths
from flexres_tune.spec import PlannedTrial
from flexres_tune.spec.trial import OPTIMIZER_TRAITS
from flexres_tune.storage import list_folder, remove_temporary_files
from flexres_tune.sweep.journal import TrialState
from flexres_tune.text import format_bytes

KEPT = 3  # configurations of each stage, one checkpoint each

KEPT_WHILE_RUNNING = 10  # a configuration's mean moves until its last seed: some more can still come up


@dataclass
class _Config:
    """Trials of one configuration in one stage, by how they ended."""

    completed: dict[str, float] = field(default_factory=dict)  # trial_id -> best_val_accuracy
    others: set[str] = field(default_factory=set)

    def place(self, name: str) -> tuple:
        """As on the leaderboard: whole configurations first, then by mean; smaller is better."""
        return bool(self.others), -statistics.fmean(self.completed.values()), name


class CheckpointRetention:
    """Deletes the checkpoint of each trial that has ended, but for the best.

    A completed trial's file holds its last weights. Without them, a winner would have to be trained again to be used.
    """

    def __init__(self, paths: SweepPaths, rows: Mapping[str, Mapping[str, Any]]):
        """Args:
        rows: of earlier runs, by trial_id.
        """
        self._paths = paths
        self._configs: dict[str, dict[str, _Config]] = {}  # by stage and config_id
        self._orders: dict[
            str, list[tuple]
        ] = {}  # by stage: places of configurations with a completed trial, ascending
        self._ended: set[str] = set()  # trial_ids whose files may be there and need not be
        for trial_id, row in rows.items():
            self._note(trial_id, row["config_id"], row["stage"], row["status"], row["best_val_accuracy"])
        with contextlib.suppress(OSError):  # one listing, not one request per file that may no longer exist
            self._ended &= {name.removesuffix(".pt") for name in list_folder(paths.checkpoints)}
        self._sweep()

    def update(self, state: TrialState) -> None:
        """Told of every change to a trial."""
        record = state.record
        if record is None or not TrialStatus(record.status).is_final:
            return
        self._note(record.trial_id, record.config_id, record.stage, record.status, record.best_val_accuracy)
        self._prune(KEPT_WHILE_RUNNING, every_seed=True)

    def close(self) -> None:
        """The run is over: one checkpoint for each of the best KEPT configurations of a stage."""
        self._prune(KEPT, every_seed=False)
        self._sweep()

    def _sweep(self) -> None:
        """Delete what processes that were killed while writing left half written; no trial runs now."""
        with contextlib.suppress(OSError):
            remove_temporary_files(self._paths.checkpoints)

    def _note(self, trial_id: str, config_id: str, stage: str, status: str, accuracy: float | None) -> None:
        config = self._configs.setdefault(stage, {}).setdefault(config_id, _Config())
        order = self._orders.setdefault(stage, [])
        if config.completed:
            del order[bisect.bisect_left(order, config.place(config_id))]
        config.completed.pop(trial_id, None)
        config.others.discard(trial_id)
        if status == TrialStatus.COMPLETED and accuracy is not None and math.isfinite(accuracy):
            config.completed[trial_id] = accuracy
        else:
            config.others.add(trial_id)
        if config.completed:
            bisect.insort(order, config.place(config_id))
        if TrialStatus(status).is_final:
            self._ended.add(trial_id)

    def _kept(self, num_configs: int, every_seed: bool) -> set[str]:
        kept: set[str] = set()
        for stage, order in self._orders.items():
            for *_, config_id in order[:num_configs]:
                completed = self._configs[stage][config_id].completed
                kept |= set(completed) if every_seed else {max(completed, key=completed.__getitem__)}
        return kept

    def _prune(self, num_configs: int, every_seed: bool) -> None:
        for trial_id in self._ended - self._kept(num_configs, every_seed):
            try:
                self._paths.checkpoint(trial_id).unlink(missing_ok=True)
                self._ended.discard(trial_id)
            except StorageError:
                return  # the next one would wait for the same server; it is tried again with the next trial
            except OSError:
                continue


CHECKPOINT_BYTES = 40_000  # of generators, history, names and batch norm's running moments, beside the parameters

# Measured on 1,000,000 epochs of random numbers and on the footers of parts with one row (pyarrow 26, zstd).
EPOCH_BYTES, TRIAL_BYTES = 70, 1_000

CHECKPOINT_PERIOD_S = 10.0  # what a killed trial loses at most, beside its current epoch

CHECKPOINTS_PER_S = 10  # of all trials; 5,000,000 parameters with momentum are 40 MB, which one storage takes for all

PARTS_BYTES = 6_000_000  # at most 64 parts of each of three sizes a table, until a sweep's end makes them one


def checkpoint_bytes(trial: PlannedTrial) -> int:
    """Size of one checkpoint: the weights and what the optimizer keeps for each of them, in float32."""
    config = trial.config
    slots = OPTIMIZER_TRAITS[config.optimizer].num_state_slots if config.momentum != 0 else 0
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
