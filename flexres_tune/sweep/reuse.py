"""Reuse: copies the rows of trials that another sweep of the same results folder has completed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.datasets import image_folder, parquet
from flexres_tune.records import LabelRecord, PredictionRecord, TrialStatus, parse_metrics
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.reader import Results
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import PlannedTrial
from flexres_tune.spec.images import split_options
from flexres_tune.sweep.precision import Precisions, has_precision_of, most_used_precisions


def reuse_rows(
    paths: SweepPaths,
    missing: Sequence[PlannedTrial],
    stage: str,
    profile: str,
    precisions: Precisions,
    metrics: Sequence[str] = (),
) -> Mapping[str, int]:
    """Copy the rows, epochs and predictions of `missing` trials that other sweeps have; returns how many, by sweep.

    Only `completed` trials are copied: a stopped trial was compared with trials of its own sweep, and a trial that
    failed there may not fail here. The row gets this sweep's name, stage and profile, and `reused_from`, the sweep that
    ran the trial; everything else is kept.

    All trials of a sweep on one kind of device have the same precision: a row with another one is not copied. If this
    sweep has decided none yet (`precisions` is empty), it uses the one that most of the rows found have.

    A row that lacks one of `metrics`, the columns of the sweep's further metrics, is not copied.

    Trials with equal configurations have the same id. The id of a trial on a folder of images depends on the path and not
    on the images, so a row is not copied if a file there was changed after its trial had started. A file that was
    replaced by an older one is not noticed.
    """
    wanted = {trial.config.trial_id: trial for trial in missing}
    if not wanted or not paths.root.is_dir():
        return {}
    results = open_results(paths.root)
    candidates = list(_completed(results, paths.sweep, wanted, metrics))
    precisions = precisions or most_used_precisions(row for _, row in candidates)
    found: dict[str, dict[str, Any]] = {}
    source: dict[str, str] = {}
    for sweep, row in candidates:
        if row["trial_id"] not in found and has_precision_of(precisions, row):
            found[row["trial_id"]], source[row["trial_id"]] = row, sweep
    if not found:
        return {}
    counts: Counter[str] = Counter()
    curves = {sweep: _curves(results, sweep, found) for sweep in sorted(set(source.values()))}
    predictions = {sweep: _predictions(results, sweep, found) for sweep in curves}
    with SweepWriter(paths) as writer:
        for trial_id, row in found.items():
            epochs = curves[source[trial_id]].get(trial_id, [])
            if len(epochs) != row["epochs_run"]:
                continue  # epochs are missing, perhaps because a part is damaged: run the trial
            origin = row.get("reused_from") or source[trial_id]
            row |= {"stage": stage, "profile": profile, "reused_from": origin}
            writer.copy_trial(row, epochs, *predictions[source[trial_id]](trial_id))
            counts[source[trial_id]] += 1
    return counts


def _completed(
    results: Results, sweep: str, wanted: Mapping[str, PlannedTrial], metrics: Sequence[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """(sweep, row) of every wanted trial that another sweep has completed, with all metrics and on the same images."""
    for other in results.sweeps():
        if other == sweep:
            continue
        rows = results.trials(other)
        done = pc.and_(
            pc.is_in(rows["trial_id"], pa.array(list(wanted))), pc.equal(rows["status"], TrialStatus.COMPLETED.value)
        )
        for row in rows.filter(done).to_pylist():
            has_metrics = parse_metrics(row.get("metrics")).keys() >= set(metrics)
            if has_metrics and _data_unchanged(wanted[row["trial_id"]].config.dataset, row["started_at"]):
                yield other, row


def _curves(results: Results, sweep: str, trial_ids: Collection[str]) -> dict[str, list[dict[str, Any]]]:
    """Rows of `epochs` of these trials, by trial_id, in order; reads the table once for all trials."""
    rows = results.epochs(sweep)
    wanted = rows.filter(pc.is_in(rows["trial_id"], pa.array(list(trial_ids)))).sort_by("epoch")
    curves: dict[str, list[dict[str, Any]]] = {}
    for row in wanted.to_pylist():
        curves.setdefault(row["trial_id"], []).append(row)
    return curves


def _predictions(
    results: Results, sweep: str, trial_ids: Collection[str]
) -> Callable[[str], tuple[list[PredictionRecord], list[LabelRecord]]]:
    """A function from a trial_id to its rows of `predictions`, and the rows of `labels` of the same images."""
    table = results.predictions(sweep)
    rows = table.filter(pc.is_in(table["trial_id"], pa.array(list(trial_ids))))
    predictions, labels = _as_records(PredictionRecord, rows), _as_records(LabelRecord, results.labels(sweep))
    by_split = {(each.dataset, each.split, each.subset): each for each in labels}
    by_trial: dict[str, list[PredictionRecord]] = {}
    for each in predictions:
        by_trial.setdefault(each.trial_id, []).append(each)

    def of_trial(trial_id: str) -> tuple[list[PredictionRecord], list[LabelRecord]]:
        found = by_trial.get(trial_id, [])
        keys = [(each.dataset, each.split, each.subset) for each in found]
        return found, [by_split[key] for key in keys if key in by_split]

    return of_trial


T = TypeVar("T")

# source of images on disk -> its files: their content is no part of a trial's id
_LIST_FILES: Mapping[str, Callable[[str], list[Path]]] = {
    "parquet": parquet.list_files,
    "image_folder": image_folder.list_files,
}


def _as_records(record: type[T], table: pa.Table) -> list[T]:
    """The rows of a table as records of this sweep; lists of numbers stay arrays."""
    names = [name for name in table.column_names if name in record.__dataclass_fields__ and name != "sweep"]
    columns = {name: table[name].combine_chunks() for name in names}
    return [record(**{name: _plain(columns[name][index]) for name in names}) for index in range(table.num_rows)]


def _plain(value: pa.Scalar) -> Any:
    is_numbers = isinstance(value, pa.ListScalar) and value.is_valid and not pa.types.is_string(value.type.value_type)
    return value.values.to_numpy(zero_copy_only=False) if is_numbers else value.as_py()


def _data_unchanged(dataset: str, since: datetime) -> bool:
    name, _, path = split_options(dataset)[0].partition(":")
    if name not in _LIST_FILES:
        return True
    try:
        files = _LIST_FILES[name](path)
        return bool(files) and all(file.stat().st_mtime < since.timestamp() for file in files)
    except (OSError, RuntimeError):
        return False
