"""The sections of a report, in their order, with their plots and text."""

from __future__ import annotations

from collections.abc import Callable

from flexres_tune.report.board import answer_html, behind_html, leaderboard_html
from flexres_tune.report.data import ReportData
from flexres_tune.report.decisions import decisions_html
from flexres_tune.report.facts import facts_html, failures_html, reproduce_html
from flexres_tune.report.hardest import hardest_html
from flexres_tune.report.notes import notes_html
from flexres_tune.report.page import Part, page_html
from flexres_tune.report.plots.answer import plot_answer
from flexres_tune.report.plots.cost import plot_cost
from flexres_tune.report.plots.curves import plot_curves
from flexres_tune.report.plots.effects import plot_effects
from flexres_tune.report.plots.further import plot_further_metrics
from flexres_tune.report.plots.heatmap import plot_heatmap
from flexres_tune.report.plots.importance import plot_importance
from flexres_tune.report.plots.overlay import plot_overlay
from flexres_tune.report.plots.parallel import plot_parallel
from flexres_tune.report.plots.predictions import plot_predictions
from flexres_tune.report.plots.progress import plot_progress
from flexres_tune.report.plots.ranking import plot_ranking
from flexres_tune.report.plots.style import Plot
from flexres_tune.report.plots.timeline import plot_timeline
from flexres_tune.report.trials import trial_curves, trials_html
from flexres_tune.text import escape_html

PLOTS: dict[str, Callable[[ReportData], list[Plot]]] = {
    "Answer": plot_answer,
    "Leaderboard": plot_ranking,
    "Learning curves": plot_curves,
    "Training and validation": plot_overlay,
    "Further metrics": plot_further_metrics,
    "Best so far": plot_progress,
    "Parallel coordinates": plot_parallel,
    "Effect of each parameter": plot_effects,
    "Two parameters": plot_heatmap,
    "Importance": plot_importance,
    "Classes": plot_predictions,
    "Accuracy and cost": plot_cost,
    "Timeline": plot_timeline,
}
"""Heading -> function that makes its plots, in the order of the page; an empty section is left out."""

TABLES: dict[str, Callable[[ReportData], str]] = {
    "Answer": answer_html,
    "Leaderboard": leaderboard_html,
    "Learning curves": trials_html,
}
"""Heading -> function that makes the table below its plots."""


def all_plots(data: ReportData) -> list[Plot]:
    """Every plot that the sweep has data for."""
    return [plot for make in PLOTS.values() for plot in make(data)]


def report_html(data: ReportData, root: str, version: str = "") -> str:
    """The report of one sweep as a page.

    Args:
        root: the results folder, as the commands at the end of the page show it.
        version: of a live page; "" for a file.
    """
    parts = [Part("Notes", notes_html(data))]
    for name, make in PLOTS.items():
        table = TABLES[name](data) if name in TABLES else ""
        parts.append(Part(name, plots=make(data), html_after=table))
    parts.append(Part("Decisions", decisions_html(data)))
    parts.append(Part("Hardest images", hardest_html(data)))
    parts.append(Part("Failures", failures_html(data)))
    parts.append(Part("How to reproduce it", reproduce_html(data, root)))
    question = data.description or f"Results of sweep {data.sweep}"
    ran = f"<p class=note>Ran: {escape_html(data.extent)}.</p>" if data.extent else ""
    head = (
        f"<p class=kind>sweep {escape_html(data.sweep)}</p><h1>{escape_html(question)}</h1>"
        f"{ran}<p class=answer>{escape_html(data.answer.sentence)}</p>{behind_html(data)}{facts_html(data)}"
    )
    foot = f"Written by flexres_tune. Rankings are by {data.board.metric.words} {data.board.metric.epoch_words}; no ranking uses the test set."
    return page_html(f"{data.sweep}: report", head, parts, foot, version, trial_curves(data))
