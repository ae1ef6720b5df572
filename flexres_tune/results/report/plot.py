"""Plot: a figure, the sentence that says what to see in it, and what it leaves out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import plotly.graph_objects as go


@dataclass(frozen=True)
class Plot:
    """One plot of a report."""

    name: str  # id in the page and name of its picture: letters, digits and `-`
    finding: str  # its title, computed: what to see in it
    figure: go.Figure
    notes: tuple[str, ...] = ()  # what is drawn, what is left out


def thin(items: list, limit: int) -> list:
    """At most `limit` of the items, evenly over their order, first and last among them."""
    if len(items) <= limit:
        return items
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]
