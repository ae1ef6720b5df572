"""Arrow tables for a terminal, and as Markdown, CSV, JSON or Parquet."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TextIO

import pyarrow as pa

from flexres_tune.display.format import Column, display_columns, python_values
from flexres_tune.display.terminal import UNLIMITED_WIDTH, print_trimmed
from flexres_tune.errors import ResultsError
from flexres_tune.storage import AnyPath, atomic_write
from flexres_tune.text import escape, shorten

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

ROWS_SHOWN = 100  # if no limit is given
_TEXT_WIDTHS = (48, 32, 24, 16, 12)  # tried in this order for columns of text; then a column is left out
_COLUMN_GAP = 2
_SENTENCE_WIDTHS = (50, 20)  # characters that a column of sentences has at least, beside columns of little importance


@dataclass(frozen=True)
class Section:
    """One table on a terminal, with its title and notes."""

    table: pa.Table
    title: str = ""
    best_row: int | None = None  # highlighted
    notes: tuple[str, ...] = ()
    least_important: Sequence[str] = ()  # columns left out in this order if the terminal is narrow; then from the right
    caption: str = ""  # what all rows have in common
    uncut: Sequence[str] = ()  # columns of text that contain numbers: left out rather than shortened
    sentences: str = ""  # a column whose cells are broken into lines; all others are left out before it
    lists_rows: bool = False  # its rows are rows of the answer: those of all such sections, one after the other
    num_rows: int | None = None  # of the whole table, of which `table` has the first ones; None: `table` is whole
    shows_all: str = "--limit 0 shows all"
    limits_rows: bool = True  # whether a limit is a number of its rows; else it was applied to its columns
    names_left_out: bool = True  # whether the columns that are left out for width are named below it


def table_console(file: TextIO | None = None) -> Console:
    """A console that does not obey markup in values. A pipe or file has no width limit unless COLUMNS gives one."""
    from rich.console import Console

    console = Console(file=file, highlight=False, emoji=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = UNLIMITED_WIDTH
    return console


def print_section(section: Section, console: Console, limit: int | None = None) -> None:
    """Print the table, fitted to the console's width; the columns and rows that are left out are named below it."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    if limit is not None and not section.limits_rows:
        limit = section.table.num_rows
    shown = section.table.slice(0, limit or ROWS_SHOWN)
    columns = display_columns(shown)
    columns = [dataclasses.replace(c, is_whole=True) if c.name in section.uncut else c for c in columns]
    columns = [
        dataclasses.replace(c, width=max(_SENTENCE_WIDTHS)) if c.name == section.sentences else c for c in columns
    ]
    columns, left_out = fit_columns(columns, console.width, section.least_important)
    if section.title:
        console.print(Text(escape(section.title), style="bold"), soft_wrap=True)
    if section.caption:
        console.print(Text(escape(section.caption)), style="dim", soft_wrap=True)
    grid = Table(box=box.SIMPLE_HEAD, padding=(0, _COLUMN_GAP - 1, 0, 0), pad_edge=False)
    for column in columns:
        justify = "right" if column.is_number else "left"
        # The words of a heading are above each other; beside a sentence of several lines, cells are level with its first.
        vertical = "top" if section.sentences else "bottom"
        grid.add_column(Text(_spaced(column.heading)), justify=justify, width=_width(column), vertical=vertical)
    for index, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        style = "bold green" if index == section.best_row else None
        # Text instead of str, so that markup in a value, such as [red], is shown and not obeyed.
        grid.add_row(*map(_cell, columns, cells), style=style)
    print_trimmed(grid, console, max(console.width, sum(map(_width, columns)) + _COLUMN_GAP * len(columns)))
    for note in _notes(section, shown.num_rows, left_out):
        console.print(Text(escape(note)), style="dim", soft_wrap=True)


def _cell(column: Column, text: str) -> Text:
    from rich.text import Text

    if column.width is None:
        return Text(text, no_wrap=True, overflow="ellipsis")
    return Text(text, no_wrap=False, overflow="fold")


def _notes(section: Section, num_shown: int, left_out: Sequence[str]) -> list[str]:
    notes = list(section.notes)
    total = section.num_rows or section.table.num_rows
    if left_out and section.names_left_out:
        notes.append(f"left out for width: {', '.join(left_out)}; --format csv shows all")
    if not total and section.table.num_columns:
        notes.insert(0, "no rows")
    elif num_shown < total:
        notes.insert(0, f"{num_shown:,} of {total:,} rows; {section.shows_all}")
    return notes


def fit_columns(
    columns: Sequence[Column], width: int, least_important: Sequence[str] = ()
) -> tuple[list[Column], list[str]]:
    """(columns that fit into the width, names of those left out); long texts are shortened first.

    A column of sentences gets what the others leave, and is never left out.
    """

    def needed(some: Sequence[Column]) -> int:
        return sum(map(_width, some)) + _COLUMN_GAP * len(some)

    kept, left_out = list(columns), []
    while True:
        for widest in _TEXT_WIDTHS:
            shortened = [_shortened(column, widest) for column in kept]
            if needed(shortened) <= width:
                free = width - needed(shortened)
                return [_widened(column, free) for column in shortened], left_out
        if len(kept) == 1:
            return shortened, left_out
        names = [column.name for column in kept if column.width is None]
        out = next((name for name in least_important if name in names), None)
        if out is None and any(column.width == max(_SENTENCE_WIDTHS) for column in kept):
            kept = [dataclasses.replace(c, width=c.width and min(_SENTENCE_WIDTHS)) for c in kept]
            continue
        out = out or names[-1]
        left_out.append(out)
        kept.pop(max(index for index, column in enumerate(kept) if column.name == out))


def _width(column: Column) -> int:
    """Of the widest cell or word of the heading, whose words wrap."""
    from rich.cells import cell_len

    if column.width is not None:
        return column.width
    return max(map(cell_len, (*column.cells, *_spaced(column.heading).split(), " ")))


def _widened(column: Column, free: int) -> Column:
    """A column of sentences with the free characters that it can use; any other one as it is."""
    if column.width is None:
        return column
    natural = _width(dataclasses.replace(column, width=None))
    return dataclasses.replace(column, width=min(natural, column.width + free))


def _spaced(name: str) -> str:
    return name.replace("_", " ")


def _shortened(column: Column, width: int) -> Column:
    if column.is_whole or column.width is not None:
        return column
    return dataclasses.replace(column, cells=[shorten(cell, width) for cell in column.cells])


def to_markdown(table: pa.Table) -> str:
    """A Markdown table with values as on a terminal; characters with a meaning in Markdown or HTML are escaped."""
    columns = display_columns(table)

    def row(cells: Sequence[str]) -> str:
        return "| " + " | ".join(map(_escape_markdown, cells)) + " |"

    rule = "|" + "|".join(" ---: " if column.is_number else " --- " for column in columns) + "|"
    body = [row(cells) for cells in zip(*(column.cells for column in columns), strict=True)]
    return "\n".join([row([column.heading for column in columns]), rule, *body]) + "\n"


def to_csv(table: pa.Table) -> str:
    """CSV (RFC 4180) with a header: full precision, fractions, ISO times, lists and structs as JSON, null as empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(table.column_names)
    columns = [python_values(column) for column in table.columns]
    writer.writerows([_csv_cell(value) for value in row] for row in zip(*columns, strict=True))
    return text.getvalue()


def to_json(table: pa.Table) -> str:
    """A JSON list of records; a number that is not finite becomes null, because JSON has no such numbers."""
    rows = zip(*map(python_values, table.columns), strict=True)
    records = [_json_value(dict(zip(table.column_names, row, strict=True))) for row in rows]
    return json.dumps(records, indent=1, ensure_ascii=False) + "\n"


def save_parquet(table: pa.Table, path: AnyPath) -> None:
    """Write a Parquet file atomically.

    Raises:
        ResultsError: Parquet has no such type, such as DuckDB's INTERVAL.
    """
    import pyarrow.parquet as pq

    try:
        with atomic_write(path) as file:
            pq.write_table(table, file, compression="zstd")
    except pa.ArrowNotImplementedError as error:
        raise ResultsError(
            f"{path}: Parquet must have a type for each column, but: {str(error)[:200]}; cast the column in the query, "
            "such as column::VARCHAR"
        ) from None


def _escape_markdown(cell: str) -> str:
    for character, written in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("\\", "\\\\"), ("|", "\\|")):
        cell = cell.replace(character, written)
    for character in "*_`[]":
        cell = cell.replace(character, "\\" + character)
    return cell


def _csv_cell(value: Any) -> Any:
    if isinstance(value, list | dict):
        return json.dumps(_json_value(value), ensure_ascii=False)
    if isinstance(value, bool):
        return "true" if value else "false"
    return value.isoformat() if isinstance(value, datetime) else value


def _json_value(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json_value(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json_value(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
