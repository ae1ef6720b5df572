"""Learning curves: the leaders in colour with a band over their seeds, other trials in grey, a mark at early ends."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from flexres_tune.records import TrialStatus
from flexres_tune.report.data import ReportData, Trial
from flexres_tune.report.plots import style
from flexres_tune.report.plots.style import GREY, PALETTE, STATUSES, Plot, axis, count_axis, figure, scatter, thin
from flexres_tune.text import escape_html, plural

_MOST_LEADERS = len(PALETTE)
_MOST_OTHERS = 80  # grey curves per group: more of them overlap to one grey area and add megabytes to the page
_MOST_POINTS = 100  # per curve: a screen does not show more


def plot_curves(data: ReportData) -> list[Plot]:
    """The metric per epoch; no plot if no trial has a curve."""
    if not data.curves:
        return []
    leaders = [row.config_id for row in data.board.ranked[:_MOST_LEADERS]]
    shown = {trial.trial_id for config_id in leaders for trial in data.counted(config_id)}
    with_curve = [trial for trial in data.trials if trial.trial_id in data.curves and trial.trial_id not in shown]
    stopped = [trial for trial in with_curve if trial.status == TrialStatus.STOPPED]
    others = [trial for trial in with_curve if trial.status != TrialStatus.STOPPED]
    traces, left_out = [], 0
    for trials, name in ((others, "other trials"), (stopped, "stopped early")):
        drawn = thin(sorted(trials, key=lambda trial: trial.metric or 0), _MOST_OTHERS)
        left_out += len(trials) - len(drawn)
        if drawn:
            label = f"{name} ({len(drawn)} of {len(trials)})" if len(drawn) < len(trials) else f"{name} ({len(drawn)})"
            traces += [_grey_lines(data, drawn, label, dash="solid" if trials is others else "dot")]
            traces += _ends(data, drawn)
    for rank, config_id in enumerate(leaders):
        traces += _leader(data, config_id, rank)
    drawn = figure(
        traces,
        height=480,
        xaxis=count_axis("epoch", max(curve[-1][0] for curve in data.curves.values())),
        yaxis=axis(data.board.metric.axis_title),
    )
    notes = ["Bands: lowest to highest seed. ×: the scheduler stopped the trial. Click a legend entry to hide it."]
    if left_out:
        notes.append(
            f"{plural(left_out, 'curve')} of trials that were stopped or rank lower are left out, evenly over their "
            "values; `query curves` has all."
        )
    return [Plot("curves", _finding(data), drawn, tuple(notes))]


def _grey_lines(data: ReportData, trials: Iterable[Trial], name: str, dash: str):
    """All curves as one trace with gaps between them, because a browser needs seconds to draw a thousand traces."""
    x: list[int | None] = []
    y: list[float | None] = []
    text: list[str | None] = []
    digits = data.board.metric.decimals(None) + 1  # more would make the page larger and no curve different
    for trial in trials:
        points = thin(data.curves[trial.trial_id], _MOST_POINTS)
        x += [*(epoch for epoch, _ in points), None]
        y += [*(round(data.shown(value), digits) for _, value in points), None]
        text += [*[data.label_of_trial(trial)] * len(points), None]
    return scatter(
        name=name,
        legendgroup=name,
        legendrank=2000,  # below the leaders
        x=x,
        y=y,
        text=text,
        mode="lines",
        opacity=0.55,
        line={"color": GREY, "width": 1, "dash": dash},
        hovertemplate=f"%{{text}}<br>epoch %{{x}}: %{{y:.3~g}}{data.board.metric.suffix}<extra></extra>",
    )


def _ends(data: ReportData, trials: Iterable[Trial]) -> list:
    """A mark at the last epoch of each trial that did not complete; one trace per status."""
    by_status: dict[str, list[Trial]] = {}
    for trial in trials:
        if trial.status != TrialStatus.COMPLETED:
            by_status.setdefault(trial.status, []).append(trial)
    marks, suffix = [], data.board.metric.suffix
    for status, ended in by_status.items():
        color, symbol, _ = STATUSES.get(status, (GREY, "x", ""))
        name = status.replace("_", " ")
        last = [data.curves[trial.trial_id][-1] for trial in ended]
        marks.append(
            scatter(
                name=name,
                legendrank=2001,
                legendgroup="stopped early" if status == TrialStatus.STOPPED else status,
                showlegend=status != TrialStatus.STOPPED,
                x=[epoch for epoch, _ in last],
                y=[data.shown(value) for _, value in last],
                text=[data.label_of_trial(trial) for trial in ended],
                mode="markers",
                marker={"symbol": symbol, "color": color, "size": 7},
                hovertemplate=f"%{{text}}<br>{name} after epoch %{{x}}: %{{y:.3~g}}{suffix}<extra></extra>",
            )
        )
    return marks


def _leader(data: ReportData, config_id: str, rank: int) -> list:
    """The mean over seeds, and a band from the lowest to the highest seed."""
    color, suffix = PALETTE[rank], data.board.metric.suffix
    curves = [dict(data.curves[t.trial_id]) for t in data.counted(config_id) if t.trial_id in data.curves]
    epochs = thin(sorted(set.intersection(*(set(curve) for curve in curves))), _MOST_POINTS) if curves else []
    if not epochs:
        return []
    values = [[data.shown(curve[epoch]) for curve in curves] for epoch in epochs]
    name = f"{rank + 1}. {escape_html(data.label(config_id))} ({plural(len(curves), 'seed')})"
    group = f"leader-{rank}"
    band = scatter(
        x=[*epochs, *reversed(epochs)],
        y=[*(max(v) for v in values), *(min(v) for v in reversed(values))],
        fill="toself",
        fillcolor=style.band_color(color),
        mode="lines",
        line={"width": 0},
        hoverinfo="skip",
        legendgroup=group,
        showlegend=False,
    )
    mean = scatter(
        name=name,
        legendgroup=group,
        x=epochs,
        y=[sum(v) / len(v) for v in values],
        customdata=[[f"{min(v):.3g} to {max(v):.3g}{suffix}"] if len(v) > 1 else ["one seed"] for v in values],
        mode="lines+markers" if len(epochs) <= 40 else "lines",
        line={"color": color, "dash": style.DASHES[rank], "width": 2.2},
        marker={"symbol": style.SYMBOLS[rank], "size": 6},
        hovertemplate=f"epoch %{{x}}: %{{y:.4~g}}{suffix} (%{{customdata[0]}})<extra>{name}</extra>",
    )
    return [band, mean] if len(curves) > 1 else [mean]


def _finding(data: ReportData) -> str:
    parts = []
    leader, metric = next(iter(data.board.ranked), None), data.board.metric
    if leader is not None and leader.metric_mean is not None:
        parts.append(f"{data.label(leader.config_id)} leads the leaderboard, with {metric.text(leader.metric_mean)}")
    stopped = [trial.epochs_run for trial in data.trials if trial.status == TrialStatus.STOPPED]
    if stopped:
        epoch, count = Counter(stopped).most_common(1)[0]
        when = (
            f"most after epoch {epoch}"
            if 2 * count > len(stopped)
            else f"after {min(stopped)} to {max(stopped)} epochs"
        )
        when = f"after epoch {epoch}" if count == len(stopped) else when
        parts.append(f"{len(stopped):,} of {len(data.trials):,} trials were stopped early, {when}")
    completed = sum(trial.is_completed for trial in data.trials)
    none = f"{plural(len(data.curves), 'trial')} with a curve, {completed or 'none'} completed, no configuration ranked"
    return "; ".join(parts) or none
