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


@dataclass(frozen=True)
class Memory:
    """Earlier runs of one sweep, by trial_id."""

    rows: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # newest row of each trial
    attempts: Mapping[str, int] = field(default_factory=dict)  # how often each was started
    epochs: tuple[Mapping[str, Any], ...] = ()  # rows of `epochs`, in the order written

    def is_done(self, trial_id: str) -> bool:
        """Whether the trial has ended in a way that the same command leaves alone."""
        row = self.rows.get(trial_id)
        return row is not None and TrialStatus(row["status"]).is_final

    def best_score(self, trial_id: str, metric: Metric) -> float | None:
        """Best value of the metric over the trial's epochs, higher is better; None where it has none."""
        if TrialStatus(self.rows[trial_id]["status"]) in (TrialStatus.DIVERGED, TrialStatus.FAILED):
            return None
        scores = (metric.score(row[metric.name]) for row in self.epochs if row["trial_id"] == trial_id)
        return max(filter(math.isfinite, scores), default=None)

    def missing(self, trials: Iterable[PlannedTrial]) -> list[PlannedTrial]:
        """The trials that have yet to be run, in their order."""
        return [trial for trial in trials if not self.is_done(trial.config.trial_id)]


def recall(paths: SweepPaths, metric: str) -> Memory:
    """Read the sweep's tables.

    Args:
        metric: column of `epochs` that stopping rules compare.
    """
    if not paths.folder.is_dir():
        return Memory()
    results = open_results(paths.root)
    if paths.sweep not in results.sweeps():
        return Memory()
    rows = {row["trial_id"]: row for row in results.trials(paths.sweep).to_pylist()}
    epochs = results.epochs(paths.sweep).select(["trial_id", "epoch", "attempt", metric]).to_pylist()
    attempts = {trial_id: row["attempt"] for trial_id, row in rows.items()}
    for row in epochs:  # a driver that was killed left epochs without a trial's row
        attempts[row["trial_id"]] = max(attempts.get(row["trial_id"], 0), row["attempt"] or 1)
    return Memory(rows, attempts, tuple(epochs))
