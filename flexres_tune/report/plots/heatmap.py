"""Heat map of a two-parameter grid: per cell the mean accuracy of full-length trials, or the number of stopped ones."""

from __future__ import annotations

from itertools import combinations

from flexres_tune.analysis.effects import Effect, parameter_effects
from flexres_tune.records import TrialStatus
from flexres_tune.report.data import ReportData, percent, spaced
from flexres_tune.report.plots.axes import ParameterAxis, hashable, parameter_axis
from flexres_tune.report.plots.style import GREY, Plot, figure, focus, plain

_MOST_VALUES = 16  # per parameter: with more, the text does not fit into the cells
_FILLED = 0.6  # two parameters form a grid if at least this share of the combinations has a trial
_MOST_MAPS = 3
_RAN = (TrialStatus.COMPLETED, TrialStatus.STOPPED)


def plot_heatmap(data: ReportData) -> list[Plot]:
    """One map per pair of parameters whose combinations were tried, the largest grids first."""
    trials = [trial for trial in data.trials if trial.status in _RAN]
    values = {name: {hashable(t.parameters[name]) for t in trials} for name in data.parameters}
    several = [name for name, found in values.items() if 2 <= len(found) <= _MOST_VALUES]
    grids = []
    for one, other in combinations(several, 2):
        cells = {(hashable(t.parameters[one]), hashable(t.parameters[other])) for t in trials}
        size = len(values[one]) * len(values[other])
        if size >= 4 and len(cells) >= _FILLED * size:
            grids.append((len(cells), one, other))
    grids.sort(key=lambda grid: -grid[0])
    return [plot for _, one, other in grids[:_MOST_MAPS] for plot in _map(data, one, other)]


def _map(data: ReportData, one: str, other: str) -> list[Plot]:
    """The map of two parameters. The one with more values is on the y axis, so that the map fits a phone."""
    import plotly.graph_objects as go

    rows = parameter_effects(data.results, data.sweep, one, by=other)
    rows = [row for row in rows if row.dataset == data.dataset and (row.num_configs or row.num_stopped)]
    whole = [row for row in rows if row.num_configs]
    if len(whole) < 2:
        return []
    x, y = (parameter_axis(name, [row.parameters[name] for row in rows], most_ticks=10**6) for name in (one, other))
    if len(x.values) > len(y.values):
        x, y = y, x
    means, texts, hovers = ([[empty] * len(x.values) for _ in y.values] for empty in (None, "", None))
    stopped = []
    for row in rows:
        at, up = int(x.place(row.parameters[x.name])), int(y.place(row.parameters[y.name]))
        if row.num_configs:
            means[up][at] = 100 * row.best_val_accuracy_mean
            texts[up][at] = f"{means[up][at]:.1f}<br>n = {row.num_trials}"
            hovers[up][at] = _hover(row)
        else:
            stopped.append({"x": at, "y": up, "text": f"× {row.num_stopped}<br>stopped"})
    values = [value for line in means for value in line if value is not None]
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
        annotations=[each | {"showarrow": False, "font": {"size": 11, "color": GREY}} for each in stopped],
    )
    notes = ["Mean over all configurations with these two values that ran to the end; n: their trials."]
    if stopped:
        notes.append("×: no configuration ran to the end on all its seeds; number of trials stopped early.")
    if low > min(values):
        notes.append(f"Colours start at {low:.1f} %: lower values have the darkest colour.")
    best = max(whole, key=lambda row: row.best_val_accuracy_mean)
    finding = (
        f"{spaced(x.name)} {_text(x, best)} with {spaced(y.name)} {_text(y, best)} has the highest mean, "
        f"{percent(best.best_val_accuracy_mean)} (n = {best.num_trials})"
    )
    return [Plot(f"map-{x.name}-{y.name}", finding, drawn, tuple(notes))]


def _hover(row: Effect) -> str:
    more = f"; {row.num_stopped} more trials stopped" if row.num_stopped else ""
    mean = percent(row.best_val_accuracy_mean, 2)
    return f"{mean} over {row.num_configs} configurations, {row.num_trials} trials{more}"


def _text(axis: ParameterAxis, row: Effect) -> str:
    return axis.texts[int(axis.place(row.parameters[axis.name]))]


def _axis(axis: ParameterAxis) -> dict:
    return {
        "title": {"text": spaced(axis.name)},
        "tickvals": list(range(len(axis.values))),
        "ticktext": [plain(text) for text in axis.texts],
        "range": [-0.5, len(axis.values) - 0.5],
        "showgrid": False,
    }
