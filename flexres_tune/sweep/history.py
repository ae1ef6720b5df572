"""What the tables say of a sweep's earlier runs: its trials (for the search), and its reports (for the journal)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.records import Decision, Stage, TrialStatus
from flexres_tune.results import open_results
from flexres_tune.results.own_values import with_metric
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.reader import Results
from flexres_tune.results.schema import column_of_key
from flexres_tune.search.base import History, PastTrial
from flexres_tune.search.budget import Spent
from flexres_tune.spec import Metric, SweepSpec

WITHOUT_SCORE = (TrialStatus.DIVERGED, TrialStatus.OUT_OF_MEMORY, TrialStatus.FAILED)


@dataclass(frozen=True)
class PastReports:
    """Everything that earlier runs reported and decided, in the order in which it was written."""

    epochs: pa.Table = field(default_factory=lambda: pa.table({}))  # trial_id, epoch, attempt and the metric
    decisions: tuple[Decision, ...] = ()

    def num_attempts(self, history: History) -> dict[str, int]:
        """How many times each trial was started. A driver that was killed has left no row, but perhaps epochs."""
        attempts = {trial_id: past.attempt for trial_id, past in history.trials.items()}
        for trial_id, attempt in _per_trial(self.epochs, "attempt", "max"):
            attempts[trial_id] = max(attempts.get(trial_id, 0), attempt or 1)
        return attempts

    def scores(self, history: History, metric: Metric) -> dict[str, float]:
        """What the metric ranks each trial of the tables by, higher is better; those without a finite value are left out."""
        if metric.name == "val_accuracy":  # a column of `trials`
            values = {trial_id: past.val_accuracy for trial_id, past in history.trials.items()}
        else:
            values = _ranking_values(self.epochs, metric)
        return {
            trial_id: metric.score(value)
            for trial_id, value in values.items()
            if value is not None and math.isfinite(value)
        }


def read_history(
    paths: SweepPaths,
    spec: SweepSpec,
    retry: Collection[TrialStatus] = (),
    tried: Collection[str] = (),
    with_scores: bool = True,
    with_curves: bool = False,
) -> History:
    """The trials of the sweep's tables.

    Args:
        retry: statuses that count as not done.
        tried: trial_ids that have been retried already, and count as done.
        with_scores: False leaves out the scores of a metric other than val_accuracy, for which all epochs must be read.
            There may be a million of them, and a sweep with nothing to do must say so at once.
        with_curves: read the score of every epoch, and what was decided, which a search that pauses trials or gives
            runs one by one needs. Of a paused trial they end with its row: if the driver was killed after the trial had
            continued, the trial must end its assignment again, so that its row is written.
    """
    if (results := _open(paths)) is None:
        return History()
    table = results.trials(paths.sweep)
    varied = {key for grid in spec.parameters for key in grid} if spec.method == "tpe" else ()
    column_of = {key: column_of_key(key, table.column_names) for key in sorted(varied)}
    accuracy = f"{spec.metric.at}_val_accuracy"
    columns = ["trial_id", "config_id", "seed", "stage", "status", "attempt", accuracy, "epochs_run"]
    # No row has a value of own code if all rows are older than the parameter, so there is no such column.
    columns += sorted({name for name in column_of.values() if name in table.column_names} - set(columns))
    known = {status.value for status in TrialStatus}  # a later version may write others; its rows are ignored
    rows = [row for row in table.select(columns).to_pylist() if row["status"] in known]
    values = _values(results, paths.sweep, spec.metric, rows) if with_scores else {}
    curves = _curves(results, paths.sweep, spec.metric) if with_curves else {}
    decisions = results.decisions(paths.sweep).to_pylist() if with_curves else []
    until = _until_epochs(decisions)
    trials = _allocated(decisions)
    for row in rows:
        trial_id, status = row["trial_id"], TrialStatus(row["status"])
        if not trial_id:
            continue
        value = values.get(trial_id)
        has_score = value is not None and math.isfinite(value) and status not in WITHOUT_SCORE
        trials[trial_id] = PastTrial(
            trial_id=trial_id,
            config_id=row["config_id"],
            seed=row["seed"],
            stage=row["stage"],
            status=status,
            attempt=row["attempt"] or 1,
            val_accuracy=row[accuracy],
            score=spec.metric.score(value) if has_score else None,
            is_done=status.is_final and (status not in retry or trial_id in tried),
            values={key: row.get(name) for key, name in column_of.items()},
            scores=_until_row(curves.get(trial_id, {}), row),
            until_epoch=until.get(trial_id),
        )
    return History(trials)


def read_reports(paths: SweepPaths, metric: Metric) -> PastReports:
    """The epochs and decisions of the sweep's tables; `metric` is what stopping rules compare."""
    if (results := _open(paths)) is None:
        return PastReports()
    names = {f.name for f in dataclasses.fields(Decision)}
    decisions = (
        Decision(**{name: value for name, value in row.items() if name in names})
        for row in results.decisions(paths.sweep).to_pylist()
    )
    epochs = with_metric(results.epochs(paths.sweep), metric.name)
    epochs = epochs.select(["trial_id", "epoch", "attempt", metric.name])
    return PastReports(epochs, tuple(decisions))


def read_spent(paths: SweepPaths) -> dict[str, Spent]:
    """What each trial of the sweep's tables has taken, by trial_id; rows that were copied from other sweeps count as 0.

    Read from `epochs`, so that what a killed driver's trials had trained counts as well.
    """
    if (results := _open(paths)) is None:
        return {}
    trials = results.trials(paths.sweep)
    copied = set(trials.filter(pc.is_valid(trials["reused_from"]))["trial_id"].to_pylist())
    epochs = results.epochs(paths.sweep)
    if not epochs.num_rows:
        return {}
    found = epochs.group_by("trial_id").aggregate([("epoch", "count"), ("epoch_seconds", "sum")])
    names = ("trial_id", "epoch_count", "epoch_seconds_sum")
    rows = zip(*(found[name].to_pylist() for name in names), strict=True)
    return {trial_id: Spent(count, seconds or 0.0) for trial_id, count, seconds in rows if trial_id not in copied}


def _open(paths: SweepPaths) -> Results | None:
    """The tables, or None if the sweep has none."""
    if not paths.folder.is_dir():
        return None
    results = open_results(paths.root)
    return results if paths.sweep in results.sweeps() else None


def _values(results: Results, sweep: str, metric: Metric, rows: Iterable[Mapping[str, Any]]) -> dict[str, float | None]:
    """The value of the metric that ranks each trial, by trial_id."""
    if metric.name == "val_accuracy":  # a column of `trials`
        return {row["trial_id"]: row[f"{metric.at}_val_accuracy"] for row in rows}
    return _ranking_values(with_metric(results.epochs(sweep), metric.name), metric)


def _ranking_values(epochs: pa.Table, metric: Metric) -> dict[str, float | None]:
    """The value of the metric at the epoch that ranks each trial, by trial_id, from rows of `epochs`."""
    if not epochs.num_rows:
        return {}
    if metric.at == "last":
        columns = (epochs[name].to_pylist() for name in ("trial_id", "epoch", metric.name))
        rows_by_epoch = sorted(zip(*columns, strict=True), key=lambda row: row[1] or 0)
        return {trial_id: value for trial_id, _, value in rows_by_epoch}
    epochs = epochs.select(["trial_id", metric.name])
    return dict(_per_trial(epochs, metric.name, "min" if metric.goal == "minimize" else "max"))


def _curves(results: Results, sweep: str, metric: Metric) -> dict[str, dict[int, float]]:
    """The finite scores of each trial, by trial_id and epoch."""
    epochs = with_metric(results.epochs(sweep), metric.name)
    curves: dict[str, dict[int, float]] = {}
    for row in epochs.filter(pc.is_finite(epochs[metric.name])).select(["trial_id", "epoch", metric.name]).to_pylist():
        curves.setdefault(row["trial_id"], {})[row["epoch"]] = metric.score(row[metric.name])
    return curves


def _until_row(curve: dict[int, float], row: Mapping[str, Any]) -> dict[int, float]:
    """The scores of a trial; of a paused one, up to the epoch that its row has."""
    if row["status"] != TrialStatus.PAUSED:
        return curve
    return {epoch: score for epoch, score in curve.items() if epoch <= (row["epochs_run"] or 0)}


def _allocated(decisions: Iterable[Mapping[str, Any]]) -> dict[str, PastTrial]:
    """Runs that were given to a configuration: a driver that was killed has left no other row of those that ran."""
    trials = {}
    for row in decisions:
        config_id, _, seed = row["trial_id"].rpartition("-")
        if row["action"] == "allocate" and seed.isdecimal():
            trials[row["trial_id"]] = PastTrial(
                *(row["trial_id"], config_id, int(seed), Stage.CONFIRM, TrialStatus.INTERRUPTED),
                attempt=0,
                val_accuracy=None,
                score=None,
                is_done=False,
            )
    return trials


def _until_epochs(decisions: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """The epoch up to which each promoted trial trains or trained, by trial_id; the latest one."""
    until: dict[str, int] = {}
    for row in decisions:
        if row["action"] == "promote" and (epoch := row.get("until_epoch")) is not None:
            until[row["trial_id"]] = max(epoch, until.get(row["trial_id"], 0))
    return until


def _per_trial(epochs: pa.Table, column: str, function: str) -> Iterable[tuple[str, Any]]:
    """(trial_id, min or max of the column's finite values)."""
    if not epochs.num_rows:
        return ()
    if pa.types.is_floating(epochs.schema.field(column).type):
        epochs = epochs.filter(pc.is_finite(epochs[column]))
    found = epochs.group_by("trial_id").aggregate([(column, function)])
    return zip(found["trial_id"].to_pylist(), found[f"{column}_{function}"].to_pylist(), strict=True)
