"""Parallel coordinates: one line per full-length trial through its parameters to its accuracy.

Drawn by Plotly's lines and not by its `parcoords` trace, which needs WebGL, and with it `eval`, that many browsers
and this page's own policy refuse; and not by Optuna's plot, which has one trace per trial and a white background.
"""

from __future__ import annotations

from flexres_tune.report.data import ReportData, Trial, percent, spaced, value_text
from flexres_tune.report.plots.axes import ParameterAxis, parameter_axis
from flexres_tune.report.plots.style import GREY, Plot, figure, focus, plain, thin

_MOST_LINES = 250
_MOST_AXES = 8
_FEW = 6  # distinct values that get a place each; more numbers stand to scale
_COLORS = (GREY, "#7F9DB3", "#56B4E9", "#2A86C8", "#D55E00")  # of groups of equal size, worst to best
_SHARES = {1: "one", 2: "half", 3: "third", 4: "quarter", 5: "fifth"}


def plot_parallel(data: ReportData) -> list[Plot]:
    """No plot for fewer than 5 full-length trials, or fewer than two parameters."""

    names = [n for n in data.parameters if len({str(t.parameters[n]) for t in data.full}) > 1]
    if len(data.full) < 5 or len(names) < 2:
        return []
    names, dropped = names[:_MOST_AXES], names[_MOST_AXES:]
    trials = thin(sorted(data.full, key=lambda t: t.best_val_accuracy), _MOST_LINES)
    axes = [_axis(name, [trial.parameters[name] for trial in trials]) for name in names]
    high = trials[-1].best_val_accuracy
    low = max(focus([100 * trial.best_val_accuracy for trial in trials])[0] / 100, trials[0].best_val_accuracy)
    spans = [_span(axis) for axis in axes]
    traces = []
    groups = _groups(trials)
    for index, group in enumerate(groups):
        traces.append(_lines(group, axes, [*spans, (low, high)], index, len(groups)))
    drawn = figure(
        traces,
        height=420,
        xaxis={
            "tickvals": list(range(len(axes) + 1)),
            "ticktext": [_titled(axis) for axis in axes] + ["validation<br>accuracy (%)"],
            "showgrid": False,
            "side": "top",
            "range": [-0.18, len(axes) + 0.32],
        },
        yaxis={"visible": False, "range": [-0.04, 1.04]},
        shapes=[
            {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": {"color": "#8c8c8c", "width": 1}}
            for at in range(len(axes) + 1)
        ],
        legend={"orientation": "h", "x": 0, "y": -0.02, "yanchor": "top", "traceorder": "reversed"},
    )
    ticks = [
        [((at - lo) / (hi - lo), text) for at, text in axis.ticks] for axis, (lo, hi) in zip(axes, spans, strict=True)
    ]
    ticks.append([(i / 4, f"{100 * (low + (high - low) * i / 4):.1f}") for i in range(5)])
    if low > trials[0].best_val_accuracy:
        ticks[-1][0] = (0.0, f"≤ {100 * low:.1f}")
    for at, column in enumerate(ticks):
        for y, text in column:
            drawn.add_annotation(
                x=at, y=y, text=plain(text), showarrow=False, xanchor="left", xshift=4, font={"size": 11},
            )  # fmt: skip
    notes = ["Each line is a full-length trial; the colour is the group, by accuracy, that it belongs to."]
    if len(trials) < len(data.full):
        notes.append(f"{len(trials)} of {len(data.full):,} trials are drawn, evenly over their accuracies.")
    if dropped:
        notes.append(f"Left out for width: {', '.join(map(spaced, dropped))}.")
    return [Plot("parallel", _finding(axes, trials), drawn, tuple(notes))]


def _groups(trials: list[Trial]) -> list[list[Trial]]:
    """Sorted trials in up to five groups of equal size, of three trials at least."""
    number = max(1, min(len(_COLORS), len(trials) // 3))
    return [trials[i * len(trials) // number : (i + 1) * len(trials) // number] for i in range(number)]


def _axis(name: str, values: list) -> ParameterAxis:
    return parameter_axis(name, values, most_ticks=_FEW)


def _span(axis: ParameterAxis) -> tuple[float, float]:
    places = [axis.place(value) for value in (axis.values[0], axis.values[-1])]
    return places[0], places[1] if places[1] > places[0] else places[0] + 1


def _titled(axis: ParameterAxis) -> str:
    return plain(spaced(axis.name)).replace(" ", "<br>") + ("<br>(log)" if axis.kind == "log" else "")


def _lines(part: list[Trial], axes: list[ParameterAxis], spans: list, index: int, num_groups: int):
    """The lines of one group; `spans` are (low, high) of each axis and, last, of the accuracy."""
    import plotly.graph_objects as go

    *spans, (low, high) = spans
    best = index == num_groups - 1
    color = _COLORS[len(_COLORS) - num_groups + index]
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str | None] = []
    for trial in part:
        places = [axis.place(trial.parameters[axis.name]) for axis in axes]
        scaled = [(at - lo) / (hi - lo) for at, (lo, hi) in zip(places, spans, strict=True)]
        accuracy = max(0.0, trial.best_val_accuracy - low) / ((high - low) or 1)
        values = ", ".join(f"{spaced(a.name)} {value_text(a.name, trial.parameters[a.name])}" for a in axes)
        x += [*range(len(axes) + 1), None]
        y += [*(round(value, 4) for value in scaled), round(accuracy, 4), None]
        text += [plain(f"{values}: {percent(trial.best_val_accuracy, 2)}")] * (len(axes) + 1) + [None]
    name = f"{100 * part[0].best_val_accuracy:.1f}–{100 * part[-1].best_val_accuracy:.1f} %"
    share = _SHARES[num_groups]
    return go.Scatter(
        name=f"best {share}, {name}" if best else f"worst {share}, {name}" if index == 0 else name,
        x=x,
        y=y,
        text=text,
        mode="lines",
        line={"color": color, "width": 2.4 if best else 1.3},
        opacity=0.9 if best else 0.7,
        hovertemplate="%{text}<extra></extra>",
    )


def _finding(axes: list[ParameterAxis], trials: list[Trial]) -> str:
    """What the best group has in common."""
    groups = _groups(trials)
    best, share = groups[-1], _SHARES[len(groups)]
    shared = []
    for axis in axes:
        values = {value_text(axis.name, trial.parameters[axis.name]) for trial in best}
        if len(values) == 1:
            shared.append(f"{spaced(axis.name)} {values.pop()}")
        elif axis.kind != "category":
            places = sorted(axis.place(trial.parameters[axis.name]) for trial in best)
            lo, hi = _span(axis)
            if places[-1] - places[0] < 0.6 * (hi - lo):
                numbers = [10**at if axis.kind == "log" else at for at in (places[0], places[-1])]
                shared.append(f"{spaced(axis.name)} between {numbers[0]:.3g} and {numbers[1]:.3g}")
    if shared:
        return f"The best {share} of the full-length trials share {', '.join(shared)}"
    return f"The best {share} of the full-length trials have no parameter value in common"
