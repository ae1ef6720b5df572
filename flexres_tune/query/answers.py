"""The answer to the question of a sweep, as a table with a row per level of `compare`, and its sentence."""

from __future__ import annotations

import pyarrow as pa

from flexres_tune.analysis.answer import Answer as SweepAnswer
from flexres_tune.analysis.answer import answer_cells, answer_of
from flexres_tune.analysis.rows import concatenate
from flexres_tune.display.render import Section
from flexres_tune.query.output import Answer
from flexres_tune.results.reader import Results

_LEAST_IMPORTANT = ("num_configs", "device_time", "num_seeds", "problem")


def answer_answer(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """One section per sweep; a sweep without `compare` has only the sentence."""
    answers = [answer_of(results, name) for name in results.choose(sweep)]
    tables = [answer.to_table() for answer in answers]
    return Answer(concatenate(tables).slice(0, limit), [answer_section(answer) for answer in answers])


def answer_section(answer: SweepAnswer) -> Section:
    """The table of one sweep as it is printed, the sentence below it."""
    title = f"{answer.board.sweep} on {answer.board.dataset}" if answer.board.dataset else answer.board.sweep
    names, rows = answer_cells(answer)
    columns = {name: pa.array([row[index] for row in rows], pa.string()) for index, name in enumerate(names)}
    return Section(
        pa.table(columns),
        title=f"{title}: the best of each {' and '.join(answer.compare)}" if answer.rows else title,
        best_row=0 if answer.rows and answer.rows[0].problem is None else None,
        notes=(answer.sentence,),
        least_important=_LEAST_IMPORTANT,
        uncut=[name for name in names if name not in ("problem", "best_configuration")],
    )
