"""results/<sweep>/report.html: written aside and renamed, so that a reader never sees half a page."""

from __future__ import annotations

import shlex

from flexres_tune.places import AnyPath
from flexres_tune.results.aside import written_aside
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.reader import Results
from flexres_tune.results.report.data import read_data
from flexres_tune.results.report.sections import report_html


def write_report(results: Results, sweep: str) -> AnyPath:
    """Write the report of one sweep; its path.

    Raises:
        ResultsError: no such sweep, or the folder cannot be written.
    """
    path = SweepPaths(results.root, sweep).report
    with written_aside(path) as aside:
        aside.write_text(report_html(read_data(results, sweep), str(results.root)), encoding="utf-8", newline="")
    return path


def try_report(results: Results, sweep: str) -> str:
    """One line for the end of a run: where the report is, or why there is none. Raises nothing: the run is done."""
    try:
        return f"report: {write_report(results, sweep)}"
    except Exception as error:
        again = shlex.join(["python", "-m", "flexres_tune.report", "--sweep", sweep, "--results", str(results.root)])
        return f"warning: no report: {type(error).__name__}: {error}; to try again: {again}"
