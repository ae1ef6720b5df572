"""Importance of each parameter: its share of the variance of accuracy, by fANOVA over full-length trials."""

from __future__ import annotations

from flexres_tune.results.report.data import ReportData
from flexres_tune.results.report.plot import Plot


def plot_importance(data: ReportData) -> list[Plot]:
    return []
