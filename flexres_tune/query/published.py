"""`query published`: the published tables next to the results of our sweeps.

Two numbers are never shown together without comment: each row says what its number was selected on, and how the run
differs from the report's. No difference is computed for data sets that are not CIFAR-10, such as digits and mnist.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flexres_tune.analysis.published import (
    REPORTS,
    PublishedRow,
    describe_reference,
    reference_of,
    reference_problem,
    references,
    reproduces,
    rows_of,
    varied_settings,
)
from flexres_tune.analysis.ranked_trials import ranked_trials
from flexres_tune.analysis.rows import concatenate, to_table
from flexres_tune.datasets.sources import SOURCES
from flexres_tune.display.format import format_value
from flexres_tune.display.render import Section
from flexres_tune.errors import ResultsError
from flexres_tune.query.output import Answer
from flexres_tune.records import TrialStatus, column
from flexres_tune.results.reader import Results

SELECTED_ON = {"test": "best on test", "val": "best on val", "": "not stated"}  # of a report's epochs
OURS_SELECTED_ON = "last epoch"
NOT_RUN, AS_PUBLISHED, OTHERWISE = "not run", "as published", "otherwise"
_AS_STATED = ("optimizer", "lr_schedule", "lr", "weight_decay", "batch_size", "normalize", "mixup_alpha")


@dataclass(frozen=True, kw_only=True)
class PublishedComparison:
    """A published row, and one configuration of ours that reproduces it; without one, our columns are null."""

    report: str = column("report")
    experiment: str = column("the report's table")
    model: str = column("preset")
    optimizer: str | None = column("as stated; null if the report does not state it")
    lr_schedule: str | None = column("as stated")
    lr: float | None = column("as stated")
    weight_decay: float | None = column("as stated")
    batch_size: int | None = column("as stated")
    normalize: bool | None = column("as stated")
    augmentation: str | None = column("as stated")
    mixup_alpha: float | None = column("as stated")
    dropout: str | None = column("as stated, before each linear layer")
    run: str = column("not run | as published | otherwise | the status of our trials", default=NOT_RUN)
    conditions: str | None = column("how our run differs from what the report states", default=None)
    num_parameters: int = column("as stated", "parameters")
    our_num_parameters: int | None = column("of our model", "parameters", default=None)
    val_accuracy: float | None = column("as stated", "fraction")
    our_val_accuracy_mean: float | None = column("validation accuracy at the best epoch", "fraction", default=None)
    our_val_accuracy_sd: float | None = column("its standard deviation over seeds", "fraction", default=None)
    test_accuracy: float = column("as stated", "fraction")
    our_test_accuracy_mean: float | None = column("test accuracy after the last epoch", "fraction", default=None)
    our_test_accuracy_sd: float | None = column("its standard deviation over seeds", "fraction", default=None)
    test_difference_points: float | None = column("ours less theirs, in percentage points", default=None)
    epochs: int | None = column("length of the run, or epoch that was read", "epochs")
    our_epochs: int | None = column("epochs that we ran", "epochs", default=None)
    selected_on: str = column("what the report chose the epoch by")
    our_selected_on: str | None = column("epoch of our test accuracy", default=None)
    our_num_seeds: int | None = column("our trials that ran to the end", "seeds", default=None)
    note: str | None = column("remark on the row")
    sweep: str | None = column("our sweep", default=None)
    config_id: str | None = column("our configuration", default=None)


_SHOWN = (
    *("run", "num_parameters", "our_num_parameters", "val_accuracy", "our_val_accuracy_mean", "our_val_accuracy_sd"),
    *("test_accuracy", "our_test_accuracy_mean", "our_test_accuracy_sd", "test_difference_points"),
    *("epochs", "our_epochs", "selected_on", "our_selected_on"),
)
_LEAST_IMPORTANT = ("our_selected_on", "our_num_parameters", "our_val_accuracy", "val_accuracy", "our_epochs", "epochs")
_LEAST_IMPORTANT += ("num_parameters", "selected_on")


@dataclass(frozen=True)
class OurRun:
    """One configuration of a sweep under one profile."""

    columns: Mapping[str, Any]  # of `trials`, of its last trial
    completed: tuple[Mapping[str, Any], ...]  # rows of `trials` that ran to the end
    statuses: str

    def accuracy(self, name: str) -> tuple[float | None, float | None]:
        """(mean, standard deviation) of a column over the trials that ran to the end."""
        values = [trial[name] for trial in self.completed if trial[name] is not None]
        return statistics.fmean(values) if values else None, statistics.stdev(values) if len(values) > 1 else None


def answer_published(results: Results | None, sweep: str | None, limit: int | None) -> Answer:
    """The published rows, each with every configuration that reproduces it; of one sweep's table, or of all tables.

    `results` is None if there is no results folder, because nothing was run yet.

    Raises:
        ResultsError: no such sweep, or one that names no published table.
    """
    ours = dict(_our_sweeps(results, sweep))
    if sweep is None:
        wanted = references()
    elif sweep in ours:
        wanted = (ours[sweep],)
    else:
        raise ResultsError(
            f"sweep {sweep!r} reproduces no published table; such a sweep names the table in its file, as "
            "sweeps/published/flexres/optimizer.yaml does with reproduces: flexres/optimizer"
        )
    tables, sections = [], []
    for reference in wanted:
        runs = [run for name, named in ours.items() if named == reference for run in _runs(results, name)]
        comparisons = _comparisons(rows_of(reference), runs)[:limit]
        tables.append(to_table(PublishedComparison, comparisons))
        sections.append(_section(reference, comparisons, runs))
    return Answer(concatenate(tables), sections)


def _our_sweeps(results: Results | None, sweep: str | None) -> Iterator[tuple[str, str]]:
    """Names of the sweeps in the results folder that reproduce a table, each with the table's name."""
    if results is None:
        return
    for name in results.choose(sweep) if sweep or results.sweeps() else ():
        try:
            reference = reference_of(results, name)
        except ResultsError:
            if sweep is not None:
                raise
            continue  # `query status` reports the damaged plan; the other sweeps can be shown
        if reference is None:
            continue
        problem = reference_problem(reference)
        if problem and sweep is not None:
            raise ResultsError(f"{name}: reproduces {problem}")
        if problem is None:
            yield name, reference


def _runs(results: Results, sweep: str) -> list[OurRun]:
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for trial in ranked_trials(results, sweep).to_pylist():
        groups.setdefault((trial["config_id"], trial["profile"]), []).append(trial)
    runs = []
    for trials in groups.values():
        completed = tuple(trial for trial in trials if trial["status"] == TrialStatus.COMPLETED)
        runs.append(
            OurRun((completed or trials)[-1], completed, ", ".join(sorted({each["status"] for each in trials})))
        )
    return runs


def _comparisons(rows: Sequence[PublishedRow], runs: Sequence[OurRun]) -> list[PublishedComparison]:
    """Per row its runs, those as published first; the row alone if there are none."""
    varied = varied_settings(rows)
    found: list[PublishedComparison] = []
    for row in rows:
        same = [(_conditions(row, run.columns), run) for run in runs if reproduces(run.columns, row, varied)]
        same.sort(key=lambda pair: (bool(pair[0]), pair[0]))
        found += [_compare(row, run, conditions) for conditions, run in same] or [_published(row)]
    return found


def _published(row: PublishedRow) -> PublishedComparison:
    stated = row.settings
    augmentation = stated.get("augmentation")
    return PublishedComparison(
        report=row.report,
        experiment=row.experiment,
        model=row.model,
        **{name: stated.get(name) for name in _AS_STATED},
        augmentation=None if augmentation is None else ", ".join(augmentation) or "none",
        dropout=", ".join(f"{value:g}" for value in stated["dropout"]) if any(stated["dropout"]) else None,
        num_parameters=row.num_parameters,
        val_accuracy=row.val_accuracy,
        test_accuracy=row.test_accuracy,
        epochs=row.epochs,
        selected_on=SELECTED_ON[row.selected_on],
        note=row.note or None,
    )


def _may_be_cifar10(dataset: str) -> bool:
    """Whether images may be those of the reports: files and own code may hold them, another named data set does not."""
    source = SOURCES.get(dataset.partition(":")[0])
    return dataset == "cifar10" or source is None or source.needs_path


def _compare(row: PublishedRow, run: OurRun, conditions: Sequence[str]) -> PublishedComparison:
    val_mean, val_sd = run.accuracy("best_val_accuracy")
    test_mean, test_sd = run.accuracy("test_accuracy")
    is_comparable = test_mean is not None and _may_be_cifar10(run.columns["dataset"])
    return replace(
        _published(row),
        run=(OTHERWISE if conditions else AS_PUBLISHED) if run.completed else run.statuses,
        conditions="; ".join(conditions) or None,
        our_num_parameters=run.columns["num_parameters"],
        our_val_accuracy_mean=val_mean,
        our_val_accuracy_sd=val_sd,
        our_test_accuracy_mean=test_mean,
        our_test_accuracy_sd=test_sd,
        test_difference_points=round(100 * (test_mean - row.test_accuracy), 2) if is_comparable else None,
        our_epochs=run.columns["epochs_run"],
        our_selected_on=OURS_SELECTED_ON if run.completed else None,
        our_num_seeds=len({trial["seed"] for trial in run.completed}),
        sweep=run.columns["sweep"],
        config_id=run.columns["config_id"],
    )


def _conditions(row: PublishedRow, run: Mapping[str, Any]) -> list[str]:
    """How a run (a row of `trials`) differs from what the report states: in images, settings and length."""
    conditions = [f"profile {run['profile']}"] if run["profile"] != "none" else []
    if run["dataset"] != "cifar10":
        conditions.append(run["dataset"])
    if run["num_train_images"] is not None:
        conditions.append(f"{run['num_train_images']:,} training images")
    conditions += [f"{name} {format_value(run[name])}" for name in row.differing(run)]
    if row.has_other_length(run["epochs"]):
        conditions.append(f"{run['epochs']} epochs")
    return conditions


def _section(reference: str, comparisons: Sequence[PublishedComparison], runs: Sequence[OurRun]) -> Section:
    marked, notes = _footnotes(comparisons)
    table = to_table(PublishedComparison, marked)
    rows = rows_of(reference)
    compared = [name for name in varied_settings(rows) if name in table.column_names] or ["model"]
    columns = [name for name in _SHOWN if table[name].null_count < table.num_rows]
    used = {each.config_id for each in comparisons}
    if others := [run for run in runs if run.columns["config_id"] not in used]:
        profiles = ", ".join(sorted({run.columns["profile"] for run in others}))
        notes.append(
            f"left out, because their models or settings replace the report's: {len(others)} of profile {profiles}; "
            "query leaderboard shows them"
        )
    if any(each.sweep for each in comparisons):
        theirs = REPORTS[rows[0].report].selected_on
        notes.append(f"theirs: {theirs}; ours: validation at its best epoch, test after the last epoch, not selected")
        notes.append("our runs never train on the images held out for validation, 5,000 of CIFAR-10's")
    return Section(
        table.select([*compared, *(name for name in columns if name not in compared)]),
        title=f"{reference}: {describe_reference(reference)}",
        notes=tuple(notes),
        least_important=_LEAST_IMPORTANT,
        lists_rows=True,
    )


def _footnotes(comparisons: Sequence[PublishedComparison]) -> tuple[list[PublishedComparison], list[str]]:
    """(rows with a letter for their conditions, conditions by letter): they are readable however narrow the screen."""
    letters: dict[str, str] = {}
    marked = []
    for each in comparisons:
        if each.conditions is not None:
            letter = letters.setdefault(each.conditions, _letter(len(letters)))
            each = replace(each, run=f"{each.run} [{letter}]")
        marked.append(each)
    return marked, [f"[{letter}] differs from the report: {conditions}" for conditions, letter in letters.items()]


def _letter(index: int) -> str:
    return chr(ord("a") + index % 26) * (index // 26 + 1)
