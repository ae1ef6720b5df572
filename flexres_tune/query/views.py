"""Answers of the query command: the rows a program gets, and the sections a person sees."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.leaderboard import ONE_SEED, OUTCOMES, distinguishing_columns, leaderboard
from flexres_tune.analysis.published import reference_note
from flexres_tune.analysis.status import last_line, status_table, sweep_status
from flexres_tune.analysis.summary import ADD_CONFIRM
from flexres_tune.display.format import format_value, sparkline
from flexres_tune.display.render import Section
from flexres_tune.results.reader import Results
from flexres_tune.results.schema import config_columns
from flexres_tune.text import plural

# Left out in this order where the terminal is narrow, then from the right.
_LEAST_OF_BOARD = ["config_id", "best_epoch", "stage", "last_val_accuracy", "device_seconds", "num_parameters"]
_LEAST_OF_BOARD += ["test_accuracy", "epochs", "outcome", "num_seeds", "separable_from_leader"]
_LEAST_OF_TRIALS = ["attempt", "stage", "num_parameters", "images_per_second", "last_val_accuracy", "best_epoch"]
_LEAST_OF_CURVES = ["epochs", "first_val_accuracy", "last_val_accuracy"]
_FOR_PROGRAMS = ("best_val_accuracy_low", "best_val_accuracy_high", "p_value", "compared_by", "behind_leader")
_FOR_PROGRAMS += ("behind_leader_low", "behind_leader_high")  # in csv and json; a person reads the verdict
_CAPTION = {"epochs": "epochs", "num_parameters": "parameters", "num_seeds": "seeds", "stage": "stage"}
_CAPTION |= {"outcome": "outcome"}
_BEST_FIRST = [("best_val_accuracy", "descending"), ("trial_id", "ascending")]


@dataclass(frozen=True)
class Answer:
    """`table` is for csv, json, markdown and parquet; `sections` for the terminal."""

    table: pa.Table
    sections: list[Section]


def answer_leaderboard(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """A row a configuration; one section a sweep and data set, because ranks count within one."""
    sections, boards = [], []
    for name in results.choose(sweep):
        whole = leaderboard(results, name, limit)
        boards.append(whole)
        datasets = list(dict.fromkeys(whole["dataset"].to_pylist())) or [None]
        for dataset in datasets:
            board = whole if len(datasets) == 1 else whole.filter(pc.field("dataset") == dataset)
            sections.append(_board_section(name, dataset, board))
        if note := reference_note(results, name):
            sections[-1] = replace(sections[-1], notes=(*sections[-1].notes, note))
    return Answer(pa.concat_tables(boards, promote_options="permissive"), sections)


def _board_section(sweep: str, dataset: str | None, board: pa.Table) -> Section:
    hidden = {f"num_{status}" for status in OUTCOMES} | {"sweep", "dataset", *_FOR_PROGRAMS}
    hidden |= {name for name in board.column_names if board[name].null_count == board.num_rows} - {"rank"}
    names = [name for name in board.column_names if name not in hidden]
    first = ["best_val_accuracy_mean", "best_val_accuracy_sd", "num_seeds", "separable_from_leader"]
    after = names.index("stage")
    board = board.select(
        [*names[:after], *(n for n in first if n in names), *(n for n in names[after:] if n not in first)]
    )
    unranked = board["rank"].null_count
    notes = []
    if unranked:
        notes.append(
            f"{unranked} without a rank: not all their trials ran to the end, so their accuracies are no match"
        )
    if "separable_from_leader" in board.column_names:
        board, note = _shortened_verdicts(board)
        notes += note
    board, caption = _constants_apart(board)
    parameters = [name for name in board.column_names if name in config_columns()]
    return Section(
        board,
        title=f"{sweep} on {dataset}" if dataset else sweep,
        caption=caption,
        best_row=0 if board.num_rows > unranked else None,
        notes=tuple(notes),
        least_important=[*_LEAST_OF_BOARD, *reversed(parameters)],
    )


def _shortened_verdicts(board: pa.Table) -> tuple[pa.Table, list[str]]:
    """`one seed: no interval` is said once, below the table, and takes eight characters in it."""
    verdicts = board["separable_from_leader"].to_pylist()
    if ONE_SEED not in verdicts:
        return board, []
    note = f"{ONE_SEED}; {ADD_CONFIRM} to know which differences are more than luck"
    index = board.column_names.index("separable_from_leader")
    if set(verdicts) <= {ONE_SEED, "leader", None}:
        return board.remove_column(index), [note]
    short = pa.array(["one seed" if verdict == ONE_SEED else verdict for verdict in verdicts], pa.string())
    return board.set_column(index, "separable_from_leader", short), [note]


def _constants_apart(board: pa.Table) -> tuple[pa.Table, str]:
    """(the board without the columns that say the same in every row, what they say): room for what differs."""
    if board.num_rows < 2:
        return board, ""
    columns = {name: board[name].combine_chunks() for name in _CAPTION if name in board.column_names}
    same = {
        name: values[0].as_py()
        for name, values in columns.items()
        if not values.null_count and values[1:].equals(values[:-1])
    }
    # "completed" and "screen" are what a person expects of a board
    said = [
        f"{_CAPTION[name]} {format_value(name, same[name])}"
        for name in same
        if same[name] not in ("completed", "screen")
    ]
    return board.drop_columns(list(same)), f"the same in all rows: {', '.join(said)}" if said else ""


def answer_trials(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """A row a trial, best first; for a person without what is the same in all of a sweep's trials."""
    sections, tables = [], []
    for name in results.choose(sweep):
        trials = results.trials(name).sort_by(_BEST_FIRST).slice(0, limit)
        tables.append(trials)
        columns = [
            "trial_id",
            *distinguishing_columns(results.trials(name)),
            "status",
            "best_val_accuracy",
            "best_epoch",
        ]
        columns += ["last_val_accuracy", "test_accuracy", "epochs_run", "num_parameters", "train_seconds"]
        columns += ["images_per_second", "stage", "attempt"]
        shown = trials.select(list(dict.fromkeys(columns)))
        if trials["error"].null_count < len(trials):
            errors = [None if error is None else last_line(error) for error in trials["error"].to_pylist()]
            shown = shown.append_column("error", pa.array(errors, pa.string()))
        section = Section(shown, title=name, best_row=_first_whole(shown), least_important=_LEAST_OF_TRIALS)
        sections.append(section)
    return Answer(pa.concat_tables(tables, promote_options="permissive"), sections)


def _first_whole(table: pa.Table) -> int | None:
    """The best of the trials that ran their full budget, in a table sorted best first."""
    statuses = table["status"].to_pylist()
    return statuses.index("completed") if "completed" in statuses else None


def answer_curves(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """Rows of `epochs`; for a person one line a trial: val_accuracy over epochs, all lines of a sweep to one scale.

    `limit` counts trials, best first.
    """
    sections, tables = [], []
    for name in results.choose(sweep):
        epochs = results.epochs(name).sort_by([("trial_id", "ascending"), ("epoch", "ascending")])
        curves: dict[str, list[float]] = {}
        for trial_id, value in zip(epochs["trial_id"].to_pylist(), epochs["val_accuracy"].to_pylist(), strict=True):
            curves.setdefault(trial_id, []).append(math.nan if value is None else value)
        curves = {key: values for key, values in curves.items() if key is not None}
        best = {key: max((v for v in values if math.isfinite(v)), default=math.nan) for key, values in curves.items()}
        order = sorted(
            curves, key=lambda key: (math.isnan(best[key]), -best[key] if best[key] == best[key] else 0, key)
        )
        order = order[:limit]
        if limit is not None:
            epochs = epochs.filter(pc.is_in(epochs["trial_id"], pa.array(order, pa.string())))
        tables.append(epochs)
        finite = [v for key in order for v in curves[key] if math.isfinite(v)]
        low, high = min(finite, default=0.0), max(finite, default=1.0)
        rows = [
            {
                "trial_id": key,
                "val_accuracy_per_epoch": sparkline(curves[key], low, high, width=30),
                "epochs": len(curves[key]),
                "first_val_accuracy": curves[key][0],
                "best_val_accuracy": best[key],
                "last_val_accuracy": curves[key][-1],
            }
            for key in order
        ]
        shown = _beside_configuration(results, name, pa.Table.from_pylist(rows)) if rows else epochs.slice(0, 0)
        notes = (f"lines drawn from {100 * low:.2f} % (▁) to {100 * high:.2f} % (█)",) if rows else ()
        sections.append(
            Section(shown, name, _first_whole(shown) if rows else None, notes, least_important=_LEAST_OF_CURVES)
        )
    return Answer(pa.concat_tables(tables, promote_options="permissive"), sections)


def _beside_configuration(results: Results, sweep: str, curves: pa.Table) -> pa.Table:
    """curves + how each trial ended and its varied parameters; a trial without a row is still running."""
    trials = results.trials(sweep)
    varied = distinguishing_columns(trials)
    rows = {row["trial_id"]: row for row in trials.select(["trial_id", "status", *varied]).to_pylist()}
    ids = curves["trial_id"].to_pylist()
    for position, name in enumerate(["status", *(name for name in varied if name != "epochs")], 1):
        kind = trials.schema.field(name).type
        missing = "unfinished" if name == "status" else None
        values = [rows[key][name] if key in rows else missing for key in ids]
        curves = curves.add_column(position, name, pa.array(values, kind))
    return curves


def answer_status(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """A row a sweep; below it, for a person, why trials failed and the command to go on."""
    statuses = [sweep_status(results, name) for name in results.choose(sweep)][:limit]
    table = status_table(statuses)
    notes = []
    for each in statuses:
        for failure in each.failures[:10]:
            notes.append(f"{each.sweep}: {failure.trial_id} {failure.status}: {failure.reason[:300]}")
        if len(each.failures) > 10:
            notes.append(f"{each.sweep}: {len(each.failures) - 10} more; query trials --sweep {each.sweep}")
        if each.problem:
            notes.append(each.problem)
        if each.unplanned:
            notes.append(f"{each.sweep}: {plural(each.unplanned, 'row')} of an earlier form of the sweep file, kept")
        if each.driver is not None:
            driver = each.driver
            notes.append(f"{each.sweep}: running on {driver.host}, pid {driver.pid}, {driver.started_at}")
        elif each.to_do and each.plan:
            notes.append(f"{each.sweep}: {plural(each.to_do, 'trial')} to go: {each.plan.command}")
    shown = table.select([name for name in table.column_names if name not in ("command", "driver")])
    empty = {"unplanned", "diverged", "out_of_memory", "interrupted", "failed", "stopped"}
    shown = shown.select(
        [name for name in shown.column_names if name not in empty or any(shown[name].to_pylist())]
    )  # a column of zeros says nothing
    return Answer(table, [Section(shown, notes=tuple(notes), least_important=("profile",))])


def answer_sql(results: Results, query: str, sweep: str | None, limit: int | None) -> Answer:
    """Rows of a SQL query."""
    table = results.sql(query, sweep).slice(0, limit)
    return Answer(table, [Section(table)])
