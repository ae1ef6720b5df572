"""Checkpoint files of a sweep: how often they are written, how large they are, and which of them are kept."""

from __future__ import annotations

import bisect
import contextlib
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from flexres_tune.errors import StorageError
from flexres_tune.records import Stage, TrialRecord, TrialStatus
from flexres_tune.results.paths import SweepPaths
from flexres_tune.search.base import PastTrial
from flexres_tune.spec import Metric, PlannedTrial
from flexres_tune.spec.trial import optimizer_traits
from flexres_tune.storage import list_folder, remove_temporary_files
from flexres_tune.sweep.journal import TrialState
from flexres_tune.text import format_bytes

CHECKPOINT_PERIOD_S = 10.0  # the most that a killed trial loses, in addition to its current epoch
CHECKPOINTS_PER_S = 10  # of all trials; with 5,000,000 parameters and momentum one has 40 MB, and all go to one storage

KEPT = 3  # configurations per stage, with one checkpoint each
KEPT_WHILE_RUNNING = 10  # a configuration's mean changes until its last seed, so more of them can still become the best

# Bytes of a checkpoint besides the tensors: random generators, history, names, batch norm's running moments.
CHECKPOINT_BYTES = 40_000
# Measured on 1,000,000 epochs of random numbers and on the footers of parts with one row (pyarrow 26, zstd).
EPOCH_BYTES, TRIAL_BYTES = 70, 1_000
PARTS_BYTES = 6_000_000  # at most 64 parts of each of three sizes per table; the end of a sweep merges them


def checkpoint_period_s(num_concurrent: int) -> float:
    """Seconds between two checkpoints of a trial; longer if so many trials would overload the storage."""
    return max(CHECKPOINT_PERIOD_S, num_concurrent / CHECKPOINTS_PER_S)


def checkpoint_bytes(trial: PlannedTrial) -> int:
    """Size of one checkpoint: each parameter and the optimizer's state for it, in float32."""
    config = trial.config
    num_slots = optimizer_traits(config.optimizer).num_state_slots if config.momentum != 0 else 0
    return trial.num_parameters * 4 * (1 + num_slots) + CHECKPOINT_BYTES


def describe_disk(
    trials: Sequence[PlannedTrial], num_concurrent: int, num_seeds: int = 1, keeps_all: bool = False
) -> str:
    """One line: the most that the trials, `num_seeds` of each configuration, take on disk while they run and afterwards.

    A running trial has one checkpoint, and a second one while that replaces the first. If the search pauses trials
    (`keeps_all`), nearly every trial keeps its checkpoint, so that a later command can continue it.
    """
    sizes = sorted(map(checkpoint_bytes, trials), reverse=True)
    num_kept, num_kept_meanwhile = (len(sizes), len(sizes)) if keeps_all else (KEPT, KEPT_WHILE_RUNNING * num_seeds)
    running = 2 * sum(sizes[:num_concurrent]) + sum(sizes[:num_kept_meanwhile])
    kept = sum(sizes[:num_kept])
    tables = sum(trial.config.epochs for trial in trials) * EPOCH_BYTES + len(trials) * TRIAL_BYTES
    most = format_bytes(running + tables + PARTS_BYTES)
    return (
        f"disk: at most {most} while it runs ({num_concurrent} trials at once), of which "
        f"{format_bytes(kept)} of checkpoints and {format_bytes(tables)} of tables stay"
    )


@dataclass
class _Config:
    """Trials of one configuration in one stage, by how they ended."""

    completed: dict[str, float] = field(default_factory=dict)  # trial_id -> score of the sweep's metric
    others: set[str] = field(default_factory=set)

    def rank(self, config_id: str) -> tuple:
        """Sort key of the leaderboard, best first: configurations whose trials all completed, then by mean."""
        return bool(self.others), -statistics.fmean(self.completed.values()), config_id


class CheckpointRetention:
    """Deletes the checkpoints of trials that have ended, except those of the best configurations of each stage.

    A completed trial's checkpoint holds its final weights; without it the winner would have to be trained again to be
    exported. Checkpoints of trials that will be resumed are always kept.
    """

    def __init__(
        self, paths: SweepPaths, metric: Metric, rows: Mapping[str, PastTrial], scores: Mapping[str, float]
    ) -> None:
        """`rows` are the trials of earlier runs, `scores` what the metric ranks them by, both by trial_id."""
        self._paths, self._metric = paths, metric
        self._configs: dict[str, dict[str, _Config]] = {}  # by stage and config_id
        self._ranks: dict[str, list[tuple]] = {}  # by stage, ascending: configurations with a completed trial
        self._ended: set[str] = set()  # trial_ids whose checkpoints may exist and are not needed for training
        for trial_id, row in rows.items():
            self._note(row, scores.get(trial_id))
        with contextlib.suppress(OSError):  # one listing, not one request per file that may no longer exist
            self._ended &= {name.removesuffix(".pt") for name in list_folder(paths.checkpoints)}
        self._remove_temporary_files()

    def update(self, state: TrialState) -> None:
        """A trial has changed; if it has ended, delete checkpoints that are no longer among the best."""
        record = state.record
        if record is None or not TrialStatus(record.status).is_final:
            return
        self._note(record, state.score(self._metric))
        self._prune(KEPT_WHILE_RUNNING, every_seed=True)

    def close(self) -> None:
        """The run has ended: keep one checkpoint for each of the best KEPT configurations per stage."""
        self._prune(KEPT, every_seed=False)
        self._remove_temporary_files()

    def _remove_temporary_files(self) -> None:
        """Those of processes that were killed while writing. No trial runs when this is called."""
        with contextlib.suppress(OSError):
            remove_temporary_files(self._paths.checkpoints)

    def _note(self, record: TrialRecord | PastTrial, score: float | None) -> None:
        trial_id, config_id, stage, status = record.trial_id, record.config_id, record.stage, record.status
        if stage == Stage.FINAL:
            score = 0.0  # it has no value on validation images, and there is one configuration
        config = self._configs.setdefault(stage, {}).setdefault(config_id, _Config())
        ranks = self._ranks.setdefault(stage, [])
        if config.completed:
            del ranks[bisect.bisect_left(ranks, config.rank(config_id))]
        config.completed.pop(trial_id, None)
        config.others.discard(trial_id)
        if status == TrialStatus.COMPLETED and score is not None and math.isfinite(score):
            config.completed[trial_id] = score
        else:
            config.others.add(trial_id)
        if config.completed:
            bisect.insort(ranks, config.rank(config_id))
        if TrialStatus(status).is_final:
            self._ended.add(trial_id)

    def _best(self, num_configs: int, every_seed: bool) -> set[str]:
        """trial_ids of the best configurations of each stage: all completed seeds, or only the best one."""
        best: set[str] = set()
        for stage, ranks in self._ranks.items():
            for *_, config_id in ranks[:num_configs]:
                completed = self._configs[stage][config_id].completed
                best |= set(completed) if every_seed else {max(completed, key=completed.__getitem__)}
        return best

    def _prune(self, num_configs: int, every_seed: bool) -> None:
        for trial_id in self._ended - self._best(num_configs, every_seed):
            try:
                self._paths.checkpoint(trial_id).unlink(missing_ok=True)
                self._ended.discard(trial_id)
            except StorageError:
                return  # the next request would wait for the same server; the next trial's end tries again
            except OSError:
                continue
