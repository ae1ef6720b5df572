"""Tables of figures between two markers of a Markdown file (docs/performance.md), replaced as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path

from flexres_tune.bench.figures import Bench
from flexres_tune.errors import FlexResError
from flexres_tune.storage import atomic_write_text

BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"


def write_note(file: Path, benches: Sequence[Bench], command: str) -> None:
    """Replace the file's block of figures by the benchmarks' table.

    Raises:
        FlexResError: the file does not have the markers.
    """
    replace_block(file, (BEGIN, END), to_markdown(benches, command))


def replace_block(file: Path, markers: tuple[str, str], text: str) -> None:
    """Replace what is between two marker lines of a file, in one atomic write.

    Raises:
        FlexResError: the file does not have the markers.
    """
    begin, end = markers
    old = file.read_text(encoding="utf-8") if file.is_file() else ""
    if old.count(begin) != 1 or old.count(end) != 1 or old.index(begin) > old.index(end):
        raise FlexResError(f"{file}: must have one line {begin} and after it one line {end}; add them")
    before, rest = old.split(begin)
    atomic_write_text(file, f"{before}{begin}\n{text}{end}{rest.split(end)[1]}")


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
