"""Effect of each parameter: accuracy by its values over full-length trials, and how many more were stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flexres_tune.analysis.effects import Effect, parameter_effects
from flexres_tune.analysis.leaderboard import BoardRow
from flexres_tune.records import TrialStatus
from flexres_tune.report.data import ReportData, Trial, percent, spaced, value_text
from flexres_tune.report.plots.axes import ParameterAxis, hashable, parameter_axis
from flexres_tune.report.plots.style import (
    GREY,
    PALETTE,
    Plot,
    accuracy_axis,
    figure,
    focus,
    padded,
    plain,
    scatter,
    thin,
)

_MOST_PLOTS = 8
_MOST_POINTS = 300
_LITTLE = 0.1  # points of accuracy: the title does not name a best value if the means differ by less
_AXIS = "best validation accuracy (%)"


def plot_effects(data: ReportData) -> list[Plot]:
    """One plot per parameter that has at least two values among the full-length trials, in the order of the columns."""
    plots, left_out = [], []
    for name in data.parameters:
        values = [hashable(trial.parameters[name]) for trial in data.full]
        if len(set(values)) < 2:
            continue
        if len(plots) == _MOST_PLOTS:
            left_out.append(name)
            continue
        axis = parameter_axis(name, values)
        plot = _few_values(data, axis) if axis.kind == "category" else _many_values(data, axis)
        plots += [plot] if plot else []
    if left_out and plots:
        note = f"Left out: {', '.join(map(spaced, left_out))}; `query compare NAME` shows them."
        plots[-1] = replace(plots[-1], notes=(*plots[-1].notes, note))
    return plots


def _few_values(data: ReportData, axis: ParameterAxis) -> Plot | None:
    """One category per value: its configurations as points, their mean with an interval, a count of stopped trials."""
    effects = parameter_effects(data.results, data.sweep, axis.name)
    table = [row for row in effects if row.dataset == data.dataset]
    rows = [row for row in table if row.num_configs]
    if len(rows) < 2:
        return None
    place = {hashable(row.parameters[axis.name]): index for index, row in enumerate(rows)}
    configs = [(place.get(hashable(_value(data, row, axis.name))), row) for row in data.ranked]
    points = thin([(at, row) for at, row in configs if at is not None], _MOST_POINTS)
    at = list(range(len(rows)))
    means = [100 * row.best_val_accuracy_mean for row in rows]
    traces = [
        scatter(
            name="one configuration",
            x=[i + 0.16 for i, _ in points],
            y=[100 * row.best_val_accuracy_mean for _, row in points],
            text=[plain(f"{data.label(row.config_id)}, n = {row.num_seeds}") for _, row in points],
            mode="markers",
            marker={"symbol": "circle-open", "size": 6, "color": GREY},
            hovertemplate="%{text}: %{y:.2f} %<extra></extra>",
        ),
        scatter(
            name="mean and 95 % interval",
            x=at,
            y=means,
            mode="lines+markers" if _is_ordered(rows, axis.name) else "markers",
            line={"color": PALETTE[0], "width": 1.5, "dash": "dot"},
            marker={"symbol": "diamond", "size": 9, "color": PALETTE[0]},
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [_reach(row, "high") for row in rows],
                "arrayminus": [_reach(row, "low") for row in rows],
                "color": PALETTE[0],
                "width": 5,
            },
            text=[_hover(row) for row in rows],
            hovertemplate="mean %{y:.2f} % over %{text}<extra></extra>",
        ),
    ]
    drawn = figure(
        traces,
        height=360,
        xaxis={
            "title": {"text": spaced(axis.name)},
            "tickvals": at,
            "ticktext": [_tick(row, axis.name) for row in rows],
            "range": [-0.5, len(at) - 0.4],
            "showgrid": False,
        },
        yaxis=accuracy_axis(_AXIS, range=_range([100 * row.best_val_accuracy_mean for _, row in points], rows)),
    )
    return Plot(f"effect-{axis.name}", _finding(axis.name, rows), drawn, _notes(table, axis.name))


def _many_values(data: ReportData, axis: ParameterAxis) -> Plot:
    """One point per trial; trials that were stopped are crosses."""
    traces = []
    for trials, name, marker in (
        ([t for t in data.trials if t.status == TrialStatus.STOPPED], "stopped early", {"symbol": "x", "color": GREY}),
        (data.full, "full length", {"symbol": "circle", "color": PALETTE[0], "opacity": 0.75}),
    ):
        some = thin([t for t in trials if _fits(t, axis)], _MOST_POINTS)
        if some:
            traces.append(
                scatter(
                    name=name,
                    x=[t.parameters[axis.name] for t in some],
                    y=[100 * t.best_val_accuracy for t in some],
                    text=[plain(f"{data.label(t.config_id)}, seed {t.seed}") for t in some],
                    mode="markers",
                    marker={"size": 6} | marker,
                    hovertemplate="%{text}: %{y:.2f} %<extra></extra>",
                )
            )
    title = spaced(axis.name) + (" (log scale)" if axis.kind == "log" else "")
    drawn = figure(
        traces,
        height=360,
        xaxis={"title": {"text": title}, "type": axis.kind}
        | ({"dtick": 1, "exponentformat": "power"} if axis.kind == "log" else {}),
        yaxis=accuracy_axis(_AXIS, range=list(focus([100 * t.best_val_accuracy for t in data.full]))),
    )
    best = sorted(data.full, key=lambda t: -t.best_val_accuracy)[: max(2, len(data.full) // 10)]
    values = sorted(t.parameters[axis.name] for t in best)
    between = f"between {values[0]:.3g} and {values[-1]:.3g}"
    finding = f"{spaced(axis.name)}: the best tenth of the full-length trials are {between}"
    notes = ["Some lie below the plot; double-click it to show them."]
    left_out = sum(t.status == TrialStatus.STOPPED or t.is_full for t in data.trials) - sum(len(t.x) for t in traces)
    if left_out > 0:
        notes.append(f"{left_out:,} trials are left out, evenly over time.")
    return Plot(f"effect-{axis.name}", finding, drawn, tuple(notes))


def _value(data: ReportData, row: BoardRow, name: str) -> Any:
    """A parameter of a configuration, from its trials if the row of the leaderboard does not have it."""
    return row.parameters[name] if name in row.parameters else data.by_config[row.config_id][0].parameters[name]


def _fits(trial: Trial, axis: ParameterAxis) -> bool:
    """Whether the trial has an accuracy and a value that the axis can show."""
    value = trial.parameters[axis.name]
    return trial.best_val_accuracy is not None and value is not None and (axis.kind != "log" or value > 0)


def _reach(row: Effect, end: str) -> float | None:
    """Distance in points from the mean to the `low` or `high` end of the interval."""
    bound = row.best_val_accuracy_low if end == "low" else row.best_val_accuracy_high
    return None if bound is None else abs(100 * (bound - row.best_val_accuracy_mean))


def _hover(row: Effect) -> str:
    over = f"{row.num_configs} configurations, {row.num_trials} trials"
    interval = f"; interval over {row.interval_over}" if row.interval_over else "; no interval"
    return f"{over}; {row.num_stopped} more trials stopped{interval}"


def _tick(row: Effect, name: str) -> str:
    text = plain(value_text(name, row.parameters[name]))
    if len(text) > 12:  # break a long list of words into lines, or the labels leave a phone no room for the plot
        text = text.replace("+", "+<br>")
    stopped = f"<br>{row.num_stopped} stopped" if row.num_stopped else ""
    return f"{text}<br>n = {row.num_configs}{stopped}"


def _range(values: Sequence[float], rows: Sequence[Effect]) -> list[float]:
    """Range of the points and the means; a wide interval is cut, or the points would lie too close together."""
    low = min([max(focus(values)[0], min(values)), *(100 * row.best_val_accuracy_mean for row in rows)])
    high = max(values)
    room = min(max(_reach(row, end) or 0.0 for row in rows for end in ("low", "high")), 0.6 * (high - low) + 0.3)
    return list(padded(low - room, min(high + room, 100.0)))


def _is_ordered(rows: Sequence[Effect], name: str) -> bool:
    return all(type(row.parameters[name]) in (int, float) for row in rows)


def _notes(table: Sequence[Effect], name: str) -> tuple[str, ...]:
    notes = [
        "n: configurations whose trials all ran to the end; the interval includes the effect of the other parameters."
    ]
    without = [row for row in table if not row.num_configs]
    if without:
        shown = ", ".join(value_text(name, row.parameters[name]) for row in without[:8])
        stopped, failed = (sum(row.num_stopped for row in without), sum(row.num_failed for row in without))
        counts = ((stopped, "trials stopped early"), (failed, "failed or diverged"))
        listed = ", ".join(f"{count} {words}" for count, words in counts if count)
        notes.append(f"None for {shown}{' ...' if len(without) > 8 else ''} ({listed}).")
    return tuple(notes)


def _finding(name: str, rows: Sequence[Effect]) -> str:
    order = sorted(rows, key=lambda row: -row.best_val_accuracy_mean)
    best, worst = order[0], order[-1]
    gap = 100 * (best.best_val_accuracy_mean - worst.best_val_accuracy_mean)
    if gap < _LITTLE:
        return f"{spaced(name)}: the means of its {len(rows)} values differ by no more than {gap:.2f} points"
    return (
        f"{spaced(name)}: {value_text(name, best.parameters[name])} has the highest mean, "
        f"{percent(best.best_val_accuracy_mean)}, {gap:.1f} points above {value_text(name, worst.parameters[name])}"
    )
