"""Ranking: one row per configuration, with a point per seed and the mean with a 95 % interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flexres_tune.analysis.leaderboard import TOO_FEW_SEEDS, BoardRow
from flexres_tune.records import Stage
from flexres_tune.report.data import ReportData
from flexres_tune.report.plots.style import (
    GREY,
    PALETTE,
    Plot,
    as_have,
    axis,
    category_axis,
    error_bars,
    figure,
    focus,
    scatter,
)
from flexres_tune.text import escape_html, plural

_T = "Intervals: Student's t over seeds; a configuration with one seed has none."
_MOST_ROWS = 12  # a screen does not show more rows with their labels


def plot_ranking(data: ReportData) -> list[Plot]:
    """Mean ± t interval of the metric over the trials that count; no plot for fewer than two ranked rows."""
    rows = [row for row in data.board.ranked if row.metric_mean is not None][:_MOST_ROWS]
    if len(rows) < 2:
        return []
    labels = [escape_html(data.label(row.config_id)) for row in rows]
    plot = rows_plot(data, "ranking", rows, labels, _finding(data, rows[0]))
    if left_out := len(data.board.ranked) - len(rows):
        note = f"The {plural(left_out, 'configuration')} ranked below are in the table only."
        plot = replace(plot, notes=(*plot.notes, note))
    return [plot]


def rows_plot(
    data: ReportData, name: str, rows: Sequence[BoardRow], labels: Sequence[str], finding: str, intervals_are: str = _T
) -> Plot:
    """A point per seed, and the mean of each row with its interval, the label above it."""
    metric = data.board.metric
    seeds = [(at, trial) for at, row in enumerate(rows) for trial in data.counted(row.config_id)]
    values = [data.shown(trial.metric) for _, trial in seeds]
    means = [data.shown(row.metric_mean) for row in rows]
    ends = [[None if end is None else data.shown(end) for end in (row.metric_low, row.metric_high)] for row in rows]
    bars, reaches = error_bars(rows, metric.factor)
    intervals = [
        "no interval" if low is None else f"95 % interval {low:.4g} to {high:.4g}{metric.suffix}" for low, high in ends
    ]
    traces = [
        scatter(
            name="one seed",
            x=values,
            y=[at for at, _ in seeds],
            text=[f"seed {trial.seed}" for _, trial in seeds],
            mode="markers",
            marker={"symbol": "circle-open", "size": 7, "color": GREY},
            hovertemplate=f"%{{text}}: %{{x:.4~g}}{metric.suffix}<extra></extra>",
        ),
        scatter(
            name="mean and 95 % interval",
            x=means,
            y=list(range(len(rows))),
            mode="markers",
            marker={"symbol": "diamond", "size": 10, "color": PALETTE[0]},
            error_x=bars,
            customdata=[[row.num_seeds, interval] for row, interval in zip(rows, intervals, strict=True)],
            hovertemplate=f"mean %{{x:.4~g}}{metric.suffix}, n = %{{customdata[0]}}, %{{customdata[1]}}<extra></extra>",
        ),
    ]
    limits = focus(values, metric.is_maximized, reaches=reaches)
    drawn = figure(
        traces,
        height=110 + 44 * len(rows),
        xaxis=axis(metric.ranking_axis_title, range=limits),
        yaxis=category_axis("rank", [str(at) for at in range(1, len(rows) + 1)], range=[len(rows) - 0.5, -0.75]),
    )
    for at, (row, mean, label) in enumerate(zip(rows, means, labels, strict=True)):
        off = f" ◂ {metric.text(row.metric_mean)}" if mean < limits[0] else ""
        off = f" ▸ {metric.text(row.metric_mean)}" if mean > limits[1] else off
        drawn.add_annotation(  # above its row: to the left of it, a phone has no room for the plot
            x=0, xref="paper", xanchor="left", y=at, yshift=13, showarrow=False, font={"size": 12},
            text=label + off,
        )  # fmt: skip
    notes = [f"Points are seeds. {intervals_are}"]
    if any(low is not None and (low < limits[0] or high > limits[1]) for low, high in ends):
        notes.append("Intervals that extend beyond the plot come from too few seeds to be informative.")
    return Plot(name, finding, drawn, tuple(notes))


def _finding(data: ReportData, leader: BoardRow) -> str:
    metric = data.board.metric
    # A screened configuration may have a better mean, and confirmed ones are in the order of all their runs.
    equals = sum(row.metric_mean == leader.metric_mean for row in data.board.ranked) - 1
    lead = f"{data.label(leader.config_id)} has the {metric.extreme} mean{as_have(equals)}"
    if leader.stage == Stage.CONFIRM:
        lead = f"{data.label(leader.config_id)} leads the confirmed configurations"
    lead += f", {metric.text(leader.metric_mean)}"
    compared = [row for row in data.board.ranked if row.p_value is not None]
    if leader.metric_low is None and not compared:  # with one fresh seed each, the screening tells the deviation
        return f"{lead}; one seed is not enough to measure how much of that is chance"
    apart = sum(row.separable_from_leader == "yes" for row in compared)
    if not compared:
        return lead
    verdicts = {row.separable_from_leader for row in compared}
    too_few = next((verdict for verdict in verdicts if verdict.endswith(TOO_FEW_SEEDS)), None)
    if not apart and too_few:
        whom = "the other one" if len(compared) == 1 else f"any of the {len(compared)} others"
        return f"{lead}; {too_few.removesuffix(' it')} that it is better than {whom}"
    if len(compared) == 1:
        return f"{lead}; the other one compared with it is {'' if apart else 'not '}separable from it"
    verb = "are" if apart > 1 else "is"
    return f"{lead}; {apart or 'none'} of the {len(compared)} others compared with it {verb} separable from it"
