"""The leaderboard and the answer as HTML tables; the reader can sort the leaderboard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from flexres_tune.analysis.answer import answer_cells, interval_note
from flexres_tune.analysis.configurations import OUTCOMES
from flexres_tune.analysis.leaderboard import seeds_text
from flexres_tune.analysis.summary import order_note
from flexres_tune.display.format import NOTHING, display_columns
from flexres_tune.predictions.behind_leader import SPLITS, BehindLeader
from flexres_tune.report.data import ReportData, spaced
from flexres_tune.text import escape_html, plural

_HIDDEN = {"sweep", "dataset", "config_id", "behind_leader_low", "behind_leader_high", "compared_by"}
_HIDDEN |= {f"num_{status}" for status in OUTCOMES}
_HIDDEN_IF_CONSTANT = ("epochs", "num_parameters", "precision_used")
_MOST_ROWS = 400
_NUM_SHOWN = 15  # rows that are visible until the reader clicks "Show all"


def behind_html(data: ReportData) -> str:
    """The difference of the first two, and of the baseline, if seeds and images are drawn again; "" without predictions.

    Those of further levels are in the table of the answer.
    """
    levels = {row.config_id for row in data.answer.rows}
    shown = data.behind[:1] + [each for each in data.behind[1:] if each.config_id not in levels]
    return "".join(f"<p class=note>{escape_html(each.sentence)}</p>" for each in shown)


def answer_html(data: ReportData) -> str:
    """A row per level of `compare`; "" without it."""
    answer = data.answer
    if not answer.rows:
        return ""
    names, rows = answer_cells(answer)
    more, cells = _behind_cells(data)
    at = names.index("interval_of_that") + 1 if "interval_of_that" in names else len(names)
    heads = "".join(f'<th scope="col">{escape_html(spaced(name))}</th>' for name in (*names[:at], *more, *names[at:]))
    lines = ([*row[:at], *of_level, *row[at:]] for row, of_level in zip(rows, cells, strict=True))
    body = "".join(f"<tr>{''.join(f'<td>{escape_html(cell)}</td>' for cell in line)}</tr>" for line in lines)
    compared = " and ".join(map(spaced, answer.compare))
    note = (
        f"The best configuration of each {compared}: mean ± standard deviation over seeds. Intervals are for one mean or "
        "difference alone; p is adjusted for all comparisons of the leaderboard, and with that for the choice of each best "
        "one. Device time is of all trials of the level."
    )
    for rest in filter(None, (order_note(answer.board), interval_note(answer))):
        note += f" {rest[0].upper()}{rest[1:]}."
    if more:
        note += (
            f" {more[0].capitalize()} and the next two columns: points of accuracy after the last epoch by which the leader is above, with 95 % intervals "
            "if we trained again, and if we trained again and drew other images too; with one seed there are none."
        )
    return (
        f"<div class='scroll wide' tabindex=0><table id=answer><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"
        f"</div><p class=note>{escape_html(note)}</p>"
    )


def _behind_cells(data: ReportData) -> tuple[list[str], list[list[str]]]:
    """(names, cells per level) of the distance to the leader on images that both predict; no columns without any."""
    of_levels = {each.config_id: each for each in data.behind}
    found = [of_levels.get(row.config_id) if row.problem is None else None for row in data.answer.rows]
    some = next(filter(None, found), None)
    if some is None:
        return [], [[] for _ in found]
    split = SPLITS[some.split]
    names = [f"behind on {split} images", "if trained again", f"and on other {split} images"]
    return names, [[NOTHING] * 3 if each is None else _behind(each, some.split) for each in found]


def _behind(each: BehindLeader, split: str) -> list[str]:
    on_others = "" if each.split == split else f" ({SPLITS[each.split]})"
    ends = (each.interval.seeds, each.interval.seeds_and_images)
    texts = [NOTHING if end is None else f"{100 * end[0]:.2f} to {100 * end[1]:.2f}" for end in ends]
    return [f"{100 * each.interval.difference:.2f}{on_others}", *texts]


def leaderboard_html(data: ReportData) -> str:
    """The first 400 rows; those after the first 15 are hidden until the reader clicks a button."""
    metric = data.board.metric
    board = data.board.to_table().slice(0, _MOST_ROWS)
    if not board.num_rows:
        return ""
    best = metric.column
    hidden = _HIDDEN | {f"{best}_low", f"{best}_high"}
    hidden |= {name for name in board.column_names if board[name].null_count == board.num_rows}
    for name, usual in (("outcome", "completed"), ("stage", "screen")):
        hidden |= {name} if set(board[name].to_pylist()) <= {usual} else set()
    hidden |= {name for name in _HIDDEN_IF_CONSTANT if len(board[name].unique()) == 1}
    names = [name for name in board.column_names if name not in hidden or name == "rank"]
    # The metric and the comparison with the leader come first, and details are to the right.
    first = (f"{best}_mean", f"{best}_sd", "num_seeds", "separable_from_leader", "behind_leader")
    after = names.index("stage" if "stage" in names else "num_seeds")
    order = [*names[:after], *(n for n in first if n in names), *(n for n in names[after:] if n not in first)]
    table = board.select(order)
    heads, columns = [], []  # per column (cell, sort key) of each row
    titles = {"behind_leader": f"{metric.difference} behind leader", "device_seconds": "device time"}
    titles |= {"p_value": "p, adjusted", "precision_used": "precision"}
    for column in display_columns(table):
        name = column.name if column.name in order else f"{column.name}_mean"  # display_columns() joins mean and sd
        values = table[name].to_pylist()
        cells = _cells(data, name, values) or column.cells
        kind = " class=n" if column.is_number else ""
        direction = "ascending" if name == "rank" else "none"
        title = titles.get(column.name, spaced(column.name))
        heads.append(f'<th scope="col"{kind} aria-sort="{direction}"><button>{escape_html(title)}</button></th>')
        columns.append(
            [
                f'<td{kind} data-v="{escape_html(sort_key(value))}">{escape_html(cell)}</td>'
                for cell, value in zip(cells, values, strict=True)
            ]
        )
    rows = [
        f'<tr title="{escape_html(config_id)}">{"".join(cells)}</tr>'
        for config_id, cells in zip(board["config_id"].to_pylist(), zip(*columns, strict=True), strict=True)
    ]
    folded = table.num_rows > _NUM_SHOWN
    more = f'<button class="more">Show all {plural(table.num_rows, "row")}</button>' if folded else ""
    left_out = len(data.board.rows) - board.num_rows
    rest = f" The {plural(left_out, 'row')} below are left out; `query leaderboard` has all." if left_out else ""
    unranked = len(data.board.rows) - len(data.board.ranked)
    order = order_note(data.board)
    note = f"<p class=note>{escape_html(order[0].upper() + order[1:])}.</p>" if order else ""
    note += (
        f"<p class=note>{plural(unranked, 'configuration')} not ranked: some of their trials did not run to the end, "
        "so their results are not comparable.</p>"
        if unranked
        else ""
    )
    return (
        f'<div class="scroll wide" tabindex=0><table id=board class="sortable{" folded" if folded else ""}">'
        f"<thead><tr>{''.join(heads)}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>{more}"
        "<p class=note>One row per configuration: mean ± standard deviation over seeds. Click a column's name to sort."
        f"{rest}</p>{note}"
    )


def _cells(data: ReportData, name: str, values: Sequence[Any]) -> list[str] | None:
    """Texts of the columns that are not shown as everywhere else; None for the others."""
    if name == "num_seeds":
        return [seeds_text(row).removesuffix("s").removesuffix(" seed") for row in data.board.rows[: len(values)]]
    if name == "behind_leader":
        digits = data.board.metric.decimals(None) + 1
        return [NOTHING if value is None else f"{data.shown(value):z.{digits}f}" for value in values]
    return None


def sort_key(value: Any) -> str:
    """A value as the page sorts by it: it sorts numbers by value and empty cells last."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    return str(value.timestamp()) if isinstance(value, datetime) else str(value)
