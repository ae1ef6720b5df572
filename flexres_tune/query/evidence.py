"""Answers of the query commands that weigh evidence: compare, equal-cost, pareto, stops, diff and importance."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.cost import equal_cost, pareto
from flexres_tune.analysis.diff import diff
from flexres_tune.analysis.early_stops import stopped_trials, stops_by_rung
from flexres_tune.analysis.effects import parameter_effect
from flexres_tune.analysis.importance import parameter_importance
from flexres_tune.display.format import format_p_value, format_value, significant_decimals
from flexres_tune.display.render import Section
from flexres_tune.errors import ResultsError
from flexres_tune.query.views import Answer
from flexres_tune.records import TrialStatus
from flexres_tune.results.reader import Results
from flexres_tune.text import format_duration


def answer_compare(results: Results, sweep: str | None, parameter: str, by: str | None = None) -> Answer:
    """The effect of one parameter, a section a sweep and data set; with `by` a grid of the two."""
    tables, sections = [], []
    for name, table in _answering(results, sweep, lambda name: parameter_effect(results, name, parameter, by)):
        tables.append(table)
        for dataset in table["dataset"].unique().to_pylist():
            rows = table.filter(pc.equal(table["dataset"], dataset))
            section = _effect(rows, parameter) if by is None else _grid(rows, parameter, by)
            title = f"{parameter}{f' by {by}' if by else ''} in {name} on {dataset}"
            uncut = section.column_names[1:]
            best = None if by else _best(rows)
            sections.append(Section(section, title, best, _effect_notes(rows, by), uncut=uncut))
    return Answer(pa.concat_tables(tables, promote_options="permissive"), sections)


def _answering(results: Results, sweep: str | None, ask: Callable[[str], pa.Table]) -> list[tuple[str, pa.Table]]:
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


def _effect(rows: pa.Table, parameter: str) -> pa.Table:
    lows, highs = (rows[f"best_val_accuracy_{side}"].to_pylist() for side in ("low", "high"))
    intervals = [_interval(low, high) for low, high in zip(lows, highs, strict=True)]
    columns = ["best_val_accuracy_mean", "best_val_accuracy_sd", "highest_val_accuracy", "num_configs", "num_trials"]
    shown = rows.select([parameter, *columns, "num_stopped", "num_failed"])
    shown = shown.add_column(3, "interval_95_%", pa.array(intervals, pa.string()))
    empty = {"num_failed"} if not any(rows["num_failed"].to_pylist()) else set()
    return shown.select([name for name in shown.column_names if name not in empty])


def _grid(rows: pa.Table, parameter: str, by: str) -> pa.Table:
    """A row a value of `parameter`, a column a value of `by`: mean, and sd where there is one."""
    cells: dict[str, dict[str, str]] = {}
    columns: dict[str, None] = {}
    for row in sorted(rows.to_pylist(), key=lambda row: _place(row[by])):
        columns[format_value(by, row[by])] = None
    for row in rows.to_pylist():
        text = _mean(row["best_val_accuracy_mean"], row["best_val_accuracy_sd"])
        if row["num_stopped"]:
            text += f" ({row['num_stopped']} stopped)" if text else f"{row['num_stopped']} stopped"
        cells.setdefault(format_value(parameter, row[parameter]), {})[format_value(by, row[by])] = text
    table = {parameter: list(cells)}
    table |= {f"{by}={column}": [row.get(column) for row in cells.values()] for column in columns}
    return pa.table({name: pa.array(values, pa.string()) for name, values in table.items()})


def _place(value: object) -> tuple:
    return (1, 0.0, str(value)) if not isinstance(value, int | float) else (0, value, "")


def _effect_notes(rows: pa.Table, by: str | None) -> tuple[str, ...]:
    over = {value for value in rows["interval_over"].to_pylist() if value}
    notes = ["only configurations whose trials all ran to the end; those that were stopped or failed stand beside"]
    if by is None and over:
        notes.append(f"mean ± sd and 95 % interval over {' or, where there is one alone, over '.join(sorted(over))}")
    elif by is None:
        notes.append("one configuration and seed a value: no interval")
    return tuple(notes)


def answer_equal_cost(results: Results, sweep: str | None) -> Answer:
    """The best at each budget, in epochs and in device-seconds a trial."""
    tables, sections = [], []
    for name in results.choose(sweep):
        table = equal_cost(results, name)
        tables.append(table)
        for dataset in table["dataset"].unique().to_pylist():
            rows = table.filter(pc.equal(table["dataset"], dataset))
            for unit in ("epochs", "device_seconds"):
                some = rows.filter(pc.equal(rows["budget_of"], unit))
                kind = pa.int64() if unit == "epochs" else pa.float64()
                shown = some.drop_columns(["sweep", "dataset", "budget_of", "budget"])
                shown = shown.add_column(0, f"at_most_{unit}", pc.cast(some["budget"], kind))
                title = f"{name} on {dataset}: the best at equal {unit.replace('_', '-')}"
                notes = (_stopped_note(results, name),) if unit == "device_seconds" else ()
                sections.append(Section(shown, title, None, notes, ("config_id", "num_configs", "num_seeds")))
    return Answer(pa.concat_tables(tables, promote_options="permissive"), sections)


def answer_pareto(results: Results, sweep: str | None) -> Answer:
    """Two fronts a data set: accuracy against parameters, and against device-seconds."""
    tables, sections = [], []
    for name in results.choose(sweep):
        table = pareto(results, name)
        tables.append(table)
        for dataset in table["dataset"].unique().to_pylist():
            for cost, words in (("num_parameters", "parameters"), ("device_seconds_per_trial", "device-seconds")):
                wanted = pc.and_(pc.equal(table["dataset"], dataset), pc.equal(table["against"], cost))
                shown = table.filter(wanted).drop_columns(["sweep", "dataset", "against"])
                shown = shown.rename_columns(
                    ["seconds" if column == "device_seconds_per_trial" else column for column in shown.column_names]
                )
                title = f"{name} on {dataset}: accuracy against {words}, nothing else is better for less"
                notes = (_stopped_note(results, name),) if words == "device-seconds" else ()
                sections.append(Section(shown, title, shown.num_rows - 1, notes, ("config_id", "num_seeds")))
    return Answer(pa.concat_tables(tables, promote_options="permissive"), sections)


def _stopped_note(results: Results, sweep: str) -> str:
    statuses = results.trials(sweep)["status"].to_pylist()
    others = len(statuses) - statuses.count(TrialStatus.COMPLETED)
    return f"{statuses.count(TrialStatus.COMPLETED)} trials ran to the end, {others} were stopped or failed"


def answer_stops(results: Results, sweep: str | None) -> Answer:
    """A row a stopped trial; for a person first a row a rung."""
    tables, sections = [], []
    for name in results.choose(sweep):
        stops = stopped_trials(results, name)
        tables.append(stops)
        trials = results.trials(name)
        spent, saved = (
            sum(column.to_pylist()) for column in (trials["train_seconds"].drop_null(), stops["saved_device_seconds"])
        )
        note = (
            f"{stops.num_rows} of {trials.num_rows} trials stopped; saved about {format_duration(saved)} of device "
            f"time, spent {format_duration(spent)}"
        )
        rungs = stops_by_rung(stops)
        cutoffs = ("lowest_cutoff", "median_cutoff", "highest_cutoff")
        rungs = rungs.rename_columns([f"{c}_accuracy" if c in cutoffs else c for c in rungs.column_names])
        sections.append(Section(rungs, f"{name}: stopped, a row a rung", None, (note,), ("ladder", cutoffs[0])))
        if stops.num_rows:
            readable = {"value": "val_accuracy", "cutoff": "cutoff_accuracy"}
            shown = stops.drop_columns(["sweep"]).rename_columns(
                [readable.get(column, column) for column in stops.column_names if column != "sweep"]
            )
            sections.append(Section(shown, f"{name}: stopped, a row a trial", None, (), ("ladder", "budget", "rung")))
    return Answer(pa.concat_tables(tables, promote_options="permissive"), sections)


def answer_diff(results: Results, sweep: str | None, a: str, b: str) -> Answer:
    """What differs between two configurations or two sweeps."""
    table = diff(results, a, b, sweep)
    rows = table.to_pylist()
    settings = pa.table(
        {
            name: pa.array([r[key] for r in rows if r["kind"] == "setting"], pa.string())
            for name, key in (("setting", "what"), ("a", "a"), ("b", "b"))
        }
    )
    outcomes = [row for row in rows if row["kind"] == "result"]
    shown = {
        "result": [row["what"] for row in outcomes],
        "a": [_result(row["what"], row["a"]) for row in outcomes],
        "b": [_result(row["what"], row["b"]) for row in outcomes],
        "difference": [_difference(row) for row in outcomes],
    }
    results_table = pa.table({name: pa.array(values, pa.string()) for name, values in shown.items()})
    return Answer(
        table,
        [
            Section(settings, f"a = {a}, b = {b}: set otherwise"),
            Section(results_table, "came out otherwise", uncut=("a", "b", "difference")),
        ],
    )


def answer_importance(results: Results, sweep: str | None) -> Answer:
    """fANOVA's importance of each varied parameter."""
    tables, sections = [], []
    for name, table in _answering(results, sweep, lambda name: parameter_importance(results, name)):
        tables.append(table)
        first = table.slice(0, 1).to_pylist()[0]
        texts = [
            f"{100 * mean:.0f} ± {100 * sd:.0f} %" if sd is not None else f"{100 * mean:.0f} %"
            for mean, sd in zip(table["importance_mean"].to_pylist(), table["importance_sd"].to_pylist(), strict=True)
        ]
        shown = table.select(["parameter"]).append_column("share_of_variance", pa.array(texts, pa.string()))
        note = (
            f"fANOVA over {first['num_trials']} trials that ran to the end ({first['num_left_out']} others left out); "
            f"± is the spread over {first['repeats']} seeds of its forest, not over other trials"
        )
        sections.append(Section(shown, f"{name} on {first['dataset']}", 0, (note,)))
    return Answer(pa.concat_tables(tables), sections)


def _best(rows: pa.Table) -> int | None:
    means = rows["best_val_accuracy_mean"].to_pylist()
    known = [index for index, mean in enumerate(means) if mean is not None]
    return max(known, key=means.__getitem__, default=None)


def _mean(mean: float | None, sd: float | None) -> str:
    if mean is None:
        return ""
    digits = significant_decimals(sd)
    return f"{100 * mean:.{digits}f}" + (f" ± {100 * sd:.{digits}f} %" if sd is not None else " %")


def _interval(low: float | None, high: float | None) -> str | None:
    if low is None or high is None:
        return None
    digits = significant_decimals((high - low) / 4)
    return f"{100 * low:.{digits}f} to {100 * high:.{digits}f} %"


def _result(name: str, text: str) -> str:
    """ "0.986667 (n = 3)" as a person reads it."""
    number, _, rest = text.partition(" ")
    return f"{format_value(name.partition(' of ')[0].replace(' ', '_'), float(number))} {rest}".strip()


def _difference(row: dict) -> str:
    """Of accuracies in points, with the interval and p value there is."""
    unit, scale = (" points", 100) if "accuracy" in row["what"] else ("", 1)
    value, low, high = row["difference"], row["low"], row["high"]
    if low is None:
        digits = 1 if unit else 2
        why = {"none": " (one seed)", "exact": f" (no spread, {format_p_value(row['p_value'] or 1)})"}
        return f"{scale * value:+.{digits}f}{unit}{why.get(row['test'], '')}"
    digits = significant_decimals((high - low) / 4) if unit else 2
    interval = f"{scale * low:.{digits}f} to {scale * high:.{digits}f}"
    return f"{scale * value:+.{digits}f}{unit} ({interval}, {format_p_value(row['p_value'])}, {row['test']})"
