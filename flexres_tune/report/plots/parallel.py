"""Parallel coordinates: one line per completed trial through its parameters to its value of the metric.

The lines are ordinary Plotly lines. Plotly's `parcoords` trace needs WebGL and `eval`, which the page's
Content-Security-Policy forbids. Optuna's plot has one trace per trial and a white background.
"""

from __future__ import annotations

from flexres_tune.report.data import ReportData, Trial, spaced, value_text
from flexres_tune.report.plots.axes import ParameterAxis, parameter_axis
from flexres_tune.report.plots.style import GREY, Plot, category_axis, figure, focus, scatter, thin
from flexres_tune.text import escape_html

_MOST_LINES = 250
_MOST_AXES = 8
_MOST_TICKS = 6  # an axis has categories if there are at most this many distinct values
_COLORS = (GREY, "#7F9DB3", "#56B4E9", "#2A86C8", "#D55E00")  # one per group, worst to best
_SHARES = {1: "one", 2: "half", 3: "third", 4: "quarter", 5: "fifth"}


def plot_parallel(data: ReportData) -> list[Plot]:
    """One plot; none for fewer than five completed trials, or fewer than two parameters with several values."""
    names = [n for n in data.board.parameters if len({str(t.parameters[n]) for t in data.completed}) > 1]
    if len(data.completed) < 5 or len(names) < 2:
        return []
    metric = data.board.metric
    names, dropped = names[:_MOST_AXES], names[_MOST_AXES:]
    ranked = sorted(data.completed, key=lambda trial: metric.score(trial.metric))
    axes = [parameter_axis(name, [trial.parameters[name] for trial in ranked], _MOST_TICKS) for name in names]
    values = [data.shown(trial.metric) for trial in ranked]  # worst first
    limits = focus(values, metric.is_maximized)
    worst, best = min(max(values[0], limits[0]), limits[1]), values[-1]
    whole = _groups(ranked)
    groups = [thin(group, _MOST_LINES // len(whole)) for group in whole]
    titles = [escape_html(spaced(a.name)).replace(" ", "<br>") + ("<br>(log)" if a.kind == "log" else "") for a in axes]
    titles.append("<br>".join([*metric.words.split(), metric.axis_title.rpartition(" ")[2]]))
    drawn = figure(
        [_lines(data, groups, index, axes, (worst, best)) for index in range(len(groups))],
        height=420,
        xaxis=category_axis("", titles, side="top", range=[-0.18, len(axes) + 0.32]),
        yaxis={"visible": False, "range": [-0.04, 1.04]},
        shapes=[
            {"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "line": {"color": GREY, "width": 1}}
            for at in range(len(titles))
        ],
        legend={"orientation": "h", "x": 0, "y": -0.02, "yanchor": "top", "traceorder": "reversed"},
    )
    ticks = [[(_height(axis, at), text) for at, text in axis.ticks] for axis in axes]
    ticks.append([(i / 4, f"{worst + (best - worst) * i / 4:.{metric.decimals(None)}f}") for i in range(5)])
    if worst != values[0]:
        ticks[-1][0] = (0.0, f"{'≤' if metric.is_maximized else '≥'} {ticks[-1][0][1]}")
    for at, column in enumerate(ticks):
        for y, text in column:
            drawn.add_annotation(
                x=at, y=y, text=escape_html(text), showarrow=False, xanchor="left", xshift=4, font={"size": 11},
            )  # fmt: skip
    notes = [f"Each line is a completed trial; the colour is its group by {metric.words} {metric.epoch_words}."]
    if (drawn_lines := sum(map(len, groups))) < len(ranked):
        notes.append(f"{drawn_lines} of {len(ranked):,} trials are drawn, evenly over their values.")
    if dropped:
        notes.append(f"Left out for width: {', '.join(map(spaced, dropped))}.")
    return [Plot("parallel", _finding(data, [*names, *dropped], whole), drawn, tuple(notes))]


def _groups(trials: list[Trial]) -> list[list[Trial]]:
    """The sorted trials in up to five groups of equal size, with at least three trials each."""
    number = max(1, min(len(_COLORS), len(trials) // 3))
    return [trials[i * len(trials) // number : (i + 1) * len(trials) // number] for i in range(number)]


def _height(axis: ParameterAxis, position: float) -> float:
    """A position on the axis as a share of its height in the plot, 0 to 1."""
    low, high = axis.place(axis.values[0]), axis.place(axis.values[-1])
    return (position - low) / ((high - low) or 1.0)


def _lines(
    data: ReportData, groups: list[list[Trial]], index: int, axes: list[ParameterAxis], ends: tuple[float, float]
):
    """The lines of one group as one trace. Values worse than the first of `ends` are drawn there."""
    group, (worst, best), metric = groups[index], ends, data.board.metric
    is_best = index == len(groups) - 1
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str | None] = []
    for trial in group:
        heights = [_height(axis, axis.place(trial.parameters[axis.name])) for axis in axes]
        heights.append(max(0.0, (data.shown(trial.metric) - worst) / ((best - worst) or 1.0)))
        values = ", ".join(f"{spaced(a.name)} {value_text(a.name, trial.parameters[a.name])}" for a in axes)
        x += [*range(len(heights)), None]
        y += [*(round(height, 4) for height in heights), None]
        text += [escape_html(f"{values}: {data.shown(trial.metric):.4g}{metric.suffix}")] * len(heights) + [None]
    first, last = (f"{data.shown(trial.metric):.{metric.decimals(None)}f}" for trial in (group[0], group[-1]))
    name, share = f"{first}–{last}{metric.suffix}", _SHARES[len(groups)]
    return scatter(
        name=f"best {share}, {name}" if is_best else f"worst {share}, {name}" if index == 0 else name,
        x=x,
        y=y,
        text=text,
        mode="lines",
        line={"color": _COLORS[len(_COLORS) - len(groups) + index], "width": 2.4 if is_best else 1.3},
        opacity=0.9 if is_best else 0.7,
        hovertemplate="%{text}<extra></extra>",
    )


def _finding(data: ReportData, names: list[str], groups: list[list[Trial]]) -> str:
    """The values of any parameter, on an axis or not, that all trials of the best group share.

    Trials outside the group that are as good as its worst one must have them as well: which of equals is in the group is
    chance.
    """
    score, share = data.board.metric.score, _SHARES[len(groups)]
    worst = min(score(trial.metric) for trial in groups[-1])
    best = [trial for trial in data.completed if score(trial.metric) >= worst]
    shared = []
    for axis in (parameter_axis(n, [t.parameters[n] for t in data.completed], _MOST_TICKS) for n in names):
        values = {value_text(axis.name, trial.parameters[axis.name]) for trial in best}
        if len(values) == 1:
            shared.append(f"{spaced(axis.name)} {values.pop()}")
        elif axis.kind != "category":
            places = sorted(axis.place(trial.parameters[axis.name]) for trial in best)
            if _height(axis, places[-1]) - _height(axis, places[0]) < 0.6:
                numbers = [10**at if axis.kind == "log" else at for at in (places[0], places[-1])]
                shared.append(f"{spaced(axis.name)} between {numbers[0]:.3g} and {numbers[1]:.3g}")
    if len(groups) == 1:
        subject, verbs = f"The {len(best)} completed trials", ("share", "have")
    else:
        subject, verbs = f"The best {share} of the completed trials", ("shares", "has")
    if shared:
        return f"{subject} {verbs[0]} {', '.join(shared)}"
    return f"{subject} {verbs[1]} no parameter value in common"
