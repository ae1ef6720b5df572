"""Ranking: one row per configuration, with a point per seed and the mean with a 95 % interval."""

from __future__ import annotations

from flexres_tune.analysis.leaderboard import BoardRow
from flexres_tune.report.data import ReportData, percent
from flexres_tune.report.plots.style import GREY, PALETTE, Plot, accuracy_axis, figure, focus, plain, scatter
from flexres_tune.text import plural

_MOST_ROWS = 12  # a screen does not show more rows with their labels


def plot_ranking(data: ReportData) -> list[Plot]:
    """Mean ± t interval of best_val_accuracy over full-length trials; no plot for fewer than two ranked rows."""
    rows = data.ranked[:_MOST_ROWS]
    if len(rows) < 2:
        return []
    seeds = {"x": [], "y": [], "text": []}
    for at, row in enumerate(rows):
        for trial in data.counted(row.config_id):
            seeds["x"].append(100 * trial.best_val_accuracy)
            seeds["y"].append(at)
            seeds["text"].append(f"seed {trial.seed}")
    half = [
        None if row.best_val_accuracy_low is None
        else 100 * (row.best_val_accuracy_mean - row.best_val_accuracy_low)
        for row in rows
    ]  # fmt: skip
    means = scatter(
        name="mean and 95 % interval",
        x=[100 * row.best_val_accuracy_mean for row in rows],
        y=list(range(len(rows))),
        mode="markers",
        marker={"symbol": "diamond", "size": 10, "color": PALETTE[0]},
        error_x={"type": "data", "array": half, "color": PALETTE[0], "thickness": 1.6, "width": 5},
        customdata=[[row.num_seeds, _interval(row)] for row in rows],
        hovertemplate="mean %{x:.2f} %, n = %{customdata[0]}, %{customdata[1]}<extra></extra>",
    )
    points = scatter(
        name="one seed",
        **seeds,
        mode="markers",
        marker={"symbol": "circle-open", "size": 7, "color": GREY},
        hovertemplate="%{text}: %{x:.2f} %<extra></extra>",
    )
    start, end = _range(seeds["x"], half)
    drawn = figure(
        [points, means],
        height=110 + 44 * len(rows),
        xaxis=accuracy_axis("best validation accuracy (%)", range=[start, end]),
        yaxis={
            "title": {"text": "rank"},
            "tickvals": list(range(len(rows))),
            "ticktext": [str(row.rank) for row in rows],
            "range": [len(rows) - 0.5, -0.75],
            "showgrid": False,
        },
    )
    for at, row in enumerate(rows):  # the label is above its row: to the left of it, a phone has no room for the plot
        off = f" ◂ {percent(row.best_val_accuracy_mean)}" if 100 * row.best_val_accuracy_mean < start else ""
        drawn.add_annotation(
            x=0, xref="paper", xanchor="left", y=at, yshift=13, showarrow=False, font={"size": 12},
            text=plain(data.label(row.config_id)) + off,
        )  # fmt: skip
    notes = ["Points are seeds. Intervals: Student's t over seeds; a configuration with one seed has none."]
    if any(width is not None and width > 1.2 * (max(seeds["x"]) - min(seeds["x"])) + 0.5 for width in half):
        notes.append("Intervals that extend beyond the plot come from too few seeds to be informative.")
    if left_out := len(data.ranked) - len(rows):
        notes.append(f"The {plural(left_out, 'configuration')} ranked below are in the table only.")
    return [Plot("ranking", _finding(data), drawn, tuple(notes))]


def _range(values: list[float], half: list[float | None]) -> list[float]:
    """Range of all points; wide intervals are cut (with two seeds they exceed 100 %), or the points would overlap."""
    low, high = max(min(values), focus(values)[0]), max(values)
    room = min(max((width for width in half if width is not None), default=0), 1.2 * (high - low) + 0.5)
    return [low - room - 0.1, min(high + room + 0.1, 100.3)]


def _interval(row: BoardRow) -> str:
    low, high = row.best_val_accuracy_low, row.best_val_accuracy_high
    return "no interval" if low is None else f"95 % interval {100 * low:.2f} to {100 * high:.2f} %"


def _finding(data: ReportData) -> str:
    leader, *others = data.ranked
    lead = f"{data.label(leader.config_id)} has the highest mean, {percent(leader.best_val_accuracy_mean)}"
    if leader.best_val_accuracy_low is None:
        return f"{lead}; one seed is not enough to measure how much of that is chance"
    compared = [row for row in others if row.separable_from_leader in ("yes", "no")]
    apart = sum(row.separable_from_leader == "yes" for row in compared)
    if not compared:
        return lead
    if len(compared) == 1:
        return f"{lead}; the other one compared with it is {'' if apart else 'not '}separable from it"
    return f"{lead}; {apart or 'none'} of the {len(compared)} others compared with it are separable from it"
