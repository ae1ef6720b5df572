"""What the tables remember of a sweep: which trials are done, and how often each was started; without ray."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.records import TrialStatus
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.reader import Results
from flexres_tune.spec import Metric, PlannedTrial

WITHOUT_SCORE = (TrialStatus.DIVERGED, TrialStatus.OUT_OF_MEMORY, TrialStatus.FAILED)


class History:
    """Earlier runs of one sweep, by trial_id.

    Only `rows` is read at once, which says what is missing. The rest is read on first use, because `epochs` may have
    a million rows, and a sweep with nothing to do must say so at once.
    """

    def __init__(
        self,
        rows: Mapping[str, Mapping[str, Any]] | None = None,
        scores: Mapping[str, float] | None = None,
        source: tuple[Results, str, Metric] | None = None,
        retry: Collection[TrialStatus] = (),
        tried: Collection[str] = (),
    ):
        """Args:
        rows: newest row of each trial.
        scores: best value of the metric, higher is better; read from `source` if absent.
        retry: statuses that are as good as missing.
        tried: trial_ids that have been retried by now.
        """
        self.rows = rows or {}
        self._source = source
        self._retry = frozenset(retry)
        self._tried = tried
        if scores is not None:
            self.scores = scores

    def is_done(self, trial_id: str) -> bool:
        """Whether the trial has ended in a way that the same command leaves alone."""
        row = self.rows.get(trial_id)
        if row is None:
            return False
        status = TrialStatus(row["status"])
        return status.is_final and (status not in self._retry or trial_id in self._tried)

    def missing(self, trials: Iterable[PlannedTrial]) -> list[PlannedTrial]:
        """The trials that have yet to be run, in their order."""
        return [trial for trial in trials if not self.is_done(trial.config.trial_id)]

    @cached_property
    def epochs(self) -> pa.Table:
        """trial_id, epoch, attempt and the metric, in the order written."""
        if self._source is None:
            return pa.Table.from_pylist([], pa.schema([]))
        results, sweep, metric = self._source
        return results.epochs(sweep).select(["trial_id", "epoch", "attempt", metric.name])

    @cached_property
    def decisions(self) -> list[Mapping[str, Any]]:
        """Rows of `decisions`."""
        if self._source is None:
            return []
        results, sweep, _ = self._source
        return results.decisions(sweep).to_pylist()

    @cached_property
    def attempts(self) -> Mapping[str, int]:
        """How often each trial was started, as far as it left a row: a driver that was killed left only epochs."""
        attempts = {trial_id: row["attempt"] or 1 for trial_id, row in self.rows.items()}
        if self._source is not None:
            for trial_id, attempt in _per_trial(self.epochs, "attempt", "max"):
                attempts[trial_id] = max(attempts.get(trial_id, 0), attempt or 1)
        return attempts

    @cached_property
    def scores(self) -> Mapping[str, float]:
        """Best value of the metric of each trial with a row, higher is better; none where it did not end well."""
        if self._source is None:
            return {}
        metric = self._source[2]
        if metric.name == "val_accuracy":  # stands in the trial's own row
            best = {trial_id: row["best_val_accuracy"] for trial_id, row in self.rows.items()}
        else:
            best = dict(_per_trial(self.epochs, metric.name, "min" if metric.goal == "minimize" else "max"))
        return {
            trial_id: metric.score(best[trial_id])
            for trial_id, row in self.rows.items()
            if best.get(trial_id) is not None
            and math.isfinite(best[trial_id])
            and TrialStatus(row["status"]) not in WITHOUT_SCORE
        }


def read_history(
    paths: SweepPaths,
    metric: Metric,
    parameters: Iterable[str] = (),
    retry: Collection[TrialStatus] = (),
    tried: Collection[str] = (),
) -> History:
    """Read the sweep's tables.

    Args:
        metric: what stopping rules compare and searches follow.
        parameters: configuration's fields that a search wants to see in `rows`.
        retry: statuses that are as good as missing.
        tried: trial_ids that have been retried by now.
    """
    if not paths.folder.is_dir():
        return History()
    results = open_results(paths.root)
    if paths.sweep not in results.sweeps():
        return History()
    columns = ["trial_id", "config_id", "seed", "stage", "status", "attempt", "best_val_accuracy"]
    columns += sorted({key.removeprefix("model.") for key in parameters} - set(columns))
    table = results.trials(paths.sweep).select(columns)
    known = {status.value for status in TrialStatus}  # a row of a later version, or of a stranger, is no memory
    rows = {row["trial_id"]: row for row in table.to_pylist() if row["trial_id"] and row["status"] in known}
    return History(rows, source=(results, paths.sweep, metric), retry=retry, tried=tried)


def _per_trial(epochs: pa.Table, column: str, function: str) -> Iterable[tuple[str, Any]]:
    """(trial_id, the column's min or max over its finite values)."""
    kept = epochs
    if pa.types.is_floating(epochs.schema.field(column).type):
        kept = epochs.filter(pc.is_finite(epochs[column]))
    found = kept.group_by("trial_id").aggregate([(column, function)])
    return zip(found["trial_id"].to_pylist(), found[f"{column}_{function}"].to_pylist(), strict=True)
