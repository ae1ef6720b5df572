"""Cost: accuracy against the number of parameters of the model, and against the device time of a trial."""

from __future__ import annotations

from collections.abc import Sequence

from flexres_tune.analysis.leaderboard import BoardRow
from flexres_tune.effects.cost import pareto_front
from flexres_tune.report.data import ReportData
from flexres_tune.report.plots.axes import spans_decades
from flexres_tune.report.plots.style import GREY, PALETTE, ZOOM_NOTE, Plot, as_have, axis, figure, focus, scatter, thin
from flexres_tune.text import escape_html, plural

_MOST_POINTS = 300
_NEAR = 0.01  # one point of a fraction: the title names the cheapest configuration this close to the best
_FRONT = {
    "mode": "lines+markers",
    "line": {"color": PALETTE[1], "shape": "hv", "width": 2},
    "marker": {"symbol": "diamond", "size": 9, "color": PALETTE[1]},
}


def plot_cost(data: ReportData) -> list[Plot]:
    """One point per ranked configuration, and the Pareto front; no plot for fewer than three configurations."""
    rows = [row for row in data.board.ranked if row.metric_mean is not None]
    if len(rows) < 3:
        return []
    trials = [data.counted(row.config_id) for row in rows]
    seconds = [sum(trial.train_seconds for trial in some) / max(1, len(some)) for some in trials]
    parameters = [row.num_parameters for row in rows]
    plots = []
    if len(set(parameters)) > 1:
        plots.append(_plot(data, rows, parameters, "parameters", "trainable parameters"))
    if max(seconds) > 1.02 * min(seconds) > 0:
        plots.append(_plot(data, rows, seconds, "time", "device-seconds per trial"))
    return plots


def _plot(data: ReportData, rows: Sequence[BoardRow], costs: Sequence[float], name: str, title: str) -> Plot:
    metric = data.board.metric
    values = [data.shown(row.metric_mean) for row in rows]
    front = pareto_front(costs, [metric.score(value) for value in values])
    others = thin([i for i in range(len(rows)) if i not in set(front)], _MOST_POINTS)
    traces = []
    for indices, label, style in (
        (others, "other configurations", {"mode": "markers", "marker": {"symbol": "circle-open", "color": GREY}}),
        (front, "nothing cheaper is better", _FRONT),
    ):
        if indices:
            traces.append(
                scatter(
                    name=label,
                    x=[costs[i] for i in indices],
                    y=[values[i] for i in indices],
                    text=[escape_html(f"{data.label(rows[i].config_id)}, n = {rows[i].num_seeds}") for i in indices],
                    hovertemplate=f"%{{text}}<br>%{{y:.4~g}}{metric.suffix} for %{{x:,.4~g}} {title}<extra></extra>",
                    **style,
                )
            )
    is_log = spans_decades(costs)
    drawn = figure(
        traces,
        height=360,
        xaxis=axis(title + (" (log scale)" if is_log else ""), type="log" if is_log else "linear"),
        yaxis=axis(metric.ranking_axis_title, range=focus(values, metric.is_maximized)),
    )
    drawn.update_xaxes(tickformat=",~s" if name == "parameters" else None)
    notes = [f"Ranked configurations. {ZOOM_NOTE}"]
    if left_out := len(rows) - len(others) - len(front):
        notes.append(f"{plural(left_out, 'configuration')} off the line are left out.")
    return Plot(f"cost-{name}", _finding(data, rows, costs, title), drawn, tuple(notes))


def _finding(data: ReportData, rows: Sequence[BoardRow], costs: Sequence[float], title: str) -> str:
    """The lowest cost of a value that is close to the best; of equal costs that of the better one."""
    metric = data.board.metric
    scores = [metric.score(row.metric_mean) for row in rows]
    best = max(range(len(rows)), key=lambda i: (scores[i], -costs[i]))
    near = [i for i, score in enumerate(scores) if score >= scores[best] - _NEAR]
    cheapest = min(near, key=lambda i: (costs[i], -scores[i]))
    name, value = data.label(rows[cheapest].config_id), metric.text(rows[cheapest].metric_mean)
    within = "one point" if metric.factor == 100 else f"{_NEAR} {metric.difference}"
    if cheapest == best:
        also = as_have(scores.count(scores[best]) - 1)
        return f"{name} has the {metric.extreme} mean{also}, {value}; nothing within {within} of it is cheaper"
    share = 100 * costs[cheapest] / costs[best]
    shown = "under 1 %" if share < 1 else "over 99 %" if share > 99 else f"{share:.0f} %"
    return f"{name} has {value}, within {within} of the {metric.extreme} mean, for {shown} of its {title}"
