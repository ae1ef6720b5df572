"""results/<sweep>/report.html: written aside and renamed, so that a reader never sees half a page."""

from __future__ import annotations

from pathlib import Path

from flexres_tune.results.aside import written_aside
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.reader import Results
from flexres_tune.results.report.data import read_data
from flexres_tune.results.report.sections import report_html


def write_report(results: Results, sweep: str) -> Path:
    """Write the report of one sweep; its path.

    Raises:
        ResultsError: no such sweep, or the folder cannot be written.
    """
    path = SweepPaths(results.root, sweep).report
    with written_aside(path) as aside:
        aside.write_text(report_html(read_data(results, sweep), str(results.root)), encoding="utf-8", newline="")
    return path
