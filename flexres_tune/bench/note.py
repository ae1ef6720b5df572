"""The table of figures between two markers of a Markdown file (docs/performance.md), replaced as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from flexres_tune.bench.figures import Bench
from flexres_tune.errors import FlexResError
from flexres_tune.storage import atomic_write_text

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def write_note(file: Path, benches: Sequence[Bench], command: str) -> None:
    """Replace what is between the markers of the file by the benchmarks' table, in one atomic write.

    Raises:
        FlexResError: the file does not have the markers.
    """
    text = file.read_text(encoding="utf-8") if file.is_file() else ""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise FlexResError(f"{file}: must have one line {BEGIN} and after it one line {END}; add them")
    before, rest = text.split(BEGIN)
    atomic_write_text(file, f"{before}{BEGIN}\n{to_markdown(benches, command)}{END}{rest.split(END)[1]}")


def to_markdown(benches: Sequence[Bench], command: str) -> str:
    """A caption with hardware, versions and date, and a table with one row per figure."""
    lines = [f"Measured by `{command}` on {benches[0].machine}, {date.today()}: median, and range of n.", ""]
    lines += ["| what | figure | median | range | n |", "|---|---|--:|--:|--:|"]
    for bench in benches:
        for figure in bench.figures:
            numbers = f"{number(figure.median)} {figure.unit} | {number(figure.low)} to {number(figure.high)}"
            lines.append(f"| {bench.title} | {figure.name} | {numbers} | {figure.n} |")
    return "\n".join([*lines, ""])


def number(value: float) -> str:
    """Three significant digits below 100, a whole number above."""
    return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
