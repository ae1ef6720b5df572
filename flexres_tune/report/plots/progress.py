"""Best so far: the best value of the metric after each trial, and after each device-hour."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from flexres_tune.records import TrialStatus
from flexres_tune.report.data import ReportData, Trial
from flexres_tune.report.plots.style import (
    GREY,
    PALETTE,
    STATUSES,
    ZOOM_NOTE,
    Plot,
    axis,
    count_axis,
    figure,
    focus,
    scatter,
    thin,
)
from flexres_tune.text import plural

_MOST_MARKS = 250  # trials per status that are drawn although they did not improve on the best


def plot_progress(data: ReportData) -> list[Plot]:
    """Best value of the screening's completed trials, against trials finished and device time spent.

    Confirm trials are left out: they repeat a configuration with other seeds, and the best of more seeds is higher by
    chance.
    """
    screen = [trial for trial in data.trials if not trial.is_confirm]
    if len(screen) < 3 or not any(trial.is_completed for trial in screen):
        return []
    unit, per_hour = ("device-hours", 1.0) if data.device_hours >= 1 else ("device-minutes", 60.0)
    spent, total = [], 0.0
    for trial in screen:
        total += trial.train_seconds / 3600 * per_hour
        spent.append(total)
    counts = list(range(1, len(screen) + 1))
    steps = _steps(screen, data.board.metric.score)
    at = steps[-1]
    best = data.board.metric.text(screen[at].metric)
    share = 100 * (1 - spent[at] / spent[-1]) if spent[-1] else 0
    after = len(screen) - 1 - at
    rest = "no later one that ran to the end was better" if after > 1 else f"{plural(after, 'trial')} came after it"
    left = f"the last {share:.0f} % brought no better one that ran to the end" if after else "it came at the very end"
    by_trial = f"The best of the screening, {best}, came with trial {at + 1:,} of {len(screen):,}; {rest}"
    by_time = f"{best} was reached after {spent[at]:.3g} of {spent[-1]:.3g} {unit}; {left}"
    note = f"Line: best completed trial so far. Grey: trials that did not improve on it; ×: stopped early. {ZOOM_NOTE}"
    return [
        Plot("best-by-trials", by_trial, _draw(data, screen, steps, counts, "trials finished"), (note,)),
        Plot("best-by-time", by_time, _draw(data, screen, steps, spent, f"{unit} spent"), (note,)),
    ]


def _steps(screen: Sequence[Trial], score: Callable[[float], float]) -> list[int]:
    """Indices of the completed trials that improved on the best before them."""
    steps: list[int] = []
    for index, trial in enumerate(screen):
        if trial.is_completed and (not steps or score(trial.metric) > score(screen[steps[-1]].metric)):
            steps.append(index)
    return steps


def _draw(data: ReportData, screen: Sequence[Trial], steps: Sequence[int], at: Sequence[float], title: str):
    metric, traces = data.board.metric, []
    for status, name in ((TrialStatus.STOPPED, "stopped early"), (TrialStatus.COMPLETED, "completed")):
        marked = [i for i, trial in enumerate(screen) if trial.status == status and trial.metric is not None]
        marked = thin([i for i in marked if i not in set(steps)], _MOST_MARKS)
        if marked:
            traces.append(
                scatter(
                    name=name,
                    x=[at[i] for i in marked],
                    y=[data.shown(screen[i].metric) for i in marked],
                    mode="markers",
                    marker={"symbol": STATUSES[status][1] + ("" if status == TrialStatus.STOPPED else "-open"),
                            "color": GREY, "size": 6},
                    hovertemplate=f"%{{y:.3~g}}{metric.suffix}, {name}<extra></extra>",
                )
            )  # fmt: skip
    traces.append(
        scatter(
            name="best so far",
            x=[*(at[i] for i in steps), at[-1]],
            y=[data.shown(screen[i].metric) for i in [*steps, steps[-1]]],
            text=[*(data.label_of_trial(screen[i]) for i in steps), "no change until the end"],
            mode="lines+markers",
            line={"shape": "hv", "color": PALETTE[0], "width": 2.4},
            marker={"symbol": ["circle"] * len(steps) + ["line-ns"], "size": 8},
            hovertemplate=f"%{{y:.4~g}}{metric.suffix}: %{{text}}<extra></extra>",
        )
    )
    limits = focus([data.shown(trial.metric) for trial in screen if trial.is_completed], metric.is_maximized)
    return figure(
        traces,
        height=330,
        xaxis=axis(title, rangemode="tozero") if title.endswith("spent") else count_axis(title, at[-1]),
        yaxis=axis(metric.axis_title, range=limits),
    )
