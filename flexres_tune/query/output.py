"""Answer, and how it is printed or written to a file."""

from __future__ import annotations

import contextlib
import io
import sys
from dataclasses import dataclass, replace
from typing import TextIO

import pyarrow as pa
import typer

from flexres_tune.cli import Format
from flexres_tune.display import render
from flexres_tune.storage import AnyPath, atomic_write_text
from flexres_tune.text import escape, plural


@dataclass(frozen=True)
class Answer:
    """`table` is for CSV, JSON, Markdown and Parquet; `sections` are for the terminal."""

    table: pa.Table
    sections: list[render.Section]

    def listings(self) -> list[tuple[render.Section, int]]:
        """The sections that list the answer's rows, each with the index of its first one; else one of the whole table."""
        found, first = [], 0
        for section in self.sections:
            if section.lists_rows:
                found.append((section, first))
                first += section.table.num_rows
        return found if first == self.table.num_rows and found else [(render.Section(self.table), 0)]

    def limited(self, limit: int | None) -> Answer:
        """A file gets the first rows of each table that a terminal shows, as the terminal does."""
        if limit is None:
            return self
        parts = [self.table.slice(at, min(limit, section.table.num_rows)) for section, at in self.listings()]
        return replace(self, table=pa.concat_tables(parts))


def write_answer(answer: Answer, format: Format, out: AnyPath | None, limit: int | None) -> None:
    """Print the answer, or write it to `out` and report the number of rows on stderr."""
    if format is Format.PARQUET:
        render.save_parquet(answer.table, out)
    elif out is not None:
        text = _sections_as_text(answer, limit) if format is Format.TABLE else _as_text(answer, format)
        atomic_write_text(out, text)
    elif format is Format.TABLE:
        _print_sections(answer, limit)
        sys.stdout.flush()
    else:
        _print_text(_as_text(answer, format))
    if out is not None:
        typer.echo(f"{plural(answer.table.num_rows, 'row')} written to {out}", err=True)


def _as_text(answer: Answer, format: Format) -> str:
    to_text = {Format.CSV: render.to_csv, Format.JSON: render.to_json, Format.MARKDOWN: render.to_markdown}[format]
    return to_text(answer.table)


def _sections_as_text(answer: Answer, limit: int | None) -> str:
    text = io.StringIO()
    _print_sections(answer, limit, text)
    return text.getvalue()


def _print_text(text: str) -> None:
    if sys.stdout.isatty():
        text = escape(text, keep="\n\t")  # a file gets the values unchanged; a terminal would obey some of them
    _replace_unencodable(sys.stdout)
    sys.stdout.write(text)
    sys.stdout.flush()


def _print_sections(answer: Answer, limit: int | None, file: TextIO | None = None) -> None:
    _replace_unencodable(sys.stdout)
    console = render.table_console(file)
    if not answer.sections:
        console.print("no rows: no trial has run to the end yet")  # of equal-cost and pareto, which compare only those
    for index, section in enumerate(answer.sections):
        if index:
            console.print()
        render.print_section(section, console, limit)


def _replace_unencodable(stream: TextIO) -> None:
    """Print ? for ± or ▁ if the encoding (of an old locale) does not have them, instead of failing."""
    with contextlib.suppress(AttributeError, ValueError):
        stream.reconfigure(errors="replace")
