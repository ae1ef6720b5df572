"""Files: the report of a sweep and the index of all sweeps, each written atomically."""

from __future__ import annotations

import shlex
from html import escape

import pyarrow.compute as pc

from flexres_tune.analysis.summary import answer_sentence
from flexres_tune.errors import ResultsError
from flexres_tune.report.data import extent_of, plan_or_none, read_data
from flexres_tune.report.page import page_html
from flexres_tune.report.sections import report_html
from flexres_tune.results.paths import SweepPaths, index_path
from flexres_tune.results.reader import Results
from flexres_tune.storage import AnyPath, atomic_write_text
from flexres_tune.text import escape as escape_controls
from flexres_tune.text import format_duration, plural


def write_report(results: Results, sweep: str) -> AnyPath:
    """Write results/<sweep>/report.html and return its path.

    Raises:
        ResultsError: no such sweep, or the folder cannot be written.
    """
    path = SweepPaths(results.root, sweep).report
    atomic_write_text(path, report_html(read_data(results, sweep), str(results.root)))
    return path


def try_report(results: Results, sweep: str) -> str:
    """Write the report at the end of a run and return a line with its path, or a warning if that fails."""
    try:
        return f"report: {write_report(results, sweep)}"
    except Exception as error:
        again = shlex.join(["python", "-m", "flexres_tune.report", "--sweep", sweep, "--results", str(results.root)])
        return f"warning: no report: {type(error).__name__}: {error}; to try again: {again}"


def write_index(results: Results) -> AnyPath:
    """Write the index of all sweeps, and the report of each sweep that has none; return the index's path.

    Raises:
        ResultsError: no sweeps, or the folder cannot be written.
    """
    rows, failed = [], []
    for sweep in results.choose():
        try:
            rows.append(_row(results, sweep))
        except ResultsError as error:  # one damaged sweep does not hide the others
            failed.append(f"<p class=note>{escape(sweep)}: {escape(escape_controls(str(error)))}</p>")
    rows.sort(reverse=True)
    heads = ("sweep", "question", "what ran", "answer", "last trial", "trials", "device time")
    head = "".join(f"<th scope=col aria-sort=none><button>{name}</button></th>" for name in heads)
    body = "".join(row for _, row in rows)
    table = (
        f"<p class=kind>flexres_tune</p><h1>{plural(len(rows), 'sweep')}</h1><div class=scroll tabindex=0>"
        f'<table class="sortable words"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
        f"{''.join(failed)}"
    )
    path = index_path(results.root)
    atomic_write_text(path, page_html("flexres_tune: all sweeps", table, [], ""))
    return path


def _row(results: Results, sweep: str) -> tuple[str, str]:
    """(time of the last trial, HTML of the table row); the index is sorted by the time."""
    paths = SweepPaths(results.root, sweep)
    if not paths.report.exists():
        write_report(results, sweep)
    trials, plan = results.trials(sweep), plan_or_none(paths)
    last = pc.max(trials["finished_at"]).as_py() if trials.num_rows else None
    seconds = pc.sum(trials["train_seconds"]).as_py() or 0.0
    moment = last.isoformat() if last else ""
    link = f'<a href="{escape(sweep, quote=True)}/{paths.report.name}">{escape(sweep)}</a>'
    cells = [  # (sort key, HTML; None: the sort key as text)
        (sweep, link),
        (plan.description if plan else "", None),
        (extent_of(trials), None),
        (answer_sentence(results, sweep), None),
        (moment, f"{last:%Y-%m-%d %H:%M}" if last else "–"),
        (str(trials.num_rows), f"{trials.num_rows:,}"),
        (str(seconds), format_duration(seconds)),
    ]
    row = "".join(
        f'<td data-v="{escape(text, quote=True)}">{escape(text) if html is None else html}</td>'
        for text, html in ((escape_controls(value), html) for value, html in cells)
    )
    return moment, f"<tr>{row}</tr>"
