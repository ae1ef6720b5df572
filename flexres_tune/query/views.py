"""Answers that list what the tables hold: leaderboard, trials, curves, status and SQL."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.configurations import OUTCOMES
from flexres_tune.analysis.leaderboard import ONE_SEED, Board, comparison_problems, leaderboards, seeds_text
from flexres_tune.analysis.metric import RankingMetric, metric_of
from flexres_tune.analysis.published import reference_note
from flexres_tune.analysis.ranked_trials import parameter_columns, trials_with_metric
from flexres_tune.analysis.rows import concatenate, text_column, to_table
from flexres_tune.analysis.status import SweepStatus, sweep_status
from flexres_tune.analysis.summary import advice_on_seeds
from flexres_tune.display.format import format_percent, format_value, sparkline
from flexres_tune.display.render import Section
from flexres_tune.query.output import Answer
from flexres_tune.query.sql_units import column_units
from flexres_tune.records import TrialStatus, column
from flexres_tune.results.own_values import is_own_column
from flexres_tune.results.reader import Results
from flexres_tune.results.schema import config_columns, unit_of, with_units
from flexres_tune.text import last_line, plural

_INTERVAL = "interval_95_%"

# Left out in this order if the terminal is narrow, then from the right.
_BOARD_LEAST_IMPORTANT = ("config_id", "best_epoch", "stage", "last_val_accuracy", "device_seconds", "num_parameters")
_BOARD_LEAST_IMPORTANT += (
    _INTERVAL,
    "precision_used",
    "test_accuracy",
    "epochs",
    "outcome",
)
_BOARD_IMPORTANT = ("num_seeds", "separable_from_leader")  # left out after further metrics, and before parameters
_TRIALS_LEAST_IMPORTANT = ("attempt", "stage", "num_parameters", "images_per_second", "last_val_accuracy", "best_epoch")
_CURVES_LEAST_IMPORTANT = ("epochs", "first_val_accuracy", "last_val_accuracy")

# Only in CSV, JSON, Markdown and Parquet: on a terminal the verdict is enough.
_BOARD_FOR_PROGRAMS = ("p_value", "compared_by", "behind_leader", "behind_leader_low", "behind_leader_high")
_BOARD_FOR_PROGRAMS += tuple(f"num_{status}" for status in OUTCOMES)

# Columns that are named once above the board, instead of in every row, if all rows have the same value.
_BOARD_CAPTION = {"epochs": "epochs", "num_parameters": "parameters", "num_seeds": "seeds", "stage": "stage"}
_BOARD_CAPTION |= {"outcome": "outcome", "precision_used": "precision"}


def answer_leaderboard(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """One section per sweep and data set, because ranks count within one; `limit` is rows per section."""
    boards = leaderboards(results, sweep, limit)
    sections, tables = [], []
    for index, board in enumerate(boards):
        tables.append(board.to_table())
        section = _board_section(board, tables[-1])
        is_last_of_sweep = [each.sweep for each in boards[index + 1 : index + 2]] != [board.sweep]
        if is_last_of_sweep and (note := reference_note(results, board.sweep)):
            section = replace(section, notes=(*section.notes, note))
        sections.append(section)
    return Answer(concatenate(tables), sections)


def _board_section(board: Board, table: pa.Table) -> Section:
    if not board.rows:
        shown = table.select(["rank", "config_id", "outcome", f"{board.metric.column}_mean"])
        note = "no trial has ended yet; query curves shows their epochs"
        return Section(shown, title=board.sweep, notes=(note,), lists_rows=True)
    empty = {name for name in table.column_names if table[name].null_count == table.num_rows} - {"rank"}
    best = board.metric.column
    hidden = {"sweep", "dataset", f"{best}_low", f"{best}_high", *_BOARD_FOR_PROGRAMS, *empty}
    names = [name for name in table.column_names if name not in hidden]
    if any(row.metric_low is not None for row in board.rows):
        intervals = [board.metric.interval(row.metric_low, row.metric_high) for row in board.rows]
        table = table.append_column(_INTERVAL, text_column(intervals))
        names.append(_INTERVAL)
    first = [f"{best}_mean", f"{best}_sd", _INTERVAL, "num_seeds", "separable_from_leader"]
    first = [name for name in first if name in names]
    before = names[: names.index("stage")]
    table = table.select([*before, *first, *(name for name in names[len(before) :] if name not in first)])
    notes = []
    if num_unranked := board.num_rows - board.num_ranked:
        notes.append(
            f"{num_unranked} not ranked: some of their trials did not run to the end, so their accuracies are not "
            "comparable"
        )
    notes += comparison_problems(board)
    table = _with_incomplete_seeds(board, table)
    if "separable_from_leader" in table.column_names:
        table, note = _shorten_verdicts(table, advice_on_seeds(board))
        notes += note
    table, caption = _constants_as_caption(table)
    parameters = [name for name in table.column_names if name in config_columns() or is_own_column(name)]
    return Section(
        table,
        title=f"{board.sweep} on {board.dataset}" if board.dataset else board.sweep,
        caption=caption,
        best_row=0 if board.ranked else None,
        notes=tuple(notes),
        least_important=(
            *(name for name in _BOARD_LEAST_IMPORTANT if name != best),
            *(name.removesuffix("_mean") for name in (() if board.further is None else board.further.column_names)),
            *_BOARD_IMPORTANT,
            *reversed(parameters),
        ),
        uncut=(_INTERVAL,),
        lists_rows=True,
        num_rows=board.num_rows,
    )


def _with_incomplete_seeds(board: Board, table: pa.Table) -> pa.Table:
    """`2 of 3` in place of 2 if one of a configuration's three seeds did not run to the end."""
    if not any(row.is_incomplete for row in board.rows):
        return table
    cells = [seeds_text(row).removesuffix("s").removesuffix(" seed") for row in board.rows]
    return table.set_column(table.column_names.index("num_seeds"), "num_seeds", pa.array(cells, pa.string()))


def _shorten_verdicts(board: pa.Table, advice: str) -> tuple[pa.Table, list[str]]:
    """`one seed: no interval` and `2 seeds cannot show it` are explained once, below the table."""
    verdicts = board["separable_from_leader"].to_pylist()
    short = {verdict: verdict.removesuffix(" cannot show it") for verdict in verdicts if verdict}  # "2 seeds"
    notes = [f"{verdict}; more seeds may" for verdict, name in short.items() if name != verdict]
    if ONE_SEED in short:
        short[ONE_SEED] = "one seed"
        notes.append(f"{ONE_SEED}; {advice} to find out which differences are more than luck")
    index = board.column_names.index("separable_from_leader")
    if ONE_SEED in short and short.keys() <= {ONE_SEED, "leader"}:
        return board.remove_column(index), notes
    if all(verdict == name for verdict, name in short.items()):
        return board, notes  # pa.array() would import pandas
    cells = pa.array([short.get(verdict) for verdict in verdicts], pa.string())
    return board.set_column(index, "separable_from_leader", cells), notes


def _constants_as_caption(board: pa.Table) -> tuple[pa.Table, str]:
    """(the board without columns that have the same value in every row, that value in words)."""
    if board.num_rows < 2:
        return board, ""
    columns = {name: board[name].combine_chunks() for name in _BOARD_CAPTION if name in board.column_names}
    constant = {
        name: values[0].as_py()
        for name, values in columns.items()
        if not values.null_count and values[1:].equals(values[:-1])
    }
    words = [
        f"{_BOARD_CAPTION[name]} {format_value(value, unit_of(board.schema.field(name)))}"
        for name, value in constant.items()
        if value not in ("completed", "screen")  # these are what one expects of a board
    ]
    return board.drop_columns(list(constant)), f"the same in all rows: {', '.join(words)}" if words else ""


def answer_trials(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """One row per trial, best first; on a terminal without the parameters that are the same in the whole sweep."""
    sections, tables = [], []
    for name in results.choose(sweep):
        trials = results.trials(name)
        varied = parameter_columns(results, name, trials)
        num_trials = trials.num_rows
        metric = metric_of(results, name)
        trials = _best_first(trials, trials_with_metric(results, name, metric), metric).slice(0, limit)
        values = trials["metric"]
        trials = trials.drop_columns(["metric"])
        tables.append(trials)
        columns = ["trial_id", *varied, "status", "best_val_accuracy", "best_epoch", "last_val_accuracy"]
        columns += ["test_accuracy", "epochs_run", "num_parameters", "train_seconds", "images_per_second"]
        shown = trials.select(list(dict.fromkeys([*columns, "stage", "attempt"])))
        if metric.column not in shown.column_names:
            shown = shown.add_column(shown.column_names.index("best_val_accuracy"), metric.column, values)
            shown = with_units(shown, {metric.column: metric.unit})
        if trials["error"].null_count < len(trials):
            errors = [None if error is None else last_line(error) for error in trials["error"].to_pylist()]
            shown = shown.append_column("error", pa.array(errors, pa.string()))
        best = _first_completed(shown["status"].to_pylist())
        sections.append(
            Section(
                shown,
                title=name,
                best_row=best,
                least_important=tuple(each for each in _TRIALS_LEAST_IMPORTANT if each != metric.column),
                lists_rows=True,
                num_rows=num_trials,
            )
        )
    return Answer(concatenate(tables), sections)


def _best_first(trials: pa.Table, scored: pa.Table, metric: RankingMetric) -> pa.Table:
    """The trials with their `metric`, the best one first, and those without a value last."""
    rows = pc.index_in(trials["trial_id"], value_set=scored["trial_id"].combine_chunks())
    order = "descending" if metric.is_maximized else "ascending"
    ranked = trials.append_column("metric", scored["metric"].take(rows))
    return ranked.sort_by([("metric", order), ("trial_id", "ascending")])


def _first_completed(statuses: Sequence[str]) -> int | None:
    """Index of the best trial that ran to the end, if the trials are sorted best first."""
    return statuses.index(TrialStatus.COMPLETED) if TrialStatus.COMPLETED in statuses else None


@dataclass(frozen=True)
class Curve:
    """A trial's validation accuracy over its epochs, as one line of a terminal."""

    trial_id: str = column("the trial")
    status: str = column("status of the trial; unfinished if it has no row yet")
    parameters: Mapping[str, Any]
    val_accuracy_per_epoch: str = column("validation accuracy over epochs, drawn to the scale of the sweep")
    epochs: int = column("epochs run")
    first_val_accuracy: float = column("after the first epoch", "fraction")
    best_val_accuracy: float = column("highest of any epoch", "fraction")
    last_val_accuracy: float = column("after the last epoch", "fraction")


def answer_curves(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """Rows of `epochs`; on a terminal one line per trial, best first. `limit` counts trials."""
    sections, tables = [], []
    for name in results.choose(sweep):
        epochs = results.epochs(name).sort_by([("trial_id", "ascending"), ("epoch", "ascending")])
        curves: dict[str, list[float]] = {}
        for trial_id, value in zip(epochs["trial_id"].to_pylist(), epochs["val_accuracy"].to_pylist(), strict=True):
            if trial_id is not None:
                curves.setdefault(trial_id, []).append(math.nan if value is None else value)
        best = {trial_id: max(filter(math.isfinite, curve), default=math.nan) for trial_id, curve in curves.items()}
        order = sorted(curves, key=lambda each: (math.isnan(best[each]), -best[each] if best[each] > 0 else 0, each))
        if limit is not None:
            order = order[:limit]
            epochs = epochs.filter(pc.is_in(epochs["trial_id"], pa.array(order, pa.string())))
        tables.append(epochs)
        sections.append(_curves_section(results, name, {trial_id: curves[trial_id] for trial_id in order}, best))
    return Answer(concatenate(tables), sections)


def _curves_section(
    results: Results, sweep: str, curves: Mapping[str, Sequence[float]], best: Mapping[str, float]
) -> Section:
    trials = results.trials(sweep)
    varied = [name for name in parameter_columns(results, sweep, trials) if name != "epochs"]
    ended = {row["trial_id"]: row for row in trials.select(["trial_id", "status", *varied]).to_pylist()}
    finite = [value for curve in curves.values() for value in curve if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=1.0)
    rows = [
        Curve(
            trial_id=trial_id,
            status=ended[trial_id]["status"] if trial_id in ended else "unfinished",
            parameters={name: ended[trial_id][name] if trial_id in ended else None for name in varied},
            val_accuracy_per_epoch=sparkline(curve, low, high, width=30),
            epochs=len(curve),
            first_val_accuracy=curve[0],
            best_val_accuracy=best[trial_id],
            last_val_accuracy=curve[-1],
        )
        for trial_id, curve in curves.items()
    ]
    return Section(
        to_table(Curve, rows, varied),
        title=sweep,
        best_row=_first_completed([row.status for row in rows]),
        notes=(f"curves span {format_percent(low)} (▁) to {format_percent(high)} (█)",) if rows else (),
        least_important=_CURVES_LEAST_IMPORTANT,
    )


def answer_status(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """One row per sweep; on a terminal also why trials failed, and the command that runs what is missing."""
    names = results.choose(sweep)
    statuses = [sweep_status(results, name) for name in names[:limit]]
    table = to_table(SweepStatus, statuses)
    notes = [note for status in statuses for note in _status_notes(status)]
    if_not_zero = {"unplanned", *OUTCOMES} - {TrialStatus.COMPLETED}
    columns = [
        name
        for name in table.column_names
        if name not in ("command", "driver") and (name not in if_not_zero or any(table[name].to_pylist()))
    ]
    section = Section(
        table.select(columns),
        notes=tuple(notes),
        least_important=("profile",),
        lists_rows=True,
        num_rows=len(names),
    )
    return Answer(table, [section])


def _status_notes(status: SweepStatus) -> list[str]:
    notes = [f"{failure.trial_id} {failure.status}: {failure.reason[:300]}" for failure in status.failures[:10]]
    if len(status.failures) > 10:
        notes.append(f"{len(status.failures) - 10} more failures; query trials --sweep {status.sweep}")
    if status.unplanned:
        belong = "belongs" if status.unplanned == 1 else "belong"
        notes.append(f"{plural(status.unplanned, 'row')} {belong} to an earlier version of the sweep file")
    to_do = status.missing + status.interrupted
    if status.holder is not None:
        holder = status.holder
        notes.append(f"running on {holder.host}, pid {holder.pid}, since {holder.started_at}")
    elif to_do and status.command is not None:
        paused = f", and {plural(status.paused, 'paused trial')} that may continue" if status.paused else ""
        notes.append(f"{plural(to_do, 'trial')} to run{paused}: {status.command}")
    notes = [f"{status.sweep}: {note}" for note in notes]
    return [status.problem, *notes] if status.problem else notes


def answer_sql(
    results: Results, sweep: str | None, query: str, time_limit_s: float | None, limit: int | None
) -> Answer:
    """Rows of a SQL query; see column_units() for the columns that keep a unit."""
    table = results.sql(query, sweep, time_limit_s)
    num_rows = table.num_rows
    table = with_units(table.slice(0, limit), column_units(query, table.column_names))
    return Answer(table, [Section(table, lists_rows=True, num_rows=num_rows)])
