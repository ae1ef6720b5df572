"""Files: the report of a sweep and the index of all sweeps, each written atomically."""

from __future__ import annotations

import shlex

from flexres_tune.errors import ResultsError
from flexres_tune.report.data import ReportData, read_data
from flexres_tune.report.page import page_html
from flexres_tune.report.sections import report_html
from flexres_tune.results.paths import SweepPaths, index_path
from flexres_tune.results.reader import Results, open_results
from flexres_tune.storage import AnyPath, atomic_write_text
from flexres_tune.text import escape_html, format_duration, plural


def write_report(results: Results, sweep: str) -> AnyPath:
    """Write results/<sweep>/report.html and return its path.

    Raises:
        ResultsError: no such sweep, or the folder cannot be written.
    """
    return _write(read_data(results, sweep), results, sweep)


def _write(data: ReportData, results: Results, sweep: str) -> AnyPath:
    path = SweepPaths(results.root, sweep).report
    atomic_write_text(path, report_html(data, str(results.root)))
    return path


def try_report(paths: SweepPaths) -> str:
    """Write the report at the end of a run and return a line with its path, or a warning if that fails."""
    try:
        return f"report: {write_report(open_results(paths.root), paths.sweep)}"
    except Exception as error:
        command = ["python", "-m", "flexres_tune.report", "--sweep", paths.sweep, "--results", str(paths.root)]
        again = shlex.join(command)
        return f"warning: no report: {type(error).__name__}: {error}; to try again: {again}"


def write_index(results: Results) -> AnyPath:
    """Write the report of every sweep and the index of all of them; return the index's path.

    Reports are written anew because the folder may come from somebody else: a report.html in it could run any script.

    Raises:
        ResultsError: no sweeps, or the folder cannot be written.
    """
    rows, failed = [], []
    for sweep in results.choose():
        try:
            rows.append(_row(results, sweep))
        except ResultsError as error:  # one damaged sweep does not hide the others
            failed.append(f"<p class=note>{escape_html(f'{sweep}: {error}')}</p>")
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
    data = read_data(results, sweep)
    path = _write(data, results, sweep)
    last = data.trials[-1].finished_at if data.trials else None
    moment = last.isoformat() if last else ""
    seconds = 3600 * data.device_hours
    cells = [  # (sort key, text)
        (data.description, data.description),
        (data.extent, data.extent),
        (data.answer.sentence, data.answer.sentence),
        (moment, f"{last:%Y-%m-%d %H:%M}" if last else "–"),
        (len(data.trials), f"{len(data.trials):,}"),
        (seconds, format_duration(seconds)),
    ]
    name = escape_html(sweep)
    row = f'<td data-v="{name}"><a href="{name}/{path.name}">{name}</a></td>'
    row += "".join(f'<td data-v="{escape_html(key)}">{escape_html(text)}</td>' for key, text in cells)
    return moment, f"<tr>{row}</tr>"
