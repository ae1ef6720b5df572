"""Heat map of a two-parameter grid: mean accuracy of full-length trials in each cell, and what was stopped there."""

from __future__ import annotations

from itertools import combinations

from flexres_tune.records import TrialStatus
from flexres_tune.results.report.axes import ParameterAxis, hashable, parameter_axis
from flexres_tune.results.report.data import ReportData, Trial, percent, spaced
from flexres_tune.results.report.plot import Plot
from flexres_tune.results.report.style import figure, focus, plain

_MOST_VALUES = 16  # of a parameter: more cells hold no text
_FILLED = 0.6  # share of the grid's cells with a trial from which it counts as a grid
_MOST_MAPS = 3
_RAN = (TrialStatus.COMPLETED, TrialStatus.STOPPED)


def plot_heatmap(data: ReportData) -> list[Plot]:
    """A map for each pair of parameters whose values were crossed; the fullest grids first."""
    trials = [trial for trial in data.trials if trial.status in _RAN and trial.best_val_accuracy is not None]
    several = [
        name
        for name in data.parameters
        if len({hashable(t.parameters[name]) for t in trials if t.is_full}) >= 2
        and len({hashable(t.parameters[name]) for t in trials}) <= _MOST_VALUES
    ]
    found = []
    for one, other in combinations(several, 2):
        cells = {(hashable(t.parameters[one]), hashable(t.parameters[other])) for t in trials}
        size = len({x for x, _ in cells}) * len({y for _, y in cells})
        if size >= 4 and len(cells) >= _FILLED * size:
            found.append((len(cells), one, other))
    found.sort(key=lambda each: -each[0])
    return [_map(trials, one, other) for _, one, other in found[:_MOST_MAPS]]


def _map(trials: list[Trial], one: str, other: str) -> Plot:
    """`one` across, `other` down; whichever has more values stands upright, for a phone's sake."""
    import plotly.graph_objects as go

    x, y = (parameter_axis(name, [t.parameters[name] for t in trials], most_ticks=10**6) for name in (one, other))
    if len(x.values) > len(y.values):
        x, y = y, x
    cells: dict[tuple[int, int], list[Trial]] = {}
    for trial in trials:
        at = int(y.place(trial.parameters[y.name])), int(x.place(trial.parameters[x.name]))
        cells.setdefault(at, []).append(trial)
    means, hovers = ([[None] * len(x.values) for _ in y.values] for _ in range(2))
    texts = [[""] * len(x.values) for _ in y.values]
    for (row, column), group in cells.items():
        means[row][column], texts[row][column], hovers[row][column] = _cell(group)
    values = [value for row in means for value in row if value is not None]
    low = max(focus(values)[0], min(values))
    high = max(values) if max(values) > low else low + 1
    drawn = figure(
        [
            go.Heatmap(
                z=means,
                text=texts,
                customdata=hovers,
                texttemplate="%{text}",
                colorscale="Cividis",
                zmin=low,
                zmax=high,
                xgap=2,
                ygap=2,
                colorbar={"title": {"text": "best val. accuracy (%)", "side": "right"}, "thickness": 12},
                hovertemplate="%{customdata}<extra></extra>",
                hoverongaps=False,
            )
        ],
        height=150 + 46 * len(y.values),
        xaxis=_axis(x),
        yaxis=_axis(y),
    )
    for (row, column), group in cells.items():
        if means[row][column] is None:
            text = f"× {len(group)} stopped"
            drawn.add_annotation(x=column, y=row, text=text, showarrow=False, font={"size": 11, "color": "#8c8c8c"})
    notes = ["Mean over full-length trials and all other parameters; n of them. × where all were stopped early."]
    if low > min(values):
        notes.append(f"Colours start at {low:.1f} %: whatever is below has the darkest.")
    return Plot(f"map-{x.name}-{y.name}", _finding(x, y, means, texts), drawn, tuple(notes))


def _cell(group: list[Trial]) -> tuple[float | None, str, str | None]:
    from statistics import fmean

    full = [100 * trial.best_val_accuracy for trial in group if trial.is_full]
    if not full:
        return None, "", None
    stopped = len(group) - len(full)
    more = f", {stopped} more stopped" if stopped else ""
    return fmean(full), f"{fmean(full):.1f}<br>n={len(full)}", f"{fmean(full):.2f} % over {len(full)} trials{more}"


def _axis(axis: ParameterAxis) -> dict:
    return {
        "title": {"text": spaced(axis.name)},
        "tickvals": list(range(len(axis.values))),
        "ticktext": [plain(text) for text in axis.texts],
        "showgrid": False,
    }


def _finding(x: ParameterAxis, y: ParameterAxis, means: list[list[float | None]], texts) -> str:
    best = max((value, r, c) for r, row in enumerate(means) for c, value in enumerate(row) if value is not None)
    value, row, column = best
    return (
        f"{spaced(x.name)} {x.texts[column]} with {spaced(y.name)} {y.texts[row]} has the highest mean, "
        f"{percent(value / 100)} ({texts[row][column].split('<br>')[1]})"
    )
