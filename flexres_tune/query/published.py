"""`query published`: the published tables beside what our sweeps measured.

A number is never set beside another in silence: each row says what its number was selected on, and in what the run
differs from the report's. Digits are other images, so no difference is taken there.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from flexres_tune.analysis.published import PublishedRow, is_again, reference_of, rows_of, varied_settings
from flexres_tune.display.format import format_value
from flexres_tune.display.render import Section
from flexres_tune.errors import ResultsError
from flexres_tune.query.views import Answer
from flexres_tune.records import TrialStatus
from flexres_tune.results.reader import Results
from flexres_tune.spec.published import REFERENCES, REPORTS, describe_reference

SELECTED_ON = {"test": "best on test", "val": "best on val", "": "not stated"}  # of a report's epochs
OURS_SELECTED_ON = "last epoch"  # chosen by nothing
NOT_RUN, AS_PUBLISHED, OTHERWISE = "not run", "as published", "otherwise"
_OTHER_IMAGES = ("digits",)

_STATED = ("optimizer", "lr", "weight_decay", "batch_size", "lr_schedule", "normalize", "augmentation", "mixup_alpha")
_KINDS = {
    **dict.fromkeys(("report", "experiment", "model", "optimizer", "lr_schedule"), pa.string()),
    **{"lr": pa.float64(), "weight_decay": pa.float64(), "batch_size": pa.int64(), "normalize": pa.bool_()},
    **{"augmentation": pa.string(), "mixup_alpha": pa.float64(), "dropout": pa.string()},
    **{"run": pa.string(), "conditions": pa.string()},
    **{"num_parameters": pa.int64(), "our_num_parameters": pa.int64()},
    **{"val_accuracy": pa.float64(), "our_val_accuracy_mean": pa.float64(), "our_val_accuracy_sd": pa.float64()},
    **{"test_accuracy": pa.float64(), "our_test_accuracy_mean": pa.float64(), "our_test_accuracy_sd": pa.float64()},
    **{"test_difference_points": pa.float64(), "epochs": pa.int64(), "our_epochs": pa.int64()},
    **{"selected_on": pa.string(), "our_selected_on": pa.string(), "our_num_seeds": pa.int64()},
    **{"note": pa.string(), "sweep": pa.string(), "config_id": pa.string()},
}
_ALWAYS_SHOWN = [
    *("run", "num_parameters", "our_num_parameters", "val_accuracy", "our_val_accuracy_mean"),
    *("our_val_accuracy_sd", "test_accuracy", "our_test_accuracy_mean", "our_test_accuracy_sd"),
    *("test_difference_points", "epochs", "our_epochs", "selected_on", "our_selected_on"),
]
_LEAST = ["our_selected_on", "our_num_parameters", "our_val_accuracy", "val_accuracy", "our_epochs", "epochs"]
_LEAST += ["num_parameters", "selected_on"]


def answer_published(results: Results | None, sweep: str | None, limit: int | None) -> Answer:
    """The published rows, each with every configuration that ran it again; of one sweep's table, or of all.

    Args:
        results: None where there is no results folder: nothing was run yet.

    Raises:
        ResultsError: no such sweep, or one that names no published table.
    """
    ours = dict(_our_sweeps(results, sweep))
    if sweep is None:
        references = REFERENCES
    elif sweep in ours:
        references = (ours[sweep],)
    else:
        raise ResultsError(
            f"sweep {sweep!r} reproduces no published table; a sweep does that says so, such as "
            "sweeps/published/flexres/optimizer.yaml with reproduces: flexres/optimizer"
        )
    tables, sections = [], []
    for reference in references:
        runs = [run for name, its in ours.items() if its == reference for run in _runs(results, name)]
        table = _table(rows_of(reference), runs).slice(0, limit)
        tables.append(table)
        sections.append(_section(reference, table, runs))
    return Answer(pa.concat_tables(tables), sections)


def _our_sweeps(results: Results | None, sweep: str | None) -> Iterator[tuple[str, str]]:
    """Sweeps in the results folder that reproduce a table, and which."""
    if results is None:
        return
    for name in results.choose(sweep) if sweep or results.sweeps() else ():
        try:
            reference = reference_of(results, name)
        except ResultsError:
            if sweep is not None:
                raise
            continue  # `status` says what is wrong with the plan; the other sweeps can be shown
        if reference:
            yield name, reference


def _runs(results: Results, sweep: str) -> list[dict[str, Any]]:
    """A row a configuration and profile: its columns, and means over the seeds that ran to their end."""
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for trial in results.trials(sweep).to_pylist():
        groups.setdefault((trial["config_id"], trial["profile"]), []).append(trial)
    return [_run(trials) for trials in groups.values()]


def _run(trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    ended = [trial for trial in trials if trial["status"] == TrialStatus.COMPLETED]
    measured = {}
    for ours, column in (("our_val_accuracy", "best_val_accuracy"), ("our_test_accuracy", "test_accuracy")):
        values = [trial[column] for trial in ended if trial[column] is not None]
        measured[f"{ours}_mean"] = statistics.fmean(values) if values else None
        measured[f"{ours}_sd"] = statistics.stdev(values) if len(values) > 1 else None
    statuses = sorted({trial["status"] for trial in trials})
    last = (ended or trials)[-1]
    return (
        dict(last)
        | measured
        | {
            "our_num_parameters": last["num_parameters"],
            "our_epochs": last["epochs_run"],
            "our_num_seeds": len({trial["seed"] for trial in ended}),
            "our_selected_on": OURS_SELECTED_ON if ended else None,
            "statuses": ", ".join(statuses),
            "has_ended": bool(ended),
        }
    )


def _table(rows: Sequence[PublishedRow], runs: Sequence[Mapping[str, Any]]) -> pa.Table:
    varied = varied_settings(rows)
    lines = []
    for row in rows:
        found = [(_conditions(row, run), run) for run in runs if is_again(row, run, varied)]
        found.sort(key=lambda pair: (bool(pair[0]), pair[0]))
        lines += [_line(row, run, conditions) for conditions, run in found] or [_line(row, None, [])]
    return pa.Table.from_pylist(lines, pa.schema(list(_KINDS.items())))


def _line(row: PublishedRow, run: Mapping[str, Any] | None, conditions: Sequence[str]) -> dict[str, Any]:
    theirs = {
        "report": row.report,
        "experiment": row.experiment,
        "model": row.model,
        **{name: row.settings.get(name) for name in _STATED},
        "dropout": _plain_list(row.settings["dropout"]) if any(row.settings["dropout"]) else None,
        "num_parameters": row.num_parameters,
        "val_accuracy": row.val_accuracy,
        "test_accuracy": row.test_accuracy,
        "epochs": row.epochs,
        "selected_on": SELECTED_ON[row.selected_on],
        "note": row.note or None,
        "run": NOT_RUN,
    }
    if "augmentation" in row.settings:
        theirs["augmentation"] = ", ".join(row.settings["augmentation"]) or "none"
    if run is None:
        return theirs
    test = run["our_test_accuracy_mean"]
    comparable = test is not None and run["dataset"] not in _OTHER_IMAGES
    return theirs | {
        **{name: run[name] for name in _KINDS if name.startswith("our_") and name in run},
        "run": (OTHERWISE if conditions else AS_PUBLISHED) if run["has_ended"] else run["statuses"],
        "conditions": "; ".join(conditions) or None,
        "test_difference_points": round(100 * (test - row.test_accuracy), 2) if comparable else None,
        "sweep": run["sweep"],
        "config_id": run["config_id"],
    }


def _conditions(row: PublishedRow, run: Mapping[str, Any]) -> list[str]:
    """In what a run differs from what the report states: its images, settings and length."""
    conditions = [f"profile {run['profile']}"] if run["profile"] != "none" else []
    if run["dataset"] != "cifar10":
        conditions.append(run["dataset"])
    if run["num_train_images"] is not None:
        conditions.append(f"{run['num_train_images']:,} training images")
    conditions += [f"{name} {format_value(name, run[name])}" for name in row.differing(run)]
    if row.is_epochs_short(run["epochs"]):
        conditions.append(f"{run['epochs']} epochs")
    return conditions


def _section(reference: str, table: pa.Table, runs: Sequence[Mapping[str, Any]]) -> Section:
    rows = rows_of(reference)
    about = [name for name in varied_settings(rows) if name in table.column_names] or ["model"]
    columns = [name for name in _ALWAYS_SHOWN if table[name].null_count < table.num_rows]
    shown, notes = _footnotes(table)
    again = set(table["config_id"].to_pylist())
    if others := [run for run in runs if run["config_id"] not in again]:
        profiles = ", ".join(sorted({run["profile"] for run in others}))
        notes.append(
            f"left out, because models or settings stand in for the report's: {len(others)} of profile {profiles}; "
            "query leaderboard shows them"
        )
    if any(table["sweep"].to_pylist()):
        theirs = REPORTS[rows[0].report].selected_on
        notes.append(f"theirs: {theirs}; ours: validation at its best epoch, test after the last, chosen by nothing")
        notes.append("ours never trains on the images held out to choose by, of CIFAR-10 5,000")
    return Section(
        shown.select([*about, *columns]),
        title=f"{reference}: {describe_reference(reference)}",
        notes=tuple(notes),
        least_important=_LEAST,
    )


def _footnotes(table: pa.Table) -> tuple[pa.Table, list[str]]:
    """`run` with a letter for its conditions, and the conditions by letter: they are read however narrow the screen."""
    letters: dict[str, str] = {}
    texts = []
    for run, conditions in zip(table["run"].to_pylist(), table["conditions"].to_pylist(), strict=True):
        if conditions is not None:
            mark = letters.setdefault(conditions, _letter(len(letters)))
            run = f"{run} [{mark}]"
        texts.append(run)
    index = table.column_names.index("run")
    marked = table.set_column(index, "run", pa.array(texts, pa.string()))
    return marked, [f"[{mark}] not the report's conditions: {conditions}" for conditions, mark in letters.items()]


def _letter(index: int) -> str:
    return chr(ord("a") + index % 26) * (index // 26 + 1)


def _plain_list(values: Sequence[float]) -> str:
    return ", ".join(f"{value:g}" for value in values)
