"""The answer to the question of a sweep, with a row per level of `compare`; and how many seeds would decide more."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from flexres_tune.analysis.answer import Answer as SweepAnswer
from flexres_tune.analysis.answer import answer_cells, answer_of, interval_note
from flexres_tune.analysis.leaderboard import leaderboards
from flexres_tune.analysis.power import PowerRow, power_rows
from flexres_tune.analysis.rows import concatenate, to_table
from flexres_tune.analysis.summary import order_note
from flexres_tune.display.render import Section
from flexres_tune.errors import ResultsError
from flexres_tune.predictions.behind_leader import SPLITS, BehindLeader, behind_leader, with_intervals
from flexres_tune.query.output import Answer
from flexres_tune.results.reader import Results
from flexres_tune.text import number_range

_LEAST_IMPORTANT = ("num_configs", "device_time", "num_seeds", "problem", "interval_of_that", "p_adjusted")
_LEAST_IMPORTANT += ("behind_leader", "interval_95_%")
_NOT_AT_FIRST = ("p_adjusted", "num_configs", "device_time", "problem")  # the answer in words has the problem


def answer_answer(results: Results, sweep: str | None, limit: int | None) -> Answer:
    """Per sweep the table of its levels with the answer in words, and one of their distances on the same images.

    A sweep without `compare` has no levels: the first table is empty.
    """
    tables, sections = [], []
    for name in results.choose(sweep):
        answer = answer_of(results, name)
        found = behind_leader(results, answer)
        tables.append(with_intervals(answer, found).to_table())
        sections += [answer_section(answer), *behind_section(found)]
    return Answer(concatenate(tables), sections).limited(limit)


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
    return Answer(concatenate(tables), sections).limited(limit)


def answer_section(answer: SweepAnswer) -> Section:
    """The table of one sweep, and the answer in words below it."""
    names, rows = answer_cells(answer)
    notes = [answer.sentence]
    if answer.rows:
        notes += filter(None, (order_note(answer.board), interval_note(answer)))
    return Section(
        pa.table({name: pa.array([row[index] for row in rows], pa.string()) for index, name in enumerate(names)}),
        title=_title(answer),
        best_row=0 if answer.rows and answer.rows[0].problem is None else None,
        notes=tuple(notes),
        least_important=_LEAST_IMPORTANT,
        lists_rows=True,
        uncut=[name for name in names if name not in ("problem", "best_configuration")],
    )


def level_section(answer: SweepAnswer) -> Section:
    """The table without the answer below it, and without the columns that a first look does not need."""
    section = answer_section(answer)
    names = [name for name in section.table.column_names if name not in _NOT_AT_FIRST]
    return replace(section, table=section.table.select(names), notes=tuple(filter(None, [order_note(answer.board)])))


def behind_section(found: Sequence[BehindLeader]) -> list[Section]:
    """A table of how far the others are behind the leader on the images that all predict; none without predictions."""
    if not found:
        return []
    names = ("configuration", "behind_leader", "if_trained_again", "and_on_other_images", "these_models_on_others")
    names += ("images", "num_seeds")
    rows = [_behind_cells(each) for each in found]
    columns = {name: [row[index] for row in rows] for index, name in enumerate(names)}
    notes = [
        f"points of accuracy after the last epoch by which {found[0].names[0]} is above, and 95 % intervals of that: "
        "if both were trained again, and if they were trained again and other such images were drawn"
        + ("; equal seeds are paired" if any(each.interval.is_paired for each in found) else "")
    ]
    if any(each.interval.seeds is None for each in found):
        notes.append("with one seed nothing is known about training again")
    return [
        Section(
            pa.table({name: pa.array(texts, pa.string()) for name, texts in columns.items() if any(texts)}),
            title=f"behind {found[0].names[0]} on the same images",
            notes=tuple(notes),
            least_important=("num_seeds", "images"),
            uncut=names[1:],
        )
    ]


def _behind_cells(each: BehindLeader) -> list[str | None]:
    """A row of behind_section()."""

    def points(ends: tuple[float, float] | None) -> str | None:
        return None if ends is None else f"{100 * ends[0]:.2f} to {100 * ends[1]:.2f}"

    interval = each.interval
    return [
        each.names[1],
        f"{100 * interval.difference:.2f}",
        points(interval.seeds),
        points(interval.seeds_and_images),
        points(interval.images) if interval.seeds is None else None,
        f"{interval.num_images:,} {SPLITS[each.split]}",
        number_range(interval.num_seeds),
    ]


def _title(answer: SweepAnswer) -> str:
    title = f"{answer.board.sweep} on {answer.board.dataset}" if answer.board.dataset else answer.board.sweep
    return f"{title}: the best of each {' and '.join(answer.compare)}" if answer.rows else title
