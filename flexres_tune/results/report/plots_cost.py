"""Accuracy against what it costs: parameters of the model, and device time of a full-length trial."""

from __future__ import annotations

from flexres_tune.results.report.data import ReportData
from flexres_tune.results.report.plot import Plot

_MOST_NAMES = 8


def plot_cost(data: ReportData) -> list[Plot]:
    """A point a ranked configuration, and the line of those that nothing cheaper betters."""
    return []
