"""Further metrics of a sweep over epochs: the first configurations, one metric at a time, which the reader chooses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.further_metrics import metric_names
from flexres_tune.analysis.metric import RankingMetric, further_metric
from flexres_tune.report.data import ReportData
from flexres_tune.report.plots.style import PALETTE, SYMBOLS, Plot, axis, count_axis, figure, scatter, thin
from flexres_tune.spec.metrics import goal_of
from flexres_tune.text import escape_html

_MOST_CONFIGS = 6
_MOST_POINTS = 100
_MENU_SPACE = 50  # px below the axis: the space above is the legend's, whose height depends on the window


def plot_further_metrics(data: ReportData) -> list[Plot]:
    """One plot of the metrics that `metrics` of the sweep file lists, means over seeds; none without such metrics."""
    leaders = [row.config_id for row in data.board.ranked[:_MOST_CONFIGS]]
    epochs = data.results.epochs(data.sweep)
    names = [name for name in metric_names(epochs) if name != data.board.metric.name]
    metrics = [further_metric(name, goal_of(name)) for name in names]
    traces, owners, labels = [], [], []
    for metric in metrics:
        for rank, config_id in enumerate(leaders):
            curve = _mean_curve(epochs, [trial.trial_id for trial in data.counted(config_id)], metric)
            if curve:
                name = f"{rank + 1}. {escape_html(data.label(config_id))}"
                traces.append(_trace(curve, name, rank, metric, visible=not owners or owners[0] == metric.name))
                owners.append(metric.name)
                labels.append(data.label(config_id))
    metrics = [metric for metric in metrics if metric.name in owners]
    if not metrics:
        return []
    last = max(max(trace.x) for trace in traces)
    menu = [_menu(metrics, owners)] if len(metrics) > 1 else []
    margin = {"l": 10, "r": 14, "t": 12, "b": 10 + _MENU_SPACE * len(menu)}
    layout = {"yaxis": axis(metrics[0].axis_title), "updatemenus": menu, "margin": margin}
    drawn = figure(traces, height=400, xaxis=count_axis("epoch", last), **layout)
    notes = ["Means over seeds, on the validation images."]
    notes += ["The menu below the axis chooses the metric."] if menu else []
    return [Plot("further-metrics", _finding(labels[0], metrics[0], traces[0]), drawn, tuple(notes))]


def _mean_curve(epochs: pa.Table, trial_ids: Sequence[str], metric: RankingMetric) -> Mapping[int, float]:
    """epoch -> mean over the trials, as shown: of the epochs for which all of them have a value."""
    some = epochs.filter(pc.is_in(epochs["trial_id"], pa.array(trial_ids, pa.string())))
    values: dict[int, list[float]] = {}
    for epoch, value in zip(some["epoch"].to_pylist(), some[metric.name].to_pylist(), strict=True):
        if epoch is not None and value is not None and math.isfinite(value):
            values.setdefault(epoch, []).append(metric.factor * value)
    most = max(map(len, values.values()), default=0)
    return {epoch: sum(several) / most for epoch, several in values.items() if len(several) == most}


def _trace(curve: Mapping[int, float], name: str, rank: int, metric: RankingMetric, visible: bool) -> Any:
    points = thin(sorted(curve.items()), _MOST_POINTS)
    return scatter(
        name=name,
        x=[epoch for epoch, _ in points],
        y=[value for _, value in points],
        visible=visible,
        mode="lines+markers" if len(points) <= 40 else "lines",
        line={"color": PALETTE[rank], "width": 2},
        marker={"symbol": SYMBOLS[rank], "size": 5},
        hovertemplate=f"epoch %{{x}}: %{{y:.4~g}}{metric.suffix}<extra>{name}</extra>",
    )


def _menu(metrics: Sequence[RankingMetric], owners: Sequence[str]) -> dict[str, Any]:
    """Plotly's menu, whose buttons show the traces of one metric."""
    buttons = [
        {
            "label": metric.words,
            "method": "update",
            "args": [{"visible": [owner == metric.name for owner in owners]}, {"yaxis.title.text": metric.axis_title}],
        }
        for metric in metrics
    ]
    place = {"x": 0, "xanchor": "left", "y": 0, "yanchor": "top", "pad": {"t": _MENU_SPACE - 14}, "direction": "up"}
    # the same in both themes, because Plotly's own colour of the chosen entry is light in both
    colors = {"bgcolor": "#ececec", "bordercolor": "#9aa0a6", "font": {"color": "#1b1e23"}}
    return {"buttons": buttons, **place, **colors}


def _finding(label: str, metric: RankingMetric, first: Any) -> str:
    """The value after the last epoch of the first configuration that has the metric, which need not be the leader."""
    return f"{metric.words} of {label} after epoch {first.x[-1]}: {first.y[-1]:.4g}{metric.suffix}"
