"""Board: the leaderboard as an HTML table that the reader can sort."""

from __future__ import annotations

import math
from dataclasses import replace
from datetime import datetime
from html import escape
from typing import Any

import pyarrow as pa

from flexres_tune.analysis.leaderboard import OUTCOMES
from flexres_tune.display.format import NOTHING, Column, display_columns
from flexres_tune.report.data import ReportData, spaced
from flexres_tune.text import plural

_HIDDEN = {"sweep", "dataset", "config_id", "behind_leader_low", "behind_leader_high", "compared_by"}
_HIDDEN |= {"best_val_accuracy_low", "best_val_accuracy_high"} | {f"num_{status}" for status in OUTCOMES}
_HEADS = {"behind_leader": "points behind leader", "device_seconds": "device time", "p_value": "p, adjusted"}
_MOST_ROWS = 400
_NUM_SHOWN = 15  # rows that are visible until the reader clicks "Show all"


def leaderboard_html(data: ReportData) -> str:
    """The first 400 rows; those after the first 15 are hidden until the reader clicks a button."""
    board = data.board.to_table().slice(0, _MOST_ROWS)
    if not board.num_rows:
        return ""
    left_out = len(data.board.rows) - board.num_rows
    outcomes = set(board["outcome"].to_pylist())
    hidden = _HIDDEN | ({"outcome"} if outcomes <= {"completed"} else set())
    hidden |= {name for name in board.column_names if board[name].null_count == board.num_rows}
    hidden |= {"stage"} if set(board["stage"].to_pylist()) <= {"screen"} else set()
    constant = {name for name in board.column_names if len(board[name].unique()) == 1}
    hidden |= constant & {"epochs", "num_parameters"}
    table = board.select(_order([name for name in board.column_names if name not in hidden or name == "rank"]))
    columns = [
        _in_points(column, table) if column.name == "behind_leader" else column for column in display_columns(table)
    ]
    names = table.column_names  # `x_mean` of the table is the column `x` of the display
    raw = {c.name: table[c.name if c.name in names else f"{c.name}_mean"].to_pylist() for c in columns}
    head = "".join(
        f'<th scope="col"{_number(column)} aria-sort="{"ascending" if column.name == "rank" else "none"}">'
        f"<button>{escape(_HEADS.get(column.name, spaced(column.name)))}</button></th>"
        for column in columns
    )
    ids = board["config_id"].to_pylist()
    body = []
    for index in range(table.num_rows):
        cells = "".join(_cell(c, index, raw[c.name][index]) for c in columns)
        body.append(f'<tr title="{escape(ids[index], quote=True)}">{cells}</tr>')
    folded = table.num_rows > _NUM_SHOWN
    more = f'<button class="more">Show all {plural(table.num_rows, "row")}</button>' if folded else ""
    rest = f" The {plural(left_out, 'row')} below are left out; `query leaderboard` has all." if left_out else ""
    unranked = len(data.board.rows) - len(data.board.ranked)
    note = (
        f"<p class=note>{plural(unranked, 'configuration')} not ranked: some of their trials did not run to the end, "
        "so their accuracies are not comparable.</p>"
        if unranked
        else ""
    )
    return (
        f'<div class=scroll tabindex=0><table id=board class="sortable{" folded" if folded else ""}">'
        f"<thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table></div>{more}"
        "<p class=note>One row per configuration: mean ± standard deviation over seeds. Click a column's name to sort."
        f"{rest}</p>{note}"
    )


def _cell(column: Column, index: int, value: Any) -> str:
    key = escape(_sortable(value), quote=True)
    return f'<td{_number(column)} data-v="{key}">{escape(column.cells[index])}</td>'


def _in_points(column: Column, table: pa.Table) -> Column:
    """The column of a difference of accuracies in percentage points: 0.0033 -> 0.33."""
    cells = [NOTHING if value is None else f"{100 * value:.2f}" for value in table[column.name].to_pylist()]
    return replace(column, cells=cells)


def _order(names: list[str]) -> list[str]:
    """The columns with the accuracy and the comparison with the leader first, and details to the right."""
    first = ("best_val_accuracy_mean", "best_val_accuracy_sd", "num_seeds", "separable_from_leader", "behind_leader")
    after = names.index("stage" if "stage" in names else "num_seeds")
    head, tail = names[:after], names[after:]
    return [*head, *(name for name in first if name in names), *(name for name in tail if name not in first)]


def _number(column: Column) -> str:
    return " class=n" if column.is_number else ""


def _sortable(value: Any) -> str:
    """The sort key of a cell as text; the page sorts numbers by value and empty cells last."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, datetime):
        return str(value.timestamp())
    return repr(value) if isinstance(value, float) else str(value)
