"""The answer to the question of a sweep, with a row per level of `compare`; and how many seeds would decide more."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from flexres_tune.analysis.answer import Answer as SweepAnswer
from flexres_tune.analysis.answer import answer_cells, answer_of, interval_note
from flexres_tune.analysis.leaderboard import leaderboards
from flexres_tune.analysis.power import PowerRow, power_rows
from flexres_tune.analysis.rows import concatenate, to_table
from flexres_tune.analysis.summary import order_note
from flexres_tune.display.render import Section
from flexres_tune.errors import ResultsError
from flexres_tune.predictions.behind_leader import BehindLeader, behind_leader, with_intervals
from flexres_tune.query.output import Answer
from flexres_tune.results.reader import Results
from flexres_tune.text import plural

MOST_LINES = 8  # about configurations that are compared with the leader
_LEAST_IMPORTANT = ("num_configs", "device_time", "num_seeds", "problem")


def answer_answer(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """One section per sweep; a sweep without `compare` has only the sentence."""
    tables, sections = [], []
    for name in results.choose(sweep):
        answer = answer_of(results, name)
        found = behind_leader(results, answer)
        tables.append(with_intervals(answer, found).to_table())
        sections.append(_section(answer, found))
    return Answer(concatenate(tables).slice(0, limit), sections)


def answer_power(results: Results, sweep: str | None, difference: float, limit: int | None) -> Answer:
    """Seeds and device-hours that separate a difference; `difference` in the unit of the metric's sentences."""
    tables, sections, reasons = [], [], []
    for name in results.choose(sweep):
        for board in leaderboards(results, name):
            try:
                rows = power_rows(board, difference / board.metric.factor)
            except ResultsError as error:
                reasons.append(error)
                continue
            tables.append(to_table(PowerRow, rows, metric=board.metric))
            note = (
                f"seeds of each configuration to separate {difference:g} {board.metric.difference} with 80 % power, "
                f"from a standard deviation of {board.metric.factor * rows[0].seed_sd:.2g} {board.metric.difference} "
                "between seeds; of several configurations any two of them"
            )
            shown = tables[-1].select(["num_configs", "num_seeds", "device_hours"])
            sections.append(Section(shown, title=f"{name} on {board.dataset}", notes=(note,), lists_rows=True))
    if not tables:
        raise reasons[0]
    return Answer(concatenate(tables).slice(0, limit), sections)


def behind_notes(found: Sequence[BehindLeader]) -> list[str]:
    """A sentence per configuration that is compared with the leader; the last ones of many are only counted."""
    notes = [each.sentence for each in found[:MOST_LINES]]
    if more := len(found) - len(notes):
        notes.append(f"{plural(more, 'more level')} on these images: --format csv shows all")
    return notes


def answer_section(results: Results, answer: SweepAnswer) -> Section:
    """The table of one sweep as it is printed, the sentence below it, and how far the others are behind the leader."""
    return _section(answer, behind_leader(results, answer))


def _section(answer: SweepAnswer, found: Sequence[BehindLeader]) -> Section:
    title = f"{answer.board.sweep} on {answer.board.dataset}" if answer.board.dataset else answer.board.sweep
    names, rows = answer_cells(answer)
    columns = {name: pa.array([row[index] for row in rows], pa.string()) for index, name in enumerate(names)}
    notes = [answer.sentence]
    notes += behind_notes(found)
    if answer.rows:
        notes += filter(None, (order_note(answer.board), interval_note(answer)))
    return Section(
        pa.table(columns),
        title=f"{title}: the best of each {' and '.join(answer.compare)}" if answer.rows else title,
        best_row=0 if answer.rows and answer.rows[0].problem is None else None,
        notes=tuple(notes),
        least_important=_LEAST_IMPORTANT,
        lists_rows=True,
        uncut=[name for name in names if name not in ("problem", "best_configuration")],
    )
