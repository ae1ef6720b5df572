"""Heat map of a two-parameter grid: per cell the mean over completed trials, or how many did not complete."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from itertools import combinations

from flexres_tune.analysis.metric import RankingMetric
from flexres_tune.effects.parameters import SHARED, Effect, parameter_effects
from flexres_tune.records import TrialStatus
from flexres_tune.report.data import ReportData, spaced
from flexres_tune.report.plots.axes import ParameterAxis, hashable, parameter_axis
from flexres_tune.report.plots.style import GREY, Plot, as_have, at_least, category_axis, figure, focus
from flexres_tune.text import escape_html, plural

_MOST_VALUES = 16  # per parameter: with more, the text does not fit into the cells
_FILLED = 0.6  # two parameters form a grid if at least this share of the combinations has a trial
_MOST_MAPS = 3
_RAN = (TrialStatus.COMPLETED, TrialStatus.STOPPED)


def plot_heatmap(data: ReportData) -> list[Plot]:
    """One map per pair of parameters whose combinations were tried, the largest grids first."""
    trials = [trial for trial in data.trials if trial.status in _RAN]
    values = {name: {hashable(t.parameters[name]) for t in trials} for name in data.board.parameters}
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

    metric = data.board.metric
    rows = parameter_effects(data.results, data.sweep, one, by=other)
    rows = [row for row in rows if row.dataset == data.board.dataset]
    whole = [row for row in rows if row.metric_mean is not None]
    rows = [row for row in rows if row in whole or _ended(row)]
    if len(whole) < 2:
        return []
    x, y = (parameter_axis(name, [row.parameters[name] for row in rows], most_ticks=10**6) for name in (one, other))
    if len(x.values) > len(y.values):
        x, y = y, x
    means, texts, hovers = ([[empty] * len(x.values) for _ in y.values] for empty in (None, "", None))
    stopped = []
    for row in rows:
        at, up = int(x.place(row.parameters[x.name])), int(y.place(row.parameters[y.name]))
        if row in whole:
            means[up][at] = data.shown(row.metric_mean)
            texts[up][at] = f"{means[up][at]:.{metric.decimals(None)}f}<br>{_count(row)}"
            more = f"; {ended} more trials" if (ended := _ended(row)) else ""
            over = plural(row.num_averaged, "configuration")
            hovers[up][at] = f"{means[up][at]:.4g}{metric.suffix} over {over}{more}"
        else:
            stopped.append({"x": at, "y": up, "text": f"× {_ended(row, '<br>')}"})
    values = [value for line in means for value in line if value is not None]
    limits = focus(values, metric.is_maximized)
    low, high = max(limits[0], min(values)), min(limits[1], max(values))
    span = smallest_span(data, values)
    zmin, zmax = at_least((low, high), span)
    drawn = figure(
        [
            go.Heatmap(
                z=means,
                text=texts,
                customdata=hovers,
                texttemplate="%{text}",
                colorscale="Cividis",
                reversescale=not metric.is_maximized,  # the best value is the lightest
                zmin=zmin,
                zmax=zmax,
                xgap=2,
                ygap=2,
                colorbar={"title": {"text": metric.ranking_axis_title, "side": "right"}, "thickness": 12},
                hovertemplate="%{customdata}<extra></extra>",
                hoverongaps=False,
            )
        ],
        height=150 + 46 * len(y.values),
        xaxis=category_axis(spaced(x.name), map(escape_html, x.texts), range=[-0.5, len(x.values) - 0.5]),
        yaxis=category_axis(spaced(y.name), map(escape_html, y.texts), range=[-0.5, len(y.values) - 0.5]),
        annotations=[each | {"showarrow": False, "font": {"size": 11, "color": GREY}} for each in stopped],
    )
    notes = [*_notes(whole[0], bool(stopped)), *_color_notes(metric, values, (low, high), span)]
    return [Plot(f"map-{x.name}-{y.name}", _finding(metric, x, y, whole), drawn, tuple(notes))]


def _color_notes(metric: RankingMetric, values: Sequence[float], limits: tuple[float, float], span: float) -> list[str]:
    """What the colours leave out: values beyond the limits, and differences that are smaller than the span."""
    low, high = limits
    notes = []
    if low > min(values) or high < max(values):
        end = low if metric.is_maximized else high
        notes.append(f"Colours start at {end:.3g}{metric.suffix}: worse values have the darkest colour.")
    if span > high - low:
        notes.append(
            f"The colours span {span:.2g} {metric.difference}, more than these cells differ by: less could be luck."
        )
    return notes


def smallest_span(data: ReportData, values: Sequence[float]) -> float:
    """The smallest difference of shown values that may use all colours: smaller ones would look like an effect.

    It is the range of four standard deviations over seeds, which holds most seeds of one configuration, and at least
    one point of accuracy, or 2 % of a loss.
    """
    metric = data.board.metric
    sds = [row.metric_sd for row in data.board.ranked if row.metric_sd is not None]
    least = 1.0 if metric.factor == 100 else 0.02 * abs(statistics.median(values))
    return max(least, 4 * metric.factor * statistics.median(sds) if sds else 0.0)


def _finding(metric: RankingMetric, x: ParameterAxis, y: ParameterAxis, rows: Sequence[Effect]) -> str:
    best = max(rows, key=lambda row: metric.score(row.metric_mean))
    equals = sum(row.metric_mean == best.metric_mean for row in rows) - 1
    return (
        f"Of the combinations with a mean, {spaced(x.name)} {_text(x, best)} with {spaced(y.name)} "
        f"{_text(y, best)} has the {metric.extreme}, {metric.text(best.metric_mean)} ({_count(best)}){as_have(equals)}"
    )


def _count(row: Effect) -> str:
    """Trials that the mean is over, or its configurations if they are only some of those that ran to the end."""
    if row.num_averaged == row.num_configs:
        return f"n = {row.num_trials}"
    return f"{row.num_averaged} of {row.num_configs} configs"


def _notes(row: Effect, has_ended_early: bool) -> list[str]:
    """What a cell with a mean, such as `row`, shows, and what one without it."""
    over = "whose partners in every other field ran to the end too" if row.mean_over == SHARED else "with both values"
    notes = [f"Mean over the configurations {over}; n: their trials."]
    if has_ended_early:
        notes.append("×: there is no mean, because trials did not run to the end; their number.")
    return notes


def _ended(row: Effect, gap: str = " ") -> str:
    """Such as "2 paused": the trials that did not run to the end."""
    counts = ((row.num_stopped, "stopped"), (row.num_paused, "paused"), (row.num_failed, "failed"))
    return ", ".join(f"{count}{gap}{word}" for count, word in counts if count)


def _text(axis: ParameterAxis, row: Effect) -> str:
    return axis.texts[int(axis.place(row.parameters[axis.name]))]
