"""Training against validation: accuracy and loss of the first configurations over their epochs, and the gap between."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.report.data import ReportData
from flexres_tune.report.plots.style import PALETTE, SYMBOLS, Plot, axis, count_axis, figure, scatter, thin
from flexres_tune.text import escape_html, plural

_MOST_CONFIGS = 3  # each has two curves in each plot
_MOST_POINTS = 100


@dataclass(frozen=True)
class _Pair:
    """Two columns of `epochs` in one plot."""

    name: str  # id of the plot
    train: str
    val: str
    title: str
    unit: str  # of a shown value
    factor: float


_PAIRS = (
    _Pair("train-val-accuracy", "train_accuracy", "val_accuracy", "accuracy (%)", " %", 100.0),
    _Pair("train-val-loss", "train_loss", "val_loss", "loss (nats)", "", 1.0),
)


def plot_overlay(data: ReportData) -> list[Plot]:
    """One plot of accuracy and one of loss, each with training dashed and validation solid; means over seeds."""
    leaders = [row.config_id for row in data.board.ranked[:_MOST_CONFIGS]]
    ids = {config_id: [trial.trial_id for trial in data.counted(config_id)] for config_id in leaders}
    epochs = data.results.epochs(data.sweep)
    wanted = pa.array([each for several in ids.values() for each in several], pa.string())
    epochs = epochs.filter(pc.is_in(epochs["trial_id"], wanted))
    if not epochs.num_rows:
        return []
    return [plot for pair in _PAIRS if (plot := _plot(data, pair, ids, epochs))]


def _plot(data: ReportData, pair: _Pair, ids: Mapping[str, Sequence[str]], epochs: pa.Table) -> Plot | None:
    traces, findings = [], []
    for rank, (config_id, trial_ids) in enumerate(ids.items()):
        curves = _mean_curves(epochs, trial_ids, pair)
        if not all(curves.values()):
            continue
        name = f"{rank + 1}. {escape_html(data.label(config_id))}"
        for column, words, dash in ((pair.train, "training", "dash"), (pair.val, "validation", "solid")):
            traces.append(_trace(curves[column], f"{name}: {words}", rank, dash, pair.unit))
        findings.append(_finding(data.label(config_id), curves[pair.train], curves[pair.val], pair))
    if not traces:
        return None
    last = max(max(trace.x) for trace in traces)
    drawn = figure(traces, height=400, xaxis=count_axis("epoch", last), yaxis=axis(pair.title))
    note = (
        "Solid: validation images. Dashed: training images, measured while training, on augmented images and with the "
        "weights of each step, so it may lie on the worse side. Means over seeds."
    )
    return Plot(pair.name, findings[0], drawn, (note,))


def _trace(curve: Mapping[int, float], name: str, rank: int, dash: str, unit: str):
    points = thin(sorted(curve.items()), _MOST_POINTS)
    return scatter(
        name=name,
        x=[epoch for epoch, _ in points],
        y=[value for _, value in points],
        mode="lines+markers" if len(points) <= 40 else "lines",
        line={"color": PALETTE[rank], "dash": dash, "width": 2 if dash == "solid" else 1.5},
        marker={"symbol": SYMBOLS[rank] + ("" if dash == "solid" else "-open"), "size": 5},
        hovertemplate=f"epoch %{{x}}: %{{y:.4~g}}{unit}<extra>{name}</extra>",
    )


def _mean_curves(epochs: pa.Table, trial_ids: Sequence[str], pair: _Pair) -> dict[str, dict[int, float]]:
    """column -> epoch -> mean over trials: the same trials in both columns and all epochs, or the gap would be of others."""
    some = epochs.filter(pc.is_in(epochs["trial_id"], pa.array(trial_ids, pa.string())))
    values: dict[int, list[tuple[float, float]]] = {}
    columns = (some[name].to_pylist() for name in ("epoch", pair.train, pair.val))
    for epoch, *both in zip(*columns, strict=True):
        if epoch is not None and all(value is not None and math.isfinite(value) for value in both):
            values.setdefault(epoch, []).append((pair.factor * both[0], pair.factor * both[1]))
    most = max(map(len, values.values()), default=0)
    means = {
        epoch: [sum(each) / most for each in zip(*several, strict=True)]
        for epoch, several in values.items()
        if len(several) == most
    }
    return {name: {epoch: mean[at] for epoch, mean in means.items()} for at, name in enumerate((pair.train, pair.val))}


def _finding(label: str, train: Mapping[int, float], val: Mapping[int, float], pair: _Pair) -> str:
    """What the last epoch shows of one configuration."""
    last = max(val)
    if pair.unit:  # accuracy
        gap = train[last] - val[last]
        side = "above" if gap >= 0 else "below"
        return (
            f"{label}: training accuracy is {abs(gap):.1f} points {side} validation accuracy after epoch {last} "
            f"({train[last]:.1f} and {val[last]:.1f} %)"
        )
    lowest = min(val, key=lambda epoch: (val[epoch], -epoch))
    if lowest == max(val):
        return f"{label}: validation loss is lowest after the last epoch, {val[lowest]:.3g}"
    later = plural(max(val) - lowest, "epoch")
    return (
        f"{label}: validation loss is lowest after epoch {lowest}, {val[lowest]:.3g}, and {val[max(val)]:.3g} after "
        f"{later} more"
    )
