"""Parallel coordinates: one line per full-length trial through its parameters to its accuracy.

The lines are ordinary Plotly lines. Plotly's `parcoords` trace needs WebGL and `eval`, which the page's
Content-Security-Policy forbids. Optuna's plot has one trace per trial and a white background.
"""

from __future__ import annotations

from flexres_tune.report.data import ReportData, Trial, percent, spaced, value_text
from flexres_tune.report.plots.axes import ParameterAxis, parameter_axis
from flexres_tune.report.plots.style import GREY, Plot, figure, focus, plain, scatter, thin

_MOST_LINES = 250
_MOST_AXES = 8
_MOST_TICKS = 6  # an axis has categories if there are at most this many distinct values
_COLORS = (GREY, "#7F9DB3", "#56B4E9", "#2A86C8", "#D55E00")  # one per group, worst to best
_SHARES = {1: "one", 2: "half", 3: "third", 4: "quarter", 5: "fifth"}


def plot_parallel(data: ReportData) -> list[Plot]:
    """One plot; none for fewer than five full-length trials, or fewer than two parameters with several values."""
    names = [n for n in data.parameters if len({str(t.parameters[n]) for t in data.full}) > 1]
    if len(data.full) < 5 or len(names) < 2:
        return []
    names, dropped = names[:_MOST_AXES], names[_MOST_AXES:]
    trials = thin(sorted(data.full, key=lambda t: t.best_val_accuracy), _MOST_LINES)
    axes = [parameter_axis(name, [trial.parameters[name] for trial in trials], _MOST_TICKS) for name in names]
    high = trials[-1].best_val_accuracy
    low = max(focus([100 * trial.best_val_accuracy for trial in trials])[0] / 100, trials[0].best_val_accuracy)
    groups = _groups(trials)
    drawn = figure(
        [_lines(group, axes, (low, high), index, len(groups)) for index, group in enumerate(groups)],
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
            {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": {"color": GREY, "width": 1}}
            for at in range(len(axes) + 1)
        ],
        legend={"orientation": "h", "x": 0, "y": -0.02, "yanchor": "top", "traceorder": "reversed"},
    )
    ticks = [[(_height(axis, at), text) for at, text in axis.ticks] for axis in axes]
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
    """The sorted trials in up to five groups of equal size, with at least three trials each."""
    number = max(1, min(len(_COLORS), len(trials) // 3))
    return [trials[i * len(trials) // number : (i + 1) * len(trials) // number] for i in range(number)]


def _span(axis: ParameterAxis) -> tuple[float, float]:
    """The positions of the lowest and the highest value; 1 apart if the axis has one value."""
    low, high = axis.place(axis.values[0]), axis.place(axis.values[-1])
    return low, high if high > low else low + 1


def _height(axis: ParameterAxis, position: float) -> float:
    """A position on the axis as a share of its height in the plot, 0 to 1."""
    low, high = _span(axis)
    return (position - low) / (high - low)


def _titled(axis: ParameterAxis) -> str:
    return plain(spaced(axis.name)).replace(" ", "<br>") + ("<br>(log)" if axis.kind == "log" else "")


def _lines(
    group: list[Trial], axes: list[ParameterAxis], accuracy_span: tuple[float, float], index: int, num_groups: int
):
    """The lines of one group as one trace. Accuracies below `accuracy_span` are drawn at its low end."""
    low, high = accuracy_span
    best = index == num_groups - 1
    color = _COLORS[len(_COLORS) - num_groups + index]
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str | None] = []
    for trial in group:
        heights = [_height(axis, axis.place(trial.parameters[axis.name])) for axis in axes]
        accuracy = max(0.0, trial.best_val_accuracy - low) / ((high - low) or 1)
        values = ", ".join(f"{spaced(a.name)} {value_text(a.name, trial.parameters[a.name])}" for a in axes)
        x += [*range(len(axes) + 1), None]
        y += [*(round(height, 4) for height in heights), round(accuracy, 4), None]
        text += [plain(f"{values}: {percent(trial.best_val_accuracy, 2)}")] * (len(axes) + 1) + [None]
    name = f"{100 * group[0].best_val_accuracy:.1f}–{100 * group[-1].best_val_accuracy:.1f} %"
    share = _SHARES[num_groups]
    return scatter(
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
    """The values that all trials of the best group share."""
    groups = _groups(trials)
    best, share = groups[-1], _SHARES[len(groups)]
    shared = []
    for axis in axes:
        values = {value_text(axis.name, trial.parameters[axis.name]) for trial in best}
        if len(values) == 1:
            shared.append(f"{spaced(axis.name)} {values.pop()}")
        elif axis.kind != "category":
            places = sorted(axis.place(trial.parameters[axis.name]) for trial in best)
            if _height(axis, places[-1]) - _height(axis, places[0]) < 0.6:
                numbers = [10**at if axis.kind == "log" else at for at in (places[0], places[-1])]
                shared.append(f"{spaced(axis.name)} between {numbers[0]:.3g} and {numbers[1]:.3g}")
    if shared:
        return f"The best {share} of the full-length trials share {', '.join(shared)}"
    return f"The best {share} of the full-length trials have no parameter value in common"
