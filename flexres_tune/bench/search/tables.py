"""Figures of bench search as text: a row per policy for a terminal, and the tables of the docs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from flexres_tune.bench.note import replace_block
from flexres_tune.bench.search.benchmark import Estimate, PolicyRow, SearchBench

HEADINGS = {
    "best": "best named, %",
    "level": "best level, %",
    "within": "within 0.1, %",
    "order": "all in order, %",
    "points_lost": "points lost",
    "called_different": "called different, %",
    "wrongly_ordered": "wrong pairs, %",
    "covered": "intervals right, %",
    "epochs": "epochs",
    "wall_epochs": "wall-clock",
}
"""Columns of the table, in their order."""

LEGEND = {
    "best": "the configuration with the best mean is the true best",
    "level": "it is of the best level",
    "within": "share of the levels whose named configuration is at most 0.1 points below the level's best",
    "order": "all levels are in the right order",
    "points_lost": "by how many points of accuracy the named configuration is worse than the best",
    "called_different": "sweeps in which any configuration (or level) is called different from the leading one, at 5 %",
    "wrongly_ordered": "share of these comparisons that are called different, but are equal or the other way round",
    "covered": "95 % intervals of confirmed configurations that hold the expected score of a full run",
    "epochs": "trained by all trials",
    "wall_epochs": "until the last trial ends, in units of an epoch",
}
"""What the columns mean."""


def legend(columns: Iterable[str]) -> list[str]:
    """A line per column."""
    return [f"{HEADINGS[column].removesuffix(', %')}: {LEGEND[column]}" for column in columns]


def cells(row: PolicyRow) -> list[str]:
    """The figures of a row as text, one per heading; "" if the policy or the world has none."""
    return [_cell(name, row.figures.get(name)) for name in HEADINGS]


def _cell(name: str, figure: Estimate | None) -> str:
    if figure is None:
        return ""
    if name in ("epochs", "wall_epochs"):
        return f"{figure.mean:.0f}"
    if name == "points_lost":
        return f"{figure.mean:.3f} ± {figure.error:.3f}"
    return f"{100 * figure.mean:.1f} ± {100 * figure.error:.1f}"


MARKERS = ("<!-- bench search: begin -->", "<!-- bench search: end -->")


def write_block(file: Path, bench: SearchBench) -> None:
    """Replace the file's block of search policies.

    Raises:
        FlexResError: the file does not have the markers.
    """
    replace_block(file, MARKERS, to_markdown(bench))


COLUMNS = ("best", "points_lost", "covered", "epochs", "wall_epochs")
LEVEL_COLUMNS = ("level", "within", "called_different", "wrongly_ordered", "epochs", "wall_epochs")
"""Figures of the tables in Markdown: of worlds that ask for the single best configuration, and of those with levels."""

COMPARED = ("stopping ASHA, 3 x 5", "halving, adaptive", "stopping ASHA, 1 x 4")
"""Policies of the tables that have every world."""

DETAILED = (
    *("reference", "crossing", "81 configurations", "surface", "recorded"),
    *("6 levels x 5", "6 levels x 5, crossing", "6 levels x 3", "recorded, optimizer compared"),
)
"""Worlds that have a table of all their policies."""


def to_markdown(bench: SearchBench) -> str:
    """Tables of every world with few policies, then a table of all policies for each of some worlds."""
    lines = [
        f"Simulated by `{bench.command}` on {bench.date}: means of {bench.num_draws:,} sweeps each, with standard "
        "errors.",
        "",
        *(f"- {line}." for line in legend(dict.fromkeys((*COLUMNS, *LEVEL_COLUMNS)))),
    ]
    for has_levels in (False, True):
        rows = [row for row in bench.rows if ("level" in row.figures) == has_levels]
        columns = LEVEL_COLUMNS if has_levels else COLUMNS
        if compared := [row for row in rows if row.policy in COMPARED]:
            lines += ["", *_table(("world", "policy"), compared, columns)]
        for world in dict.fromkeys(row.world for row in rows if row.world in DETAILED):
            lines += ["", f"All policies in the world `{world}`:", ""]
            lines += _table(("policy",), [row for row in rows if row.world == world], columns)
    return "\n".join([*lines, ""])


def _table(names: Sequence[str], rows: Sequence[PolicyRow], columns: Sequence[str]) -> list[str]:
    """A Markdown table: first the fields `names` of each row, then its figures."""
    headings = [HEADINGS[column] for column in columns]
    lines = [f"| {' | '.join([*names, *headings])} |", "|---" * len(names) + "|" + "--:|" * len(columns)]
    for row in rows:
        texts = [_cell(column, row.figures.get(column)) for column in columns]
        lines.append(f"| {' | '.join([*(getattr(row, name) for name in names), *texts])} |")
    return lines


def to_json_lines(bench: SearchBench) -> str:
    """The bench as JSON, a line per row, so that a change of one figure is a change of one line."""
    values = bench.to_json()
    rows = ",\n".join(json.dumps(row) for row in values.pop("rows"))
    return f'{json.dumps(values)[:-1]}, "rows": [\n{rows}\n]}}'
