"""What the tables remember of a sweep: which trials are done, and how often each was started; without ray."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from flexres_tune.records import TrialStatus
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.spec import Metric, PlannedTrial

WITHOUT_SCORE = (TrialStatus.DIVERGED, TrialStatus.OUT_OF_MEMORY, TrialStatus.FAILED)


@dataclass(frozen=True)
class Memory:
    """Earlier runs of one sweep, by trial_id."""

    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # newest row of each trial
    attempts: Mapping[str, int] = field(default_factory=dict)  # how often each was started
    epochs: tuple[Mapping[str, Any], ...] = ()  # rows of `epochs`, in the order written
    scores: Mapping[str, float] = field(default_factory=dict)  # best value of the metric, higher is better

    def is_done(self, trial_id: str) -> bool:
        """Whether the trial has ended in a way that the same command leaves alone."""
        row = self.rows.get(trial_id)
        return row is not None and TrialStatus(row["status"]).is_final

    def missing(self, trials: Iterable[PlannedTrial]) -> list[PlannedTrial]:
        """The trials that have yet to be run, in their order."""
        return [trial for trial in trials if not self.is_done(trial.config.trial_id)]


def recall(paths: SweepPaths, metric: Metric) -> Memory:
    """Read the sweep's tables.

    Args:
        metric: what stopping rules compare and searches follow.
    """
    if not paths.folder.is_dir():
        return Memory()
    results = open_results(paths.root)
    if paths.sweep not in results.sweeps():
        return Memory()
    rows = {row["trial_id"]: row for row in results.trials(paths.sweep).to_pylist()}
    epochs = results.epochs(paths.sweep).select(["trial_id", "epoch", "attempt", metric.name]).to_pylist()
    attempts = {trial_id: row["attempt"] for trial_id, row in rows.items()}
    scores: dict[str, float] = {}
    for row in epochs:  # a driver that was killed left epochs without a trial's row
        trial_id, value = row["trial_id"], row[metric.name]
        attempts[trial_id] = max(attempts.get(trial_id, 0), row["attempt"] or 1)
        failed = trial_id in rows and TrialStatus(rows[trial_id]["status"]) in WITHOUT_SCORE
        if value is not None and math.isfinite(value) and not failed:
            scores[trial_id] = max(scores.get(trial_id, -math.inf), metric.score(value))
    return Memory(rows, attempts, tuple(epochs), scores)
