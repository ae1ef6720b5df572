"""Answer of query effort: the expected best accuracy after n configurations, for each value of a parameter."""

from __future__ import annotations

import pyarrow as pa

from flexres_tune.analysis.rows import concatenate, to_table
from flexres_tune.display.format import format_percent
from flexres_tune.display.render import Section
from flexres_tune.effects.effort import TuningEffort, tuning_effort
from flexres_tune.errors import ResultsError
from flexres_tune.query.output import Answer
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import plan_or_none
from flexres_tune.results.reader import Results
from flexres_tune.text import plural


def answer_effort(results: Results, sweep: str | None, parameter: str, limit: int | None) -> Answer:
    """One section per sweep in which the parameter varies; on a terminal one column per value, one row per n."""
    tables, sections, problems = [], [], []
    for name in results.choose(sweep):
        try:
            rows = tuning_effort(results, name, parameter)
        except ResultsError as error:
            problems.append(error)
            continue
        [column] = rows[0].parameters  # block for model.block
        tables.append(to_table(TuningEffort, rows, [column]))
        for dataset in dict.fromkeys(row.dataset for row in rows):
            of_dataset = [row for row in rows if row.dataset == dataset]
            title = f"expected best validation accuracy of n configurations, by {column}, in {name} on {dataset}"
            notes = tuple(_notes(results, name, of_dataset))
            sections.append(Section(_shown(of_dataset, column), title=title, notes=notes))
    if not tables:
        raise problems[0]
    return Answer(concatenate(tables), sections).limited(limit)


def _shown(rows: list[TuningEffort], parameter: str) -> pa.Table:
    sizes = sorted({row.num_tried for row in rows})
    columns: dict[str, list] = {"n": sizes}
    for value in dict.fromkeys(str(row.parameters[parameter]) for row in rows):
        texts = {
            row.num_tried: f"{format_percent(row.expected_best)} ({100 * row.expected_best_low:.1f} to "
            f"{100 * row.expected_best_high:.1f})"
            for row in rows
            if str(row.parameters[parameter]) == value
        }
        columns[value] = [texts.get(n) for n in sizes]
    return pa.table(columns)


def _notes(results: Results, sweep: str, rows: list[TuningEffort]) -> list[str]:
    notes = ["compare at equal n: the best of many is higher than the best of few; bands are 95 %, for all n at once"]
    plan = plan_or_none(SweepPaths(results.root, sweep))
    method = plan.spec.get("method") if plan else None
    if method == "tpe":
        notes.append("TPE does not draw independently: the bands do not hold, and the order of its trials is not used")
    elif method == "grid":
        notes.append("the configurations are a grid: read it as if each was drawn from the grid at random")
    if stopped := sum(row.num_stopped for row in rows if row.num_tried == 1):
        notes.append(
            f"stopped early or paused, and count with what they had reached: {plural(stopped, 'configuration')}"
        )
    if failed := sum(row.num_failed for row in rows if row.num_tried == 1):
        notes.append(f"diverged or ran out of memory, and count as 0: {plural(failed, 'configuration')}")
    if left_out := sum(row.num_left_out for row in rows if row.num_tried == 1):
        notes.append(
            f"failed or were interrupted with all trials, and do not count: {plural(left_out, 'configuration')}"
        )
    return notes
