"""What the best configurations predict: the winner's confusion matrix, and accuracy per class of the first two."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np

from flexres_tune.errors import ResultsError
from flexres_tune.predictions.classes import (
    ClassAccuracy,
    class_accuracies,
    confusion_matrix,
    find_configuration,
    read_predictions,
)
from flexres_tune.report.data import ReportData
from flexres_tune.report.plots.style import GREY, PALETTE, Plot, axis, category_axis, figure
from flexres_tune.text import escape_html, plural, plural_range, shorten
from flexres_tune.uncertainty.intervals import LEVEL

SPLIT = "val"  # the images on which configurations are chosen; the test set stays for the end
_MOST_CLASSES = 20  # with more, neither a matrix nor bars can be read
_NAME = 16  # characters of a class


def plot_predictions(data: ReportData) -> list[Plot]:
    """The two plots; none if the winner has no predictions, or while the sweep runs, because they take a second."""
    ranked = data.board.ranked
    if data.is_running or not ranked:
        return []
    try:
        groups = [g for g in read_predictions(data.results, data.sweep, SPLIT) if g.dataset == data.board.dataset]
        if not groups or len(groups[0].class_names) > _MOST_CLASSES:
            return []
        winner = ranked[0].config_id
        _, members = find_configuration(groups, winner)
        rows, _ = class_accuracies(data.results, data.sweep, SPLIT)
    except ResultsError:  # of the sweep, or of its winner
        return []
    num_seeds = sum(len(indices) for _, indices in members)
    names = [shorten(name, _NAME) for name in groups[0].class_names]
    both = [[row for row in rows if row.config_id == each.config_id] for each in ranked[:2]]
    return [
        _classes(data, [of_config for of_config in both if of_config], names),
        _confusion(data.label(winner), confusion_matrix(members), names, num_seeds),
    ]


def _classes(data: ReportData, configs: Sequence[Sequence[ClassAccuracy]], names: Sequence[str]) -> Plot:
    import plotly.graph_objects as go

    bars = []
    for rows, color, pattern in zip(configs, PALETTE, ("", "/"), strict=False):
        values = [100 * row.class_accuracy for row in rows]
        bars.append(
            go.Bar(
                orientation="h",
                name=escape_html(data.label(rows[0].config_id)),
                x=values,
                y=list(range(len(names))),
                error_x={
                    "type": "data",
                    "symmetric": False,
                    "array": [100 * row.class_accuracy_high - value for row, value in zip(rows, values, strict=True)],
                    "arrayminus": [
                        value - 100 * row.class_accuracy_low for row, value in zip(rows, values, strict=True)
                    ],
                    "width": 3,
                    "thickness": 1.5,
                    "color": GREY,
                },
                marker={"color": color, "pattern": {"shape": pattern, "solidity": 0.2}},
                customdata=[escape_html(name) for name in names],
                hovertemplate="%{customdata}: %{x:.1f} %<extra></extra>",
            )
        )
    drawn = figure(
        bars,
        height=120 + 22 * len(names) * len(configs),
        xaxis=axis("validation accuracy (%)", rangemode="tozero"),
        yaxis=category_axis("class", map(escape_html, names), autorange="reversed"),
        barmode="group",
    )
    first = configs[0]
    notes = (
        f"Weights after the last epoch, mean over {plural_range([rows[0].num_seeds for rows in configs], 'seed')}. Lines: 95 % Wilson "
        f"intervals over the images of a class, {min(row.num_images for rows in configs for row in rows):,} or more.",
    )
    return Plot("classes", f"{data.label(first[0].config_id)}{_class_finding(first, names)}", drawn, notes)


def _class_finding(rows: Sequence[ClassAccuracy], names: Sequence[str]) -> str:
    """The classes of the highest and the lowest accuracy, if they differ by more than the luck of the images.

    They are the extremes of all classes, so the test of two proportions is adjusted for all pairs (Bonferroni).
    """
    rows = [row for row in rows if row.num_images]
    worst = min(rows, key=lambda row: row.class_accuracy)
    best = max(rows, key=lambda row: row.class_accuracy)
    pooled = (best.class_accuracy * best.num_images + worst.class_accuracy * worst.num_images) / (
        best.num_images + worst.num_images
    )
    error = math.sqrt(pooled * (1 - pooled) * (1 / best.num_images + 1 / worst.num_images))
    num_pairs = max(1, math.comb(len(rows), 2))
    quantile = NormalDist().inv_cdf(1 - (1 - LEVEL) / 2 / num_pairs)
    if best.class_accuracy - worst.class_accuracy <= quantile * error:
        return ": no class is shown to be harder than another"
    return f" has its highest accuracy on {_name(best, rows, names)}, and its lowest on {_name(worst, rows, names)}"


def _name(row: ClassAccuracy, rows: Sequence[ClassAccuracy], names: Sequence[str]) -> str:
    """Such as "cat, 71 %", or "cat and 1 more, 100 %" if that many classes have the same accuracy."""
    equals = sum(each.class_accuracy == row.class_accuracy for each in rows) - 1
    more = f" and {equals} more" if equals else ""
    return f"{_class(names[row.class_number])}{more}, {100 * row.class_accuracy:.0f} %"


def _class(name: str) -> str:
    """A class in a sentence: "cat", but "class 8"."""
    return f"class {name}" if name.isdecimal() else name


def _confusion(label: str, matrix: np.ndarray, names: Sequence[str], num_seeds: int) -> Plot:
    import plotly.graph_objects as go

    totals = np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    shares = 100 * matrix / totals  # (classes, classes)
    wrong = np.where(np.eye(len(names), dtype=bool), 0, shares)
    label_at, predicted_at = np.unravel_index(int(wrong.argmax()), wrong.shape)
    limit = max(float(wrong.max()), 1.0)
    texts = [[f"{value:.0f}" if value >= 0.5 else "" for value in row] for row in shares]
    hovers = [
        [f"{escape_html(names[i])} taken for {escape_html(names[j])}: {shares[i, j]:.2f} %" for j in range(len(names))]
        for i in range(len(names))
    ]
    drawn = figure(
        [
            go.Heatmap(
                z=wrong.tolist(),
                text=texts,
                customdata=hovers,
                texttemplate="%{text}",
                colorscale="Cividis",
                zmin=0,
                zmax=limit,
                xgap=1,
                ygap=1,
                showscale=False,
                hovertemplate="%{customdata}<extra></extra>",
            )
        ],
        height=150 + 30 * len(names),
        xaxis=category_axis("prediction", map(escape_html, names), tickangle=0 if max(map(len, names)) < 3 else -45),
        yaxis=category_axis("label", map(escape_html, names), autorange="reversed"),
    )
    finding = f"{label} makes no error on these images"
    if wrong.any():
        equals = int((wrong == wrong.max()).sum()) - 1
        others = ", the highest share of any pair of classes"
        if equals:
            others = f"; {plural(equals, 'other pair')} of classes with the same share, and none with a higher one"
        pair = f"{_class(names[label_at])} for {_class(names[predicted_at])}"
        finding = f"{label} takes {wrong.max():.1f} % of the images of {pair}{others}"
    notes = (
        f"Each row: percent of the validation images of a class, over {plural(num_seeds, 'seed')}; values under 0.5 are left "
        "out. Colours show errors only, so the diagonal is dark.",
    )
    return Plot("confusion", finding, drawn, notes)
