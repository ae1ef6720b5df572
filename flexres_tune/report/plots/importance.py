"""Importance of each parameter: its share of the variance of the metric, computed by fANOVA over completed trials."""

from __future__ import annotations

from collections.abc import Sequence

from flexres_tune.effects.importance import Importance, parameter_importance
from flexres_tune.errors import ResultsError
from flexres_tune.report.data import ReportData, spaced
from flexres_tune.report.plots.style import GREY, PALETTE, Plot, axis, figure

_MOST_BARS = 12


def plot_importance(data: ReportData) -> list[Plot]:
    """One bar per parameter with the standard deviation over repeats; no plot if there are too few trials."""
    import plotly.graph_objects as go

    if data.is_running:
        return []  # fANOVA takes seconds, and a live page is rendered again after every trial
    try:
        rows = parameter_importance(data.results, data.sweep)
    except ResultsError:  # too few trials or parameters; `query importance` reports which
        return []
    shown = rows[:_MOST_BARS]
    names = [spaced(row.parameter) for row in shown]
    bars = go.Bar(
        orientation="h",
        x=[100 * row.importance_mean for row in shown],
        y=names,
        error_x={"type": "data", "array": [100 * (row.importance_sd or 0) for row in shown], "width": 5, "color": GREY},
        marker={"color": PALETTE[0]},
        width=0.6,
        hovertemplate="%{y}: %{x:.1f} % of the variance<extra></extra>",
    )
    drawn = figure(
        [bars],
        height=110 + 36 * len(shown),
        xaxis=axis("share of variance (%)", rangemode="tozero"),
        yaxis=axis("parameter", autorange="reversed", type="category"),
    )
    first = shown[0]
    notes = [
        f"fANOVA over {first.num_trials:,} completed trials; {first.num_left_out:,} stopped or failed ones are "
        f"left out. Bars: mean, and standard deviation over {first.repeats} random forests."
    ]
    if len(shown) < len(rows):
        notes.append(f"{len(rows) - len(shown)} less important parameters are left out.")
    finding = _finding(data, shown)
    return [Plot("importance", finding, drawn, tuple(notes))]


def _finding(data: ReportData, shown: Sequence[Importance]) -> str:
    """Shares of the variance among the trials that ran to the end; no order if the forests do not agree on it."""
    first, names = shown[0], [spaced(row.parameter) for row in shown]
    shares = [f"{100 * row.importance_mean:.0f} %" for row in shown]
    of_what = f"of the variance of {data.board.metric.words} among the {first.num_trials:,} trials that ran to the end"
    if len(shown) == 1:
        return f"{names[0]} explains {shares[0]} {of_what}"
    spread = (first.importance_sd or 0) + (shown[1].importance_sd or 0)
    if first.importance_mean - shown[1].importance_mean <= spread:
        return f"{names[0]} ({shares[0]}) and {names[1]} ({shares[1]}) explain about as much {of_what}"
    return f"{names[0]} explains the largest share: {shares[0]} {of_what}; {names[1]} {shares[1]}"
