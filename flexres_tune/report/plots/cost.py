"""Cost: accuracy against the number of parameters of the model, and against the device time of a trial."""

from __future__ import annotations

from collections.abc import Sequence

from flexres_tune.analysis.cost import pareto_front
from flexres_tune.analysis.leaderboard import BoardRow
from flexres_tune.report.data import ReportData, percent
from flexres_tune.report.plots.style import GREY, PALETTE, Plot, accuracy_axis, figure, focus, plain, scatter, thin
from flexres_tune.text import plural

_MOST_POINTS = 300
_NEAR = 0.01  # one point of accuracy: the title names the cheapest configuration this close to the highest
_LOG_FROM = 20  # the scale is logarithmic if the largest cost is at least this many times the smallest
_FRONT = {
    "mode": "lines+markers",
    "line": {"color": PALETTE[1], "shape": "hv", "width": 2},
    "marker": {"symbol": "diamond", "size": 9, "color": PALETTE[1]},
}


def plot_cost(data: ReportData) -> list[Plot]:
    """One point per ranked configuration, and the Pareto front; no plot for fewer than three configurations."""
    rows = [row for row in data.ranked if row.best_val_accuracy_mean is not None]
    if len(rows) < 3:
        return []
    seconds = [_seconds(data, row.config_id) for row in rows]
    plots = []
    parameters = [row.num_parameters for row in rows]
    if len(set(parameters)) > 1:
        plots.append(_plot(data, rows, parameters, "parameters", "trainable parameters"))
    if max(seconds) > 1.02 * min(seconds) > 0:
        plots.append(_plot(data, rows, seconds, "time", "device-seconds per trial"))
    return plots


def _seconds(data: ReportData, config_id: str) -> float:
    trials = data.counted(config_id)
    return sum(trial.train_seconds for trial in trials) / max(1, len(trials))


def _plot(data: ReportData, rows: Sequence[BoardRow], costs: Sequence[float], name: str, title: str) -> Plot:
    values = [100 * row.best_val_accuracy_mean for row in rows]
    front = pareto_front(costs, values)
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
                    text=[plain(f"{data.label(rows[i].config_id)}, n = {rows[i].num_seeds}") for i in indices],
                    hovertemplate=f"%{{text}}<br>%{{y:.2f}} % for %{{x:,.4~g}} {title}<extra></extra>",
                    **style,
                )
            )
    is_log = min(costs) > 0 and max(costs) / min(costs) >= _LOG_FROM
    drawn = figure(
        traces,
        height=360,
        xaxis={"title": {"text": title + (" (log scale)" if is_log else "")}, "type": "log" if is_log else "linear"},
        yaxis=accuracy_axis("best validation accuracy (%)", range=list(focus(values))),
    )
    drawn.update_xaxes(tickformat=",~s" if name == "parameters" else None)
    notes = ["Ranked configurations; some may lie below the plot; double-click it to show them."]
    if len(others) + len(front) < len(rows):
        notes.append(f"{plural(len(rows) - len(others) - len(front), 'configuration')} off the line are left out.")
    return Plot(f"cost-{name}", _finding(data, rows, costs, title), drawn, tuple(notes))


def _finding(data: ReportData, rows: Sequence[BoardRow], costs: Sequence[float], title: str) -> str:
    """The lowest cost of an accuracy that is close to the highest."""
    highest = max(range(len(rows)), key=lambda i: rows[i].best_val_accuracy_mean)
    leader = rows[highest].best_val_accuracy_mean
    near = [i for i, row in enumerate(rows) if row.best_val_accuracy_mean >= leader - _NEAR]
    cheapest = min(near, key=lambda i: costs[i])
    name = data.label(rows[cheapest].config_id)
    value = percent(rows[cheapest].best_val_accuracy_mean)
    if cheapest == highest:
        return f"{name}, the highest at {value}, is also the cheapest within one point of it"
    share = 100 * costs[cheapest] / costs[highest]
    return f"{name} has {value}, within one point of the highest, for {share:.0f} % of its {title}"
