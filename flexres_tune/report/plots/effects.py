"""Effect of each parameter: the metric by its values over completed trials, and how many more were stopped."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import replace

from flexres_tune.analysis.leaderboard import BoardRow
from flexres_tune.effects.pairs import pair_up, paired_effect
from flexres_tune.effects.parameters import SHARED, Effect, parameter_effects
from flexres_tune.records import TrialStatus
from flexres_tune.report.data import ReportData, spaced, value_text
from flexres_tune.report.plots import style
from flexres_tune.report.plots.axes import ParameterAxis, hashable, parameter_axis
from flexres_tune.report.plots.style import GREY, PALETTE, Plot, axis, category_axis, figure, focus, scatter
from flexres_tune.text import escape_html, join_words, plural

_MOST_PLOTS = 8
_MOST_POINTS = 300


def plot_effects(data: ReportData) -> list[Plot]:
    """One plot per parameter that has at least two values among the completed trials, in the order of the columns."""
    plots, left_out = [], []
    for name in data.board.parameters:
        values = [hashable(trial.parameters[name]) for trial in data.completed]
        if len(set(values)) < 2:
            continue
        if len(plots) == _MOST_PLOTS:
            left_out.append(name)
            continue
        place = parameter_axis(name, values)
        plot = _few_values(data, name) if place.kind == "category" else _many_values(data, place)
        plots += [plot] if plot else []
    if left_out and plots:
        note = f"Left out: {', '.join(map(spaced, left_out))}; `query compare NAME` shows them."
        plots[-1] = replace(plots[-1], notes=(*plots[-1].notes, note))
    return plots


def _few_values(data: ReportData, name: str) -> Plot | None:
    """One category per value: its configurations as points, their mean with an interval, a count of stopped trials."""
    metric = data.board.metric
    effects = parameter_effects(data.results, data.sweep, name)
    table = [row for row in effects if row.dataset == data.board.dataset]
    rows = [row for row in table if row.num_configs]
    if len(rows) < 2:
        return None
    place = {hashable(row.parameters[name]): index for index, row in enumerate(rows)}
    # The row of the leaderboard lacks a parameter that another one implies, so the value is read from a trial.
    valued = [(data.by_config[row.config_id][0].parameters[name], row) for row in data.board.rows]
    configs = [(place.get(hashable(value)), row) for value, row in valued if row.rank is not None]
    points = style.thin(
        [(at, row) for at, row in configs if at is not None and row.metric_mean is not None], _MOST_POINTS
    )
    averaged = [row for row in rows if row.metric_mean is not None]
    averaged = averaged if len(averaged) > 1 else []  # a single mean compares nothing
    means = [data.shown(row.metric_mean) for row in averaged]
    _, reaches = style.error_bars(averaged, metric.factor)
    limits = focus([data.shown(row.metric_mean) for _, row in points], metric.is_maximized, means, reaches)
    endless = [row for row in averaged if _covers(data, row, limits)]
    bars, _ = style.error_bars(
        [replace(r, metric_low=None, metric_high=None) if r in endless else r for r in averaged], metric.factor
    )
    is_ordered = all(type(row.parameters[name]) in (int, float) for row in rows)
    traces = [
        scatter(
            name="one configuration",
            x=[i + 0.16 for i, _ in points],
            y=[data.shown(row.metric_mean) for _, row in points],
            text=[escape_html(f"{data.label(row.config_id)}, n = {row.num_seeds}") for _, row in points],
            mode="markers",
            marker={"symbol": "circle-open", "size": 6, "color": GREY},
            hovertemplate=f"%{{text}}: %{{y:.4~g}}{metric.suffix}<extra></extra>",
        ),
        scatter(
            name="mean and 95 % interval",
            x=[rows.index(row) for row in averaged],
            y=means,
            mode="lines+markers" if is_ordered else "markers",
            line={"color": PALETTE[0], "width": 1.5, "dash": "dot"},
            marker={"symbol": "diamond", "size": 9, "color": PALETTE[0]},
            error_y=bars,
            text=[_hover(row) for row in averaged],
            hovertemplate=f"mean %{{y:.4~g}}{metric.suffix} over %{{text}}<extra></extra>",
        ),
    ]
    drawn = figure(
        traces,
        height=360,
        xaxis=category_axis(spaced(name), [_tick(row, name) for row in rows], range=[-0.5, len(rows) - 0.4]),
        yaxis=axis(metric.ranking_axis_title, range=limits),
    )
    notes = _notes(table, name, {row.mean_over for row in averaged})
    if endless:
        values = ", ".join(value_text(name, row.parameters[name]) for row in endless[:8])
        notes = (*notes, f"No interval is drawn for {values}: from so few runs it is wider than the plot.")
    return Plot(f"effect-{name}", _finding(data, name, valued), drawn, notes)


def _covers(data: ReportData, row: Effect, limits: Sequence[float]) -> bool:
    """Whether the interval of a mean extends beyond the plot on both sides, so that its bar would show nothing."""
    if row.metric_low is None or row.metric_high is None:
        return False
    return data.shown(row.metric_low) < limits[0] and data.shown(row.metric_high) > min(limits[1], 100)


def _many_values(data: ReportData, place: ParameterAxis) -> Plot:
    """One point per trial; trials that were stopped are crosses."""
    metric, name = data.board.metric, place.name
    stopped = [trial for trial in data.trials if trial.status == TrialStatus.STOPPED and trial.metric is not None]
    traces = []
    for trials, label, marker in (
        (stopped, "stopped early", {"symbol": "x", "color": GREY}),
        (data.completed, "completed", {"symbol": "circle", "color": PALETTE[0], "opacity": 0.75}),
    ):
        values = [(trial.parameters[name], trial) for trial in trials]
        some = style.thin([t for v, t in values if v is not None and (place.kind != "log" or v > 0)], _MOST_POINTS)
        if some:
            traces.append(
                scatter(
                    name=label,
                    x=[trial.parameters[name] for trial in some],
                    y=[data.shown(trial.metric) for trial in some],
                    text=[data.label_of_trial(trial) for trial in some],
                    mode="markers",
                    marker={"size": 6} | marker,
                    hovertemplate=f"%{{text}}: %{{y:.4~g}}{metric.suffix}<extra></extra>",
                )
            )
    title = spaced(name) + (" (log scale)" if place.kind == "log" else "")
    ticks = {"dtick": 1, "exponentformat": "power"} if place.kind == "log" else {}
    limits = focus([data.shown(trial.metric) for trial in data.completed], metric.is_maximized)
    drawn = figure(
        traces,
        height=360,
        xaxis=axis(title, type=place.kind, **ticks),
        yaxis=axis(metric.ranking_axis_title, range=limits),
    )
    best = sorted(data.completed, key=lambda trial: -metric.score(trial.metric))[: max(2, len(data.completed) // 10)]
    values = sorted(trial.parameters[name] for trial in best)
    finding = (
        f"{spaced(name)}: the best {len(best)} of the {len(data.completed):,} completed trials are between {values[0]:.3g} "
        f"and {values[-1]:.3g}"
    )
    notes = [style.ZOOM_NOTE]
    if left_out := len(stopped) + len(data.completed) - sum(len(trace.x) for trace in traces):
        notes.append(f"{left_out:,} trials are left out, evenly over time.")
    return Plot(f"effect-{name}", finding, drawn, tuple(notes))


def _hover(row: Effect) -> str:
    over = plural(row.num_averaged, "configuration")
    interval = f"; interval over {row.interval_over}" if row.interval_over else "; no interval"
    return f"{over}{interval}; {row.num_stopped + row.num_paused} trials of this value were stopped or paused"


def _tick(row: Effect, name: str) -> str:
    text = escape_html(value_text(name, row.parameters[name]))
    if len(text) > 12:  # break a long list of words into lines, or the labels leave a phone no room for the plot
        text = text.replace("+", "+<br>")
    counts = ((row.num_stopped, "stopped"), (row.num_paused, "paused"))
    ended = "".join(f"<br>{count} {word}" for count, word in counts if count)
    return f"{text}<br>n = {row.num_configs}{ended}"


def _notes(table: Sequence[Effect], name: str, over: Set[str | None]) -> tuple[str, ...]:
    """What the plot shows, and what it does not; `over`: what the means in it are over."""
    shared = "configurations whose partners with each other value ran to the end as well"
    notes = ["n: configurations whose trials all ran to the end."]
    if over:
        which = shared if over == {SHARED} else "all configurations of a value, if all of them ran to the end"
        notes.append(f"Means are over {which}; their intervals include the effect of the other parameters.")
    else:
        notes.append("There is no mean, because it would be one of what the search has kept.")
    without = [row for row in table if not row.num_configs]
    if without:
        shown = ", ".join(value_text(name, row.parameters[name]) for row in without[:8])
        names = ("num_stopped", "num_paused", "num_failed")
        stopped, paused, failed = (sum(getattr(row, each) for row in without) for each in names)
        counts = ((stopped, "trials stopped early"), (paused, "paused"), (failed, "failed or diverged"))
        listed = ", ".join(f"{count} {words}" for count, words in counts if count)
        notes.append(f"None for {shown}{' ...' if len(without) > 8 else ''} ({listed}).")
    return tuple(notes)


def _finding(data: ReportData, name: str, rows: Sequence[tuple[object, BoardRow]]) -> str:
    """What the parameter does, over configurations that differ in nothing else; `rows` are all of the leaderboard."""
    metric, title = data.board.metric, spaced(name)
    pairs = pair_up(rows, name, metric)
    found = paired_effect(pairs)
    if found is None:
        unknown = sum(each.num_only_one for each in pairs.values())
        more = f"; of {plural(unknown, 'pair')} only one did" if unknown else ""
        return (
            f"{title}: no two configurations that ran to the end differ in it alone, so it has no effect to show{more}"
        )
    better, worse = value_text(name, found.better), value_text(name, found.worse)
    has_interval = found.low is not None and found.high is not None
    digits = metric.decimals((found.high - found.low) / 4 if has_interval else None)
    gap = f"{data.shown(found.difference):.{digits}f} {metric.difference}"
    more = ""
    if found.num_only_better or found.num_only_worse:
        counts = ((found.num_only_better, better), (found.num_only_worse, worse))
        only = join_words([f"{value} in {count}" for count, value in counts if count], "and")
        further = plural(found.num_only_better + found.num_only_worse, "further pair")
        more = f"; of {further} only one ran to the end, {only}"
    if not has_interval:
        return (
            f"{title}: {better} is {gap} {metric.better_side} {worse} in the one pair of configurations that differ in "
            f"nothing else{more}; the leaderboard says whether seeds could explain it"
        )
    over = f"over {found.num_pairs} pairs of configurations that differ in nothing else"
    interval = f"95 % interval {data.shown(found.low):z.{digits}f} to {data.shown(found.high):z.{digits}f}"
    if found.low <= 0:
        return f"{title}: no effect is shown {over}; {better} is {gap} {metric.better_side} {worse} ({interval}){more}"
    return f"{title}: {better} is {gap} {metric.better_side} {worse} {over} ({interval}){more}"
