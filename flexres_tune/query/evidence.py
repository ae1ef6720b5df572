"""Answers that weigh evidence: compare, equal-cost, pareto, decisions, stops, diff and importance."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import pyarrow as pa

from flexres_tune.analysis.answer import answer_of
from flexres_tune.analysis.decisions import ExplainedDecision, explain_decisions
from flexres_tune.analysis.diff import Difference, diff
from flexres_tune.analysis.early_stops import RungStops, StoppedTrial, stopped_trials, stops_by_rung
from flexres_tune.analysis.leaderboard import Board, comparison_problems, distinct, leaderboards, precision_problem
from flexres_tune.analysis.metric import RankingMetric, metric_of
from flexres_tune.analysis.rows import concatenate, to_table
from flexres_tune.display.format import format_p_value, format_percent, format_value, significant_decimals
from flexres_tune.display.render import Section
from flexres_tune.effects.cost import BestAtBudget, FrontPoint, equal_cost, pareto
from flexres_tune.effects.importance import Importance, parameter_importance
from flexres_tune.effects.parameters import SHARED, Effect, parameter_effects, sort_key
from flexres_tune.errors import ResultsError
from flexres_tune.predictions.behind_leader import behind_leader
from flexres_tune.query.answers import behind_section
from flexres_tune.query.output import Answer
from flexres_tune.records import TrialStatus
from flexres_tune.results.reader import Results
from flexres_tune.results.schema import with_units
from flexres_tune.text import format_duration, plural

Row = TypeVar("Row")
SD_NOTE = "the number after ± is the standard deviation"


def answer_compare(results: Results, sweep: str | None, parameter: str, by: str | None, limit: int | None) -> Answer:
    """The effect of one parameter, one section per sweep and data set; with `by` a grid of the two."""
    tables, sections = [], []
    for name, effects in _answerable(results, sweep, lambda name: parameter_effects(results, name, parameter, by)):
        metric, columns = metric_of(results, name), list(effects[0].parameters)  # block for model.block
        tables.append(to_table(Effect, effects, columns, metric))
        answer = answer_of(results, name)
        is_question = list(answer.compare) == columns
        for dataset, group in _by_dataset(effects):
            table = _effect_table(group, columns[0], metric) if by is None else _grid(group, *columns, metric)
            notes = _effect_notes(group, by, metric)
            sections.append(
                Section(
                    table,
                    title=f"{' by '.join(columns)} in {name} on {dataset}",
                    best_row=_best(group) if by is None else None,
                    notes=notes,
                    uncut=table.column_names[1:],
                    lists_rows=by is None,
                )
            )
            if is_question and dataset == answer.board.dataset:  # the best of each value, against the leader
                sections += behind_section(behind_leader(results, answer))
    return Answer(concatenate(tables), sections).limited(limit)


def _answerable(results: Results, sweep: str | None, ask: Callable[[str], list[Row]]) -> list[tuple[str, list[Row]]]:
    """(sweep, answer) of the sweeps that have one; if none has, the first one's reason is raised."""
    found, reasons = [], []
    for name in results.choose(sweep):
        try:
            found.append((name, ask(name)))
        except ResultsError as error:
            reasons.append(error)
    if not found:
        raise reasons[0]
    return found


def _by_dataset(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.dataset, []).append(row)
    return list(groups.items())


def _parameters(rows: Iterable[Row]) -> list[str]:
    """Names of the parameters of all rows, each once."""
    return list(dict.fromkeys(name for row in rows for name in row.parameters))


def _effect_table(effects: Sequence[Effect], parameter: str, metric: RankingMetric) -> pa.Table:
    table = to_table(Effect, effects, [parameter], metric)
    counts = ["num_configs", "num_trials"]
    for name in ("num_stopped", "num_paused", "num_incomplete", "num_failed"):
        counts += [name] if any(getattr(effect, name) for effect in effects) else []
    precisions = distinct(effect.precision_used for effect in effects)
    counts += ["precision_used"] if len(precisions) > 1 else []
    texts = _pair_columns(effects, metric) if any(effect.num_pairs for effect in effects) else {}
    intervals = [metric.interval(effect.metric_low, effect.metric_high) for effect in effects]
    names = [parameter, *texts]
    if any(effect.metric_mean is not None for effect in effects):
        texts |= {"interval_95_%": intervals}
        names += [f"{metric.column}_mean", f"{metric.column}_sd", "interval_95_%"]
    names += [f"{metric.extreme}_{metric.name}", *counts]
    fields = [pa.field(name, pa.string()) if name in texts else table.schema.field(name) for name in names]
    columns = [pa.array(texts[name], pa.string()) if name in texts else table[name] for name in names]
    return pa.Table.from_arrays(columns, schema=pa.schema(fields))


def _pair_columns(effects: Sequence[Effect], metric: RankingMetric) -> dict[str, list[str | None]]:
    """The difference to the value of the leaderboard's first configuration, its interval, and the number of pairs."""
    texts: dict[str, list[str | None]] = {"better_by": [], "interval_of_that": [], "num_pairs": []}
    for effect in effects:
        known = effect.better_by is not None
        texts["better_by"].append(f"{metric.gap(effect.better_by)} {metric.difference}" if known else None)
        texts["interval_of_that"].append(metric.gap_interval(effect.better_by_low, effect.better_by_high))
        texts["num_pairs"].append(None if effect.num_pairs is None else str(effect.num_pairs))
    return texts


def _grid(effects: Sequence[Effect], parameter: str, by: str, metric: RankingMetric) -> pa.Table:
    """One row per value of `parameter`, one column per value of `by`: mean, and sd if there is one."""
    cells: dict[str, dict[str, str]] = {}
    for effect in effects:
        mean = "" if effect.metric_mean is None else metric.text(effect.metric_mean, effect.metric_sd)
        counts = ((effect.num_stopped, "stopped"), (effect.num_paused, "paused"))
        ended = ", ".join(f"{count} {word}" for count, word in counts if count)
        text = f"{mean} ({ended})" if mean and ended else mean or ended
        row = cells.setdefault(format_value(effect.parameters[parameter]), {})
        row[format_value(effect.parameters[by])] = text
    values = sorted((effect.parameters[by] for effect in effects), key=sort_key)
    columns = {parameter: list(cells)}
    columns |= {f"{by}={text}": [row.get(text) for row in cells.values()] for text in map(format_value, values)}
    return pa.table({name: pa.array(texts, pa.string()) for name, texts in columns.items()})


def _effect_notes(effects: Sequence[Effect], by: str | None, metric: RankingMetric) -> tuple[str, ...]:
    notes = [
        *_notes_on_means(effects, by),
        *((SD_NOTE,) if by is not None else ()),
        *(_notes_on_pairs(effects, metric) if by is None else ()),
    ]
    if incomplete := sum(effect.num_incomplete for effect in effects):
        notes.append(
            f"{plural(incomplete, 'configuration')} ran to the end with some seeds only, so they have no mean; "
            "query leaderboard shows what their completed seeds reached"
        )
    precisions = distinct(effect.precision_used for effect in effects)
    if len(precisions) == 1:
        notes.append(f"all were trained in {precisions[0]}")
    elif precisions and "precision" not in effects[0].parameters:
        notes.append(precision_problem(precisions))
    return tuple(notes)


def _notes_on_means(effects: Sequence[Effect], by: str | None) -> list[str]:
    """What the means are over, and what has none."""
    over = {effect.mean_over for effect in effects} - {None}
    if not over:
        return [
            "no mean is shown: what ran to the end is what the search kept, and no values share all other parameters"
        ]
    shared = "configurations whose partners with each other value ran to the end as well"
    notes = [f"means are over {shared if over == {SHARED} else 'all configurations of a value'}"]
    if any(effect.num_configs and effect.metric_mean is None for effect in effects):
        notes.append("a value has no mean if some of its configurations did not run to the end")
    ways = sorted({effect.interval_over for effect in effects if effect.interval_over})
    if by is None and ways:
        notes.append(f"mean ± sd and 95 % interval are over {', or for one configuration, over '.join(ways)}")
    elif by is None:
        notes.append("every mean is of one configuration and one seed: no interval")
    return notes


def _notes_on_pairs(effects: Sequence[Effect], metric: RankingMetric) -> list[str]:
    """What the differences are, and which pairs have none because only one of the two ran to the end."""
    compared = [effect for effect in effects if effect.compared_with is not None]
    if not compared:
        return []
    (parameter,), reference = compared[0].parameters, compared[0].compared_with
    further = "further " if any(effect.num_pairs for effect in compared) else ""
    if further:
        notes = [
            f"better by: {metric.difference} by which a value is better than {reference}, which the leaderboard's first "
            f"configuration has, over pairs that differ in {parameter} alone; the intervals hold together"
        ]
    else:
        notes = [
            f"no configuration that ran to the end differs in {parameter} alone from one with {reference}, which the "
            "leaderboard's first configuration has, so no effect is shown"
        ]
    ours, others = (sum(getattr(effect, name) for effect in compared) for name in ("num_only_other", "num_only_this"))
    if ours or others:
        notes.append(
            f"of {plural(ours + others, further + 'pair')} only one of the two ran to the end: the one with {reference} in "
            f"{ours}, the one with the other value in {others}"
        )
    return notes


def _best(effects: Sequence[Effect]) -> int | None:
    """The value of the leaderboard's first configuration."""
    if all(effect.compared_with is None for effect in effects):
        return None
    return next((index for index, effect in enumerate(effects) if effect.compared_with is None), None)


def answer_equal_cost(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """The best configuration per budget, in epochs and in device-seconds per trial."""
    tables, sections = [], []
    for name in results.choose(sweep):
        boards = leaderboards(results, name)
        best, metric = equal_cost(results, name, boards), boards[0].metric
        problems = _problems(boards)
        tables.append(to_table(BestAtBudget, best, _parameters(best), metric))
        for dataset, rows in _by_dataset(best):
            for budget_of in ("epochs", "device_seconds"):
                some = [row for row in rows if row.budget_of == budget_of]
                table = to_table(BestAtBudget, some, _parameters(rows), metric)
                table = table.drop_columns(["sweep", "dataset", "budget_of"])
                table = table.rename_columns({"budget": f"at_most_{budget_of}"})
                sections.append(
                    Section(
                        with_units(table, {"at_most_device_seconds": "s"}),
                        title=f"{name} on {dataset}: the best at equal {budget_of.replace('_', '-')}",
                        notes=(*problems[dataset], _completed_note(results, name))
                        if budget_of == "device_seconds"
                        else problems[dataset],
                        least_important=("config_id", "num_configs", "num_seeds"),
                        lists_rows=True,
                    )
                )
    return Answer(concatenate(tables), sections).limited(limit)


def answer_pareto(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """Two fronts per data set: accuracy against parameters, and against device-seconds."""
    tables, sections = [], []
    for name in results.choose(sweep):
        boards = leaderboards(results, name)
        points, metric = pareto(results, name, boards), boards[0].metric
        problems = _problems(boards)
        tables.append(to_table(FrontPoint, points, _parameters(points), metric))
        for dataset, rows in _by_dataset(points):
            for cost, words in (("num_parameters", "parameters"), ("device_seconds_per_trial", "device-seconds")):
                front = [row for row in rows if row.against == cost]
                table = to_table(FrontPoint, front, _parameters(rows), metric)
                table = table.drop_columns(["sweep", "dataset", "against"])
                table = table.rename_columns({"device_seconds_per_trial": "seconds"})
                measured = "accuracy" if metric.is_maximized else metric.words
                better = "as accurate" if metric.is_maximized else "as good"
                sections.append(
                    Section(
                        table,
                        title=f"{name} on {dataset}: {measured} against {words}; no cheaper configuration is {better}",
                        best_row=len(front) - 1,
                        notes=(*problems[dataset], _completed_note(results, name))
                        if cost == "device_seconds_per_trial"
                        else problems[dataset],
                        least_important=("config_id", "num_seeds"),
                        lists_rows=True,
                    )
                )
    return Answer(concatenate(tables), sections).limited(limit)


def _problems(boards: Sequence[Board]) -> dict[str | None, tuple[str, ...]]:
    """Per data set, what its configurations differ in besides their parameters."""
    return {board.dataset: tuple(comparison_problems(board)) for board in boards}


def _completed_note(results: Results, sweep: str) -> str:
    statuses = results.trials(sweep)["status"].to_pylist()
    num_completed = statuses.count(TrialStatus.COMPLETED)
    return f"{num_completed} trials ran to the end, {len(statuses) - num_completed} did not"


def answer_stops(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """One row per stopped trial; on a terminal, first one row per rung."""
    tables, sections = [], []
    for name in results.choose(sweep):
        stopped, varied = stopped_trials(results, name)
        table = to_table(StoppedTrial, stopped, varied)
        tables.append(table)
        trials = results.trials(name)
        spent = sum(trials["train_seconds"].drop_null().to_pylist())
        saved = sum(trial.saved_device_seconds for trial in stopped)
        note = (
            f"{len(stopped)} of {trials.num_rows} trials were stopped; that saved about {format_duration(saved)} of "
            f"device time, and {format_duration(spent)} was spent"
        )
        rungs = to_table(RungStops, stops_by_rung(stopped))
        sections.append(
            Section(
                rungs,
                title=f"{name}: stopped trials per rung",
                notes=(note,),
                least_important=("ladder", "lowest_cutoff"),
            )
        )
        if stopped:
            shown = table.drop_columns(["sweep"]).rename_columns({"value": "val_accuracy"})
            title, least = f"{name}: stopped trials", ("ladder", "budget", "rung")
            sections.append(Section(shown, title=title, least_important=least, lists_rows=True))
    return Answer(concatenate(tables), sections).limited(limit)


def answer_decisions(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """Why each trial was continued, stopped, paused, promoted or given a further run."""
    tables, sections = [], []
    for name in results.choose(sweep):
        decisions, varied = explain_decisions(results, name)
        tables.append(to_table(ExplainedDecision, decisions, varied))
        counts = Counter(each.action for each in decisions)
        shown = tables[-1].select([*varied, "action", "epoch", "reason", "trial_id", "ladder"])
        sections.append(
            Section(
                shown,
                title=f"{name}: decisions, in the order in which they were made",
                notes=(", ".join(f"{count} {action}" for action, count in counts.items()) or "no decision was made",),
                least_important=("ladder", "trial_id", "epoch"),
                sentences="reason",
                lists_rows=True,
            )
        )
    return Answer(concatenate(tables), sections).limited(limit)


def answer_diff(results: Results, sweep: str | None, a: str, b: str, limit: int | None) -> Answer:
    """What differs between two configurations or two sweeps."""
    differences = diff(results, a, b, sweep)
    settings = [each for each in differences if each.kind == "setting"]
    outcomes = [each for each in differences if each.kind == "result"]
    return Answer(
        to_table(Difference, differences).slice(0, limit),
        [
            Section(
                _texts(
                    {
                        "setting": [each.what for each in settings],
                        "a": [each.a for each in settings],
                        "b": [each.b for each in settings],
                    }
                ),
                title=f"Settings that differ: a = {a}, b = {b}",
            ),
            Section(
                _texts(
                    {
                        "result": [each.what for each in outcomes],
                        "a": [_mean_of(each.a_mean, each.a_n, each.unit) for each in outcomes],
                        "b": [_mean_of(each.b_mean, each.b_n, each.unit) for each in outcomes],
                        "difference": [_difference(each) for each in outcomes],
                    }
                ),
                title="Results that differ",
                uncut=("a", "b", "difference"),
            ),
        ],
    )


def _texts(columns: dict[str, list[str | None]]) -> pa.Table:
    return pa.table({name: pa.array(texts, pa.string()) for name, texts in columns.items()})


def _mean_of(mean: float, n: int | None, unit: str) -> str:
    return format_value(mean, unit) + ("" if n is None else f" (n = {n})")


def _difference(row: Difference) -> str:
    """The difference, of accuracies in points, with its interval and p value if there are any."""
    is_accuracy = row.unit == "fraction"
    scale, unit = (100, " points") if is_accuracy else (1, " s" if row.unit == "s" else "")
    if row.low is None or row.high is None:
        reason = {"none": " (one seed)", "exact": f" (no spread, {format_p_value(row.p_value or 1)})"}
        return f"{scale * row.difference:+z.{1 if is_accuracy else 2}f}{unit}{reason.get(row.test, '')}"
    decimals = significant_decimals((row.high - row.low) / 4) if is_accuracy else 2
    interval = f"{scale * row.low:z.{decimals}f} to {scale * row.high:z.{decimals}f}"
    return f"{scale * row.difference:+z.{decimals}f}{unit} ({interval}, {format_p_value(row.p_value)}, {row.test})"


def answer_importance(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """fANOVA's importance of each parameter that varies."""
    tables, sections = [], []
    for name, importances in _answerable(results, sweep, lambda name: parameter_importance(results, name)):
        tables.append(to_table(Importance, importances))
        first = importances[0]
        shares = [
            format_percent(each.importance_mean, 0)
            if each.importance_sd is None
            else f"{100 * each.importance_mean:.0f} ± {format_percent(each.importance_sd, 0)}"
            for each in importances
        ]
        table = _texts({"parameter": [each.parameter for each in importances], "share_of_variance": shares})
        note = (
            f"fANOVA over {first.num_trials} trials that ran to the end ({first.num_left_out} others left out); ± is "
            f"the spread over {first.repeats} random forests, not over other trials"
        )
        title = f"{name} on {first.dataset}"
        sections.append(Section(table, title=title, best_row=0, notes=(note,), lists_rows=True))
    return Answer(concatenate(tables), sections).limited(limit)
