"""How plots look: a palette colour-blind readers can tell apart, a second channel beside it, light and dark.

Colours: Okabe and Ito 2008, "Color Universal Design"; black and yellow are left out, because one vanishes on a dark
page and the other on a light one. Each colour goes with a dash and a symbol of its own, for print and for grey.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flexres_tune.records import TrialStatus

if TYPE_CHECKING:
    import plotly.graph_objects as go


PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")

DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")

SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "hexagon")

GREY = "#8c8c8c"  # what is not the point: 3:1 against both backgrounds

STATUSES: dict[str, tuple[str, str, str]] = {  # colour, symbol, pattern of bars
    TrialStatus.COMPLETED: ("#0072B2", "circle", ""),
    TrialStatus.STOPPED: (GREY, "x", "/"),
    TrialStatus.DIVERGED: ("#E69F00", "diamond-open", "x"),
    TrialStatus.OUT_OF_MEMORY: ("#CC79A7", "square-open", "."),
    TrialStatus.FAILED: ("#D55E00", "cross", "\\"),
    TrialStatus.INTERRUPTED: ("#56B4E9", "triangle-up-open", "-"),
}

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

_INK = {"light": ("#1b1f24", "#dfe3e8", "#ffffff"), "dark": ("#e6e8eb", "#343a42", "#15181c")}


def template(theme: str) -> dict[str, Any]:
    """A Plotly template for `light` or `dark`: ink, grid, background; figures themselves say nothing of these."""
    ink, grid, paper = _INK[theme]
    axis = {"gridcolor": grid, "zeroline": False, "linecolor": grid, "tickcolor": grid, "automargin": True}
    axis |= {"title": {"standoff": 8}}
    return {
        "layout": {
            "font": {"family": FONT, "size": 13, "color": ink},
            "paper_bgcolor": paper,
            "plot_bgcolor": paper,
            "xaxis": axis,
            "yaxis": axis,
            "hoverlabel": {"bgcolor": paper, "bordercolor": grid, "font": {"color": ink, "family": FONT}},
            "legend": {"bgcolor": "rgba(0,0,0,0)"},
            "annotationdefaults": {"font": {"color": ink}, "bgcolor": band_color(paper, 0.7)},
            "modebar": {"bgcolor": band_color(paper, 0.85), "color": ink, "activecolor": PALETTE[0]},
            "colorway": list(PALETTE),
        }
    }


def figure(traces: list, height: int = 380, **layout) -> go.Figure:
    """A figure with this house's margins and a legend that needs no width."""
    import plotly.graph_objects as go

    base = {
        "height": height,
        "margin": {"l": 10, "r": 14, "t": 12, "b": 10},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "hovermode": "closest",
        "template": None,
    }
    return go.Figure(traces, base | layout)


def accuracy_axis(title: str = "validation accuracy (%)", **changes) -> dict[str, Any]:
    return {"title": {"text": title}} | changes


def focus(values: Sequence[float]) -> tuple[float, float]:
    """Where an axis of accuracies in percent starts and ends: a few that are far below do not flatten all others.

    Starts at Tukey's lower fence, the first quartile less 1.5 times the distance between the quartiles.
    """
    import statistics

    low, high = min(values), max(values)
    if len(values) >= 4:
        first, _, third = statistics.quantiles(values, n=4, method="inclusive")
        low = max(low, first - 1.5 * max(third - first, 0.02 * (high - low)))
    return padded(low, high)


def padded(low: float, high: float) -> tuple[float, float]:
    """Room for half a marker at both ends; of that little above 100 %, where nothing can be."""
    pad = 0.06 * (high - low) or 0.5
    return low - pad, min(high + pad, max(100.0, high) + 0.3 * pad)


def band_color(color: str, alpha: float = 0.18) -> str:
    """#0072B2 -> rgba(0,114,178,0.18)."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def plain(text: str) -> str:
    """Text that Plotly shows as it is: its labels obey some HTML, links among it, so that is escaped."""
    return html.escape(text, quote=False)


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
