"""Style of all plots: colours, markers, light and dark templates, and the ranges of axes.

The colours are those of Okabe and Ito 2008, "Color Universal Design", which colour-blind readers can tell apart. Black
and yellow are left out: black is invisible on a dark page, yellow on a light one. Each colour has its own dash and
symbol, so that the plots can be read in greyscale.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from flexres_tune.records import TrialStatus

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from flexres_tune.analysis.leaderboard import BoardRow
    from flexres_tune.effects.parameters import Effect

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "star", "hexagon")
GREY = "#8c8c8c"  # for what is drawn in the background; its contrast is 3:1 on both pages
STATUSES: dict[str, tuple[str, str, str]] = {  # colour, symbol, pattern of bars
    TrialStatus.COMPLETED: ("#0072B2", "circle", ""),
    TrialStatus.STOPPED: (GREY, "x", "/"),
    TrialStatus.PAUSED: ("#009E73", "square", "+"),
    TrialStatus.DIVERGED: ("#E69F00", "diamond-open", "x"),
    TrialStatus.OUT_OF_MEMORY: ("#CC79A7", "square-open", "."),
    TrialStatus.FAILED: ("#D55E00", "cross", "\\"),
    TrialStatus.INTERRUPTED: ("#56B4E9", "triangle-up-open", "-"),
}
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
ZOOM_NOTE = "Some may lie outside the plot; double-click it to show them."
_THEMES = {"light": ("#1b1f24", "#dfe3e8", "#ffffff"), "dark": ("#e6e8eb", "#343a42", "#15181c")}  # ink, grid, paper


def band_color(color: str, alpha: float = 0.18) -> str:
    """#0072B2 -> rgba(0,114,178,0.18)."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def template(theme: str) -> dict[str, Any]:
    """Plotly template for `light` or `dark`. Figures set none of these colours, so the page can change the theme."""
    ink, grid, paper = _THEMES[theme]
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
    """A figure of the given height in px, with the margins of all plots and the legend above it."""
    import plotly.graph_objects as go

    base = {
        "height": height,
        "margin": {"l": 10, "r": 14, "t": 12, "b": 10},
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": 1.02, "yanchor": "bottom"},
        "hovermode": "closest",
        "template": None,
    }
    return go.Figure(traces, base | layout)


def scatter(**properties) -> go.Scatter:
    """A trace of points or lines; Plotly is imported late, because an index of sweeps draws no plots."""
    import plotly.graph_objects as go

    return go.Scatter(**properties)


def error_bars(rows: Sequence[BoardRow] | Sequence[Effect], factor: float) -> tuple[dict[str, Any], list[float]]:
    """(Plotly's error bars around metric_mean, from metric_low to metric_high; their lengths), all times `factor`."""
    above = [None if row.metric_high is None else factor * (row.metric_high - row.metric_mean) for row in rows]
    below = [None if row.metric_low is None else factor * (row.metric_mean - row.metric_low) for row in rows]
    bars = {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": PALETTE[0], "width": 5}
    return bars, [length for length in (*above, *below) if length is not None]


def axis(title: str, **changes) -> dict[str, Any]:
    """Layout of an axis with a title."""
    return {"title": {"text": title}} | changes


def count_axis(title: str, last: float) -> dict[str, Any]:
    """Layout of an axis of whole numbers from 0 to `last`: a short one has a tick per number, and none between."""
    return axis(title, rangemode="tozero", **({"dtick": 1} if last <= 12 else {}))


def category_axis(title: str, texts: Iterable[str], **changes) -> dict[str, Any]:
    """Layout of an axis with one text at each of the positions 0, 1, 2 ..."""
    texts = list(texts)
    return axis(title, tickvals=list(range(len(texts))), ticktext=texts, showgrid=False, **changes)


def focus(
    values: Sequence[float], is_maximized: bool = True, visible: Sequence[float] = (), reaches: Sequence[float] = ()
) -> list[float]:
    """Range of an axis of shown values, cut at the worse end so that a few bad values do not flatten the others.

    The end is Tukey's fence: 1.5 times the interquartile range beyond the quartile. The range has room for half a
    marker at both ends, and less above 100, because no accuracy lies there, and below 0 if no value does.

    Args:
        visible: values that are inside in any case.
        reaches: half widths of intervals. The room for them is limited (with two seeds they exceed 100 %), or the
            points would lie too close together.
    """
    low, high = min(values), max(values)
    if len(values) >= 4:
        first, _, third = statistics.quantiles(values, n=4, method="inclusive")
        beyond = 1.5 * max(third - first, 0.02 * (high - low))
        low, high = (max(low, first - beyond), high) if is_maximized else (low, min(high, third + beyond))
    low, high = min([low, *visible]), max([high, *visible])
    room = min(max(reaches, default=0.0), 0.8 * (high - low) + 0.004 * high)
    pad = 0.06 * (high - low) or 0.005 * high or 0.5
    start = low - room - pad
    return [max(start, -0.3 * pad) if low >= 0 else start, min(high + room + pad, max(100.0, high) + 0.3 * pad)]


def at_least(limits: Sequence[float], span: float) -> list[float]:
    """The limits, widened about their middle to at least `span`."""
    missing = max(0.0, span - (limits[1] - limits[0])) / 2
    return [limits[0] - missing, limits[1] + missing]


def as_have(num_equals: int) -> str:
    """Words after an extreme that so many others have as well: " (as has 1 more)"; "" if there are none."""
    return f" (as {'has' if num_equals == 1 else 'have'} {num_equals:,} more)" if num_equals else ""


def thin(items: list, limit: int) -> list:
    """At most `limit` of the items, evenly spaced in their order, always with the first and the last."""
    if len(items) <= limit:
        return items
    return [items[round(i * (len(items) - 1) / (limit - 1))] for i in range(limit)]


@dataclass(frozen=True)
class Plot:
    """One plot of a report."""

    name: str  # id in the page and file name of its PNG: letters, digits and `-`
    finding: str  # title, computed from the data: what the plot shows
    figure: go.Figure
    notes: tuple[str, ...] = ()  # what is drawn and what is left out
