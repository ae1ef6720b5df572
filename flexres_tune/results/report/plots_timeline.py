"""Timeline: when each trial ran, on which device; trials that share a device stand in lanes below each other."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from flexres_tune.results.cells import format_duration
from flexres_tune.results.report.data import ReportData, Trial, plural
from flexres_tune.results.report.plot import Plot, thin
from flexres_tune.results.report.style import GREY, STATUSES, figure, plain

_MOST_BARS = 800


def plot_timeline(data: ReportData) -> list[Plot]:
    """A bar a trial from its last attempt's start to its end."""
    import plotly.graph_objects as go

    trials = [trial for trial in data.trials if trial.finished_at >= trial.started_at]
    if len(trials) < 2:
        return []
    shown = thin(trials, _MOST_BARS)
    lanes = _lanes(shown)
    rows = sorted(set(lanes.values()))
    place = {lane: index for index, lane in enumerate(rows)}
    traces = []
    for status in dict.fromkeys(trial.status for trial in shown):
        mine = [trial for trial in shown if trial.status == status]
        color, _, pattern = STATUSES.get(status, (GREY, "", ""))
        traces.append(
            go.Bar(
                name=f"{status.replace('_', ' ')} ({len(mine)})",
                orientation="h",
                base=[trial.started_at.isoformat() for trial in mine],
                x=[
                    1000 * (trial.finished_at - trial.started_at).total_seconds() for trial in mine
                ],  # ms on a date axis
                y=[place[lanes[trial.trial_id, trial.stage]] for trial in mine],
                width=0.82,
                marker={
                    "color": color,
                    "line": {"width": 0},
                    "pattern": {"shape": pattern, "size": 6, "solidity": 0.25},
                },
                text=[_hover(data, trial) for trial in mine],
                textposition="none",
                hovertemplate="%{text}<extra></extra>",
            )
        )
    many = len(rows) > 40
    drawn = figure(
        traces,
        height=min(900, 170 + (8 if many else 26) * len(rows)),
        barmode="overlay",
        xaxis={"type": "date", "title": {"text": "time (UTC)"}},
        yaxis={
            "title": {"text": "device and lane"},
            "tickvals": list(range(len(rows))),
            "ticktext": _names(rows),
            "range": [len(rows) - 0.4, -0.6],
            "showgrid": False,
        },
        bargap=0,
    )
    notes = ["A trial that was started more than once shows its last attempt."]
    if len(shown) < len(trials):
        notes.append(f"{len(trials) - len(shown):,} of {len(trials):,} trials are left out, evenly over time.")
    return [Plot("timeline", _finding(trials), drawn, tuple(notes))]


def _where(trial: Trial) -> tuple[str, str]:
    return trial.hostname or "unknown host", trial.device or "no device"


def _lanes(trials: Sequence[Trial]) -> dict[tuple[str, str], tuple[tuple[str, str], int]]:
    """(trial_id, stage) -> (place, lane): the lowest lane that is free when the trial starts."""
    lanes, busy, free, used = {}, {}, {}, {}
    hosts = {trial.hostname: trial.device for trial in trials if trial.device}  # a trial that failed at once has none
    for trial in sorted(trials, key=lambda t: t.started_at):
        where = (trial.hostname or "unknown host", trial.device or hosts.get(trial.hostname) or "no device")
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
    """Each device named at its first lane."""
    names, last = [], None
    for (host, device), lane in rows:
        names.append(f"{plain(host)}<br>{plain(device)}" if (host, device) != last else f"lane {lane}")
        last = (host, device)
    return names


def _hover(data: ReportData, trial: Trial) -> str:
    took = format_duration((trial.finished_at - trial.started_at).total_seconds())
    stage = "confirm, " if trial.is_confirm else ""
    return plain(f"{data.label(trial.config_id)}, seed {trial.seed}: {stage}{trial.status}, {took}")


def _finding(trials: Sequence[Trial]) -> str:
    start, end = min(t.started_at for t in trials), max(t.finished_at for t in trials)
    wall = (end - start).total_seconds()
    busy = sum((t.finished_at - t.started_at).total_seconds() for t in trials)
    places = len({_where(trial) for trial in trials if trial.device}) or 1
    at_once = f"; {busy / wall:.1f} ran at once on average" if wall > 0 else ""
    return f"{plural(len(trials), 'trial')} in {format_duration(wall)} on {plural(places, 'device')}{at_once}"
