"""Timeline: when and on which device each trial ran; trials that ran on one device at the same time are in lanes."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from flexres_tune.analysis.status import FAILURES
from flexres_tune.report.data import ReportData, Trial
from flexres_tune.report.plots.style import GREY, STATUSES, Plot, axis, category_axis, figure, scatter, thin
from flexres_tune.text import escape_html, format_duration, plural

_MOST_TRIALS = 4000
_GAP = 0.0012  # of the whole time, left free after each trial, or two consecutive trials would look like one
_MANY_LANES = 40
_DASHES = {"": "solid", "/": "3px,2px", "x": "1px,1px", "\\": "1px,1px", ".": "2px,1px", "+": "4px,1px", "-": "6px,2px"}


def plot_timeline(data: ReportData) -> list[Plot]:
    """One thick line per trial, from the start of its last attempt to its end; one trace per status, for speed."""
    trials = [trial for trial in data.trials if trial.finished_at >= trial.started_at]
    if len(trials) < 2:
        return []
    lanes = _lanes(trials)
    rows = sorted(set(lanes.values()))
    place = {lane: index for index, lane in enumerate(rows)}
    shown = thin(trials, _MOST_TRIALS)
    gap = _GAP * (max(t.finished_at for t in trials) - min(t.started_at for t in trials))
    traces = []
    for status in dict.fromkeys(trial.status for trial in shown):
        mine = [trial for trial in shown if trial.status == status]
        color, symbol, pattern = STATUSES.get(status, (GREY, "circle", ""))
        x, y, text = [], [], []
        for trial in mine:
            end = max(trial.started_at, trial.finished_at - gap)
            x += [trial.started_at, trial.started_at + (end - trial.started_at) / 2, end, None]
            y += [place[lanes[trial.trial_id, trial.stage]]] * 3 + [None]
            took = format_duration((trial.finished_at - trial.started_at).total_seconds())
            stage = "confirm, " if trial.is_confirm else ""
            text += [f"{data.label_of_trial(trial)}: {stage}{escape_html(status)}, {took}"] * 3 + [None]
        marked = status in FAILURES  # a trial that fails at once is a line without length, so it needs a marker
        traces.append(
            scatter(
                name=f"{escape_html(status.replace('_', ' '))} ({len(mine)})",
                x=[moment and moment.isoformat() for moment in x],
                y=y,
                text=text,
                mode="lines+markers" if marked else "lines",
                line={"color": color, "width": 5 if len(rows) > _MANY_LANES else 16, "dash": _DASHES[pattern]},
                marker={"symbol": symbol, "size": 9, "color": color, "line": {"color": color, "width": 2}},
                hovertemplate="%{text}<extra></extra>",
            )
        )
    drawn = figure(
        traces,
        height=min(1000, 170 + (8 if len(rows) > _MANY_LANES else 26) * len(rows)),
        xaxis=axis("time (UTC)", type="date"),
        yaxis=category_axis("device and lane", _names(rows), range=[len(rows) - 0.4, -0.6]),
    )
    notes = ["A trial that was started more than once shows its last attempt."]
    if odd := len(data.trials) - len(trials):
        notes.append(f"{plural(odd, 'trial')} left out: by the clocks of the machines it ended before it started.")
    if len(shown) < len(trials):
        notes.append(f"{len(trials) - len(shown):,} of {len(trials):,} trials are left out, evenly over time.")
    return [Plot("timeline", _finding(trials), drawn, tuple(notes))]


def _lanes(trials: Sequence[Trial]) -> dict[tuple[str, str], tuple[tuple[str, str], int]]:
    """(trial_id, stage) -> ((host, device), lane): the lowest lane that is free when the trial starts."""
    lanes, busy, free, used = {}, {}, {}, {}
    devices = {trial.hostname: trial.device for trial in trials if trial.device}  # a trial that failed early has none
    for trial in sorted(trials, key=lambda t: t.started_at):
        where = (trial.hostname or "unknown host", trial.device or devices.get(trial.hostname) or "no device")
        ends, idle = busy.setdefault(where, []), free.setdefault(where, [])
        while ends and ends[0][0] <= trial.started_at:
            heapq.heappush(idle, heapq.heappop(ends)[1])
        if not idle:
            used[where] = used.get(where, 0) + 1
            idle.append(used[where])
        lane = heapq.heappop(idle)
        heapq.heappush(ends, (trial.finished_at, lane))
        lanes[trial.trial_id, trial.stage] = (where, lane)
    return lanes


def _names(rows: Sequence[tuple[tuple[str, str], int]]) -> list[str]:
    """Labels of the lanes: the first lane of a device has the device's name."""
    names, last = [], None
    for (host, device), lane in rows:
        names.append(f"{escape_html(host)}<br>{escape_html(device)}" if (host, device) != last else f"lane {lane}")
        last = (host, device)
    return names


def _finding(trials: Sequence[Trial]) -> str:
    """The time from the first start to the last end, pauses between two runs included; nothing about earlier attempts.

    A machine may have several devices of one name, so machines are counted.
    """
    start, end = min(t.started_at for t in trials), max(t.finished_at for t in trials)
    wall = (end - start).total_seconds()
    busy = sum((t.finished_at - t.started_at).total_seconds() for t in trials)
    machines = len({trial.hostname for trial in trials if trial.hostname})
    where = f" on {plural(machines, 'machine')}" if machines else ""
    once = all(trial.attempt == 1 for trial in trials)
    at_once = f"; {busy / wall:.1f} ran at once on average" if wall > 0 and once else ""
    took = f"{format_duration(wall)} from the first start to the last end"
    return f"{plural(len(trials), 'trial')}{where}, {took}{at_once}"
