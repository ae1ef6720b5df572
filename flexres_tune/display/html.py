"""A table as HTML for a notebook: the columns, the order and the notes that a terminal shows, without scripts."""

from __future__ import annotations

from flexres_tune.display.format import display_columns
from flexres_tune.display.render import ROWS_SHOWN, Section
from flexres_tune.text import escape_html, plural


def section_html(section: Section) -> str:
    """The section's table with its title above it and its notes below it; all text is escaped."""
    shown = section.table.slice(0, ROWS_SHOWN)
    columns = display_columns(shown)
    heads = "".join(f"<th>{escape_html(column.name.replace('_', ' '))}</th>" for column in columns)
    body = []
    for index, cells in enumerate(zip(*(column.cells for column in columns), strict=True)):
        style = ' style="font-weight:bold"' if index == section.best_row else ""
        aligned = ("right" if column.is_number else "left" for column in columns)
        row = "".join(
            f'<td style="text-align:{side}">{escape_html(cell)}</td>' for side, cell in zip(aligned, cells, strict=True)
        )
        body.append(f"<tr{style}>{row}</tr>")
    notes = list(section.notes)
    if left_out := section.table.num_rows - shown.num_rows:
        notes.insert(0, f"{plural(left_out, 'more row')}")
    return (
        (f"<p><b>{escape_html(section.title)}</b> {escape_html(section.caption)}</p>" if section.title else "")
        + f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"
        + "".join(f"<p><small>{escape_html(note)}</small></p>" for note in notes)
    )
