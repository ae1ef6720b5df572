"""The options of every table that `query` prints: --where, --sort, --columns and --limit.

They act on the answer before it is formatted, so that a terminal, CSV, JSON, Markdown and Parquet show the same rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import typer

from flexres_tune.errors import ResultsError

if TYPE_CHECKING:
    import pyarrow as pa

    from flexres_tune.display.render import Section
    from flexres_tune.query.condition import SortKey
    from flexres_tune.query.output import Answer

ALL_ROWS = 2**62  # what --limit 0 means

Where = Annotated[
    str | None,
    typer.Option(
        metavar="CONDITION",
        help='Only rows for which this holds, in SQL over the columns of --format csv, such as "lr >= 0.01". '
        "Accuracies are fractions: 0.9 is 90 %.",
    ),
]
Sort = Annotated[
    str | None,
    typer.Option(metavar="COLUMN[:desc]", help="Sort each table by these columns, separated by commas."),
]
Columns = Annotated[str | None, typer.Option(metavar="A,B", help="Show these columns of --format csv, in this order.")]
Limit = Annotated[
    int | None,
    typer.Option(
        min=0,
        help="Maximum rows: per leaderboard, per sweep, or of a query; 0: all.",
        show_default="100 on a terminal",
    ),
]


@dataclass(frozen=True)
class TableOptions:
    """Which rows and columns of an answer are shown, and in which order."""

    where: str | None = None
    sort: str | None = None
    columns: str | None = None
    limit: int | None = None

    @property
    def num_rows(self) -> int | None:
        """The limit as a number of rows; None if no limit was given."""
        return ALL_ROWS if self.limit == 0 else self.limit

    @property
    def choose(self) -> bool:
        """Whether they change more than the number of rows."""
        return any(option is not None for option in (self.where, self.sort, self.columns))

    @property
    def num_rows_asked(self) -> int | None:
        """Rows that an answer must have before chosen() is applied: all if some are chosen from them."""
        return ALL_ROWS if self.choose else self.num_rows


def chosen(answer: Answer, options: TableOptions) -> Answer:
    """The answer with the rows and columns of the options.

    Each table that a terminal shows is filtered, sorted and cut by itself; an answer that a terminal shows in another
    form than its rows, such as a matrix, becomes one table.

    Raises:
        ResultsError: a column that the answer does not have, or a condition that cannot be computed.
    """
    from flexres_tune.query.condition import choose_rows, read_condition

    table = answer.table
    condition = None if options.where is None else read_condition(options.where, table)
    rows = choose_rows(table, condition, _sort_keys(options.sort, table.column_names))
    columns = None if options.columns is None else _columns(options.columns, table.column_names)
    places = {row: place for place, row in enumerate(rows)}
    sections, kept = [], []
    for section, first in answer.listings():
        found = sorted((row for row in range(first, first + section.table.num_rows) if row in places), key=places.get)
        kept += found[: options.num_rows]
        if found:
            sections.append(_chosen_section(section, table, found, first, columns))
    if not sections:
        section = _chosen_section(answer.listings()[0][0], table, [], 0, columns)
        notes = section.notes if condition is None else (_no_row(options.where, condition.columns, table),)
        sections = [replace(section, title="", caption="", notes=notes)]
    shown = _take(table, kept)
    return replace(answer, table=shown if columns is None else shown.select(columns), sections=sections)


def _chosen_section(
    section: Section, table: pa.Table, rows: Sequence[int], first: int, columns: Sequence[str] | None
) -> Section:
    """The section with these rows of the answer's table, of which it lists those from `first` on."""
    best = None if section.best_row is None else section.best_row + first
    shown = _take(section.table, [row - first for row in rows])
    if columns is not None:
        shown = _take(table, rows).select(columns)
    notes = section.notes
    if len(rows) < section.table.num_rows:
        notes = (f"{len(rows):,} of {section.table.num_rows:,} rows fulfil --where", *notes)
    return replace(
        section,
        table=shown,
        best_row=rows.index(best) if best in rows else None,
        notes=notes,
        num_rows=len(rows),
        caption="" if columns is not None else section.caption,
        least_important=() if columns is not None else section.least_important,
    )


def _take(table: pa.Table, rows: Sequence[int]) -> pa.Table:
    import pyarrow as pa

    return table.take(pa.array(rows, pa.int64()))


def _sort_keys(text: str | None, names: Sequence[str]) -> list[SortKey]:
    """`lr,seed:desc` as columns and directions."""
    from flexres_tune.query.condition import SortKey, columns_of_key, unknown_column

    keys = []
    for word in _words("--sort", text, "such as --sort lr:desc"):
        name, colon, direction = word.rpartition(":")
        if not colon:
            name, direction = word, "asc"
        if direction not in ("asc", "desc"):
            raise ResultsError(f"--sort: must be COLUMN, COLUMN:asc or COLUMN:desc, but got {word[:60]!r}")
        found = columns_of_key(name, names)
        if not found:
            raise unknown_column("--sort", name, names)
        keys.append(SortKey(found[0], direction == "desc"))
    return keys


def _columns(text: str, names: Sequence[str]) -> list[str]:
    from flexres_tune.query.condition import columns_of_key, unknown_column

    found: dict[str, None] = {}
    for word in _words("--columns", text, "such as --columns lr,seed"):
        columns = columns_of_key(word, names)
        if not columns:
            raise unknown_column("--columns", word, names)
        found |= dict.fromkeys(columns)
    return list(found)


def _words(option: str, text: str | None, example: str) -> list[str]:
    words = [word.strip() for word in (text or "").split(",") if word.strip()]
    if text is not None and not words:
        raise ResultsError(f"{option}: must name at least one column, but got {text[:20]!r}; {example}")
    return words


def _no_row(where: str, columns: Sequence[str], table: pa.Table) -> str:
    from flexres_tune.results.schema import unit_of

    fractions = [name for name in columns if unit_of(table.schema.field(name)) == "fraction"]
    hint = f"; {fractions[0]} is a fraction: 0.9 is 90 %" if fractions and table.num_rows else ""
    return f"no row of {table.num_rows:,} fulfils --where {where[:100]}{hint}"
