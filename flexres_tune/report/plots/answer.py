"""Answer: one row per level of `compare`, with the seeds of its best configuration and the mean with its interval."""

from __future__ import annotations

from dataclasses import replace

from flexres_tune.analysis.answer import interval_note
from flexres_tune.report.data import ReportData
from flexres_tune.report.plots.ranking import rows_plot
from flexres_tune.report.plots.style import Plot
from flexres_tune.text import escape_html


def plot_answer(data: ReportData) -> list[Plot]:
    """The levels that are compared; no plot without `compare`, or for fewer than two of them."""
    rows = [row for row in data.answer.rows if row.row is not None and row.problem is None]
    if len(rows) < 2:
        return []
    labels = [escape_html(row.name) for row in rows]
    finding = data.answer.sentence.partition(". ")[0]
    shown = [replace(row.row, metric_low=row.metric_low, metric_high=row.metric_high) for row in rows]
    if not (note := interval_note(data.answer)):
        return [rows_plot(data, "answer", shown, labels, finding)]
    return [rows_plot(data, "answer", shown, labels, finding, f"{note[0].upper()}{note[1:]}.")]
