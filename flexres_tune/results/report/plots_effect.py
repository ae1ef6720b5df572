"""Effect of each parameter: accuracy by its values over full-length trials, and how many more were stopped."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from flexres_tune.records import TrialStatus
from flexres_tune.results.report.axes import ParameterAxis, hashable, parameter_axis
from flexres_tune.results.report.data import ReportData, Trial, percent, spaced
from flexres_tune.results.report.plot import Plot, thin
from flexres_tune.results.report.style import GREY, PALETTE, accuracy_axis, figure, focus, padded, plain
from flexres_tune.results.statistics import Interval, mean_interval

_MOST_PLOTS = 8
_MOST_POINTS = 800


def plot_effects(data: ReportData) -> list[Plot]:
    """One plot a parameter that has at least two values among the full-length trials, in the table's order."""
    plots, left_out = [], []
    for name in data.parameters:
        values = [hashable(trial.parameters[name]) for trial in data.full]
        if len(set(values)) < 2:
            continue
        if len(plots) == _MOST_PLOTS:
            left_out.append(name)
            continue
        axis = parameter_axis(name, values)
        plots.append(_few_values(data, axis) if axis.kind == "category" else _many_values(data, axis))
    if left_out:
        note = f"Left out: {', '.join(map(spaced, left_out))}; `query compare NAME` shows them."
        last = plots[-1]
        plots[-1] = Plot(last.name, last.finding, last.figure, (*last.notes, note))
    return plots


def _few_values(data: ReportData, axis: ParameterAxis) -> Plot:
    """A place for each value: its trials as points, their mean with an interval, the stopped ones counted."""
    import plotly.graph_objects as go

    groups: dict[Any, list[Trial]] = {value: [] for value in axis.values}
    for trial in data.full:
        groups[hashable(trial.parameters[axis.name])].append(trial)
    stopped = Counter(hashable(t.parameters[axis.name]) for t in data.trials if t.status == TrialStatus.STOPPED)
    intervals = [mean_interval([t.best_val_accuracy for t in group]) for group in groups.values()]
    at, points = (
        list(range(len(groups))),
        thin([(i, t) for i, g in enumerate(groups.values()) for t in g], _MOST_POINTS),
    )
    traces = [
        go.Scatter(
            name="one trial",
            x=[i + 0.16 for i, _ in points],
            y=[100 * t.best_val_accuracy for _, t in points],
            text=[plain(f"{data.label(t.config_id)}, seed {t.seed}") for _, t in points],
            mode="markers",
            marker={"symbol": "circle-open", "size": 6, "color": GREY},
            hovertemplate="%{text}: %{y:.2f} %<extra></extra>",
        ),
        go.Scatter(
            name="mean and 95 % interval",
            x=at,
            y=[100 * each.mean for each in intervals],
            mode="lines+markers" if _is_ordered(axis) else "markers",
            line={"color": PALETTE[0], "width": 1.5, "dash": "dot"},
            marker={"symbol": "diamond", "size": 9, "color": PALETTE[0]},
            error_y={"type": "data", "array": [_half(each) for each in intervals], "color": PALETTE[0], "width": 5},
            customdata=[[each.n, stopped[value]] for each, value in zip(intervals, groups, strict=True)],
            hovertemplate="mean %{y:.2f} % over %{customdata[0]} full-length trials; %{customdata[1]} more were stopped"
            "<extra></extra>",
        ),
    ]
    texts = [
        f"{_broken(text)}<br>n = {each.n}" + (f"<br>{stopped[value]} stopped" if stopped[value] else "")
        for text, each, value in zip(axis.texts, intervals, groups, strict=True)
    ]
    drawn = figure(
        traces,
        height=350,
        xaxis={
            "title": {"text": spaced(axis.name)}, "tickvals": at, "ticktext": texts, "range": [-0.5, len(at) - 0.4],
            "showgrid": False,
        },
        yaxis=accuracy_axis("best validation accuracy (%)", range=_range(points, intervals)),
    )  # fmt: skip
    only_stopped = [v for v in stopped if v not in groups]
    notes = []
    if only_stopped:
        shown = parameter_axis(axis.name, only_stopped, most_ticks=10**9).texts
        notes.append(f"No full-length trial for {', '.join(shown[:8])}: all were stopped.")
    return Plot(f"effect-{axis.name}", _finding(axis, intervals), drawn, tuple(notes))


def _many_values(data: ReportData, axis: ParameterAxis) -> Plot:
    """Every trial at its value; those stopped as crosses."""
    import plotly.graph_objects as go

    traces = []
    for trials, name, marker in (
        ([t for t in data.trials if t.status == TrialStatus.STOPPED], "stopped early", {"symbol": "x", "color": GREY}),
        (data.full, "full length", {"symbol": "circle", "color": PALETTE[0], "opacity": 0.75}),
    ):
        some = thin([t for t in trials if _fits(t, axis)], _MOST_POINTS)
        if some:
            traces.append(
                go.Scatter(
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
        height=350,
        xaxis={"title": {"text": title}, "type": axis.kind} | ({"dtick": 1} if axis.kind == "log" else {}),
        yaxis=accuracy_axis("best validation accuracy (%)"),
    )
    best = sorted(data.full, key=lambda t: -t.best_val_accuracy)[: max(2, len(data.full) // 10)]
    values = sorted(t.parameters[axis.name] for t in best)
    between = f"between {values[0]:.3g} and {values[-1]:.3g}"
    finding = f"{spaced(axis.name)}: the best tenth of the full-length trials lie {between}"
    return Plot(f"effect-{axis.name}", finding, drawn)


def _fits(trial: Trial, axis: ParameterAxis) -> bool:
    value = trial.parameters[axis.name]
    return trial.best_val_accuracy is not None and value is not None and (axis.kind != "log" or value > 0)


def _half(interval: Interval) -> float | None:
    return None if interval.low is None else 100 * (interval.mean - interval.low)


def _range(points: Sequence[tuple[int, Trial]], intervals: Sequence[Interval]) -> list[float]:
    """Around the points and means; of a wide interval what fits."""
    values = [100 * trial.best_val_accuracy for _, trial in points]
    low, high = focus(values)
    means = [100 * each.mean for each in intervals]
    return list(padded(min(low, *means), max(values))) if min(means) < low else [low, high]


def _is_ordered(axis: ParameterAxis) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in axis.values)


def _broken(text: str) -> str:
    """A long list of words on lines of its own, else a phone shows nothing but them."""
    return plain(text).replace("+", "+<br>") if len(text) > 12 else plain(text)


def _finding(axis: ParameterAxis, intervals: Sequence[Interval]) -> str:
    order = sorted(range(len(intervals)), key=lambda i: -intervals[i].mean)
    best, worst = order[0], order[-1]
    gap = 100 * (intervals[best].mean - intervals[worst].mean)
    return (
        f"{spaced(axis.name)}: {axis.texts[best]} has the highest mean, {percent(intervals[best].mean)}, "
        f"{gap:.1f} points above {axis.texts[worst]}"
    )
