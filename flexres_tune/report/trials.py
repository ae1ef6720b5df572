"""The table of all trials, which a reader can sort and filter; a click on a row draws its curve over the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flexres_tune.display.format import NOTHING, format_value
from flexres_tune.report.board import sort_key
from flexres_tune.report.data import ReportData, Trial, spaced, value_text
from flexres_tune.report.plots.style import thin
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.tags import read_tags
from flexres_tune.text import escape_html, format_duration, plural

MOST_ROWS = 2_000  # of the best trials: a browser sorts more only slowly
_MOST_POINTS = 100  # of a curve: a screen does not show more


@dataclass(frozen=True)
class _Column:
    """One column: the name by which a filter knows it, and a (value, text) per trial."""

    name: str
    title: str
    cells: list[tuple[Any, str]]
    is_number: bool


def trials_html(data: ReportData) -> str:
    """The table with its filter; "" without trials."""
    trials = _best_first(data)[:MOST_ROWS]
    if not trials:
        return ""
    columns = _columns(data, trials)
    heads = "".join(
        f'<th scope="col" data-name="{escape_html(each.name)}"{" class=n" if each.is_number else ""} aria-sort="none">'
        f"<button>{escape_html(each.title)}</button></th>"
        for each in columns
    )
    rows = []
    for index, trial in enumerate(trials):
        cells = "".join(_cell(each, index) for each in columns)
        curve = f' data-trial="{escape_html(trial.trial_id)}"' if trial.trial_id in data.curves else ""
        name = escape_html(f"{data.label(trial.config_id)}, seed {trial.seed}")
        rows.append(f'<tr{curve} title="{name}"><td><button aria-pressed=false>show</button></td>{cells}</tr>')
    left_out = len(data.trials) - len(trials)
    verb = "is" if left_out == 1 else "are"
    lower = f" The {plural(left_out, 'trial')} with worse values, or none, {verb} left out; `query trials` has all."
    rest = lower if left_out else ""
    return (
        "<h3>All trials</h3><p class=filter><label>Filter <input type=search id=filter "
        'placeholder="such as: adam lr&gt;=0.01 status=completed" autocomplete=off></label> <output id=matches></output> '
        "<button class=more id=unmark hidden>Clear the curves</button></p>"
        "<div class='scroll wide tall' tabindex=0><table id=trials class=sortable><thead><tr><th scope=col>curve</th>"
        f"{heads}</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        "<p class=note>Click a row to draw its curve above, over the others. The filter takes words, and conditions on "
        f"columns such as lr&gt;=0.01.{escape_html(rest)}</p>"
    )


def trial_curves(data: ReportData) -> dict[str, Any]:
    """trial_id -> [label, epochs, values] of the trials in the table, as the page draws them."""
    digits = data.board.metric.decimals(None) + 1
    curves = {}
    for trial in _best_first(data)[:MOST_ROWS]:
        if trial.trial_id in data.curves:
            points = thin(data.curves[trial.trial_id], _MOST_POINTS)
            values = [round(data.shown(value), digits) for _, value in points]
            curves[trial.trial_id] = [data.label_of_trial(trial), [epoch for epoch, _ in points], values]
    return curves


def _best_first(data: ReportData) -> list[Trial]:
    score = data.board.metric.score
    return sorted(
        data.trials, key=lambda trial: (trial.metric is None, 0 if trial.metric is None else -score(trial.metric))
    )


def _columns(data: ReportData, trials: list[Trial]) -> list[_Column]:
    metric = data.board.metric
    tags = read_tags(SweepPaths(data.results.root, data.sweep))
    texts = [", ".join(tag.text for tag in tags.get(trial.trial_id, [])) for trial in trials]
    columns = [
        _Column(
            metric.column,
            spaced(metric.column),
            [(t.metric, NOTHING if t.metric is None else metric.text(t.metric)) for t in trials],
            True,
        )
    ]
    for name in data.board.parameters:
        values = [trial.parameters[name] for trial in trials]
        is_number = all(isinstance(value, int | float) or value is None for value in values)
        columns.append(_Column(name, spaced(name), [(v, value_text(name, v)) for v in values], is_number))
    columns += [
        _Column("seed", "seed", [(t.seed, str(t.seed)) for t in trials], True),
        _Column("status", "status", [(t.status, t.status.replace("_", " ")) for t in trials], False),
        _Column("stage", "stage", [(t.stage, t.stage) for t in trials], False),
        _Column(
            "test_accuracy",
            "test accuracy",
            [(t.test_accuracy, format_value(t.test_accuracy, "fraction")) for t in trials],
            True,
        ),
        _Column("epochs_run", "epochs", [(t.epochs_run, str(t.epochs_run)) for t in trials], True),
        _Column("train_seconds", "time", [(t.train_seconds, format_duration(t.train_seconds)) for t in trials], True),
        _Column("tags", "tags", [(text, text) for text in texts], False),
        _Column("trial_id", "trial id", [(t.trial_id, t.trial_id) for t in trials], False),
    ]
    is_constant = {each.name: len({value for value, _ in each.cells}) == 1 for each in columns if each.name == "stage"}
    empty = {each.name for each in columns if all(value in (None, "") for value, _ in each.cells)}
    return [each for each in columns if each.name not in empty and not is_constant.get(each.name)]


def _cell(column: _Column, index: int) -> str:
    value, text = column.cells[index]
    kind = " class=n" if column.is_number else ""
    key = sort_key(value)
    key = "" if key == text else f' data-v="{escape_html(key)}"'  # the page sorts by the text if there is no key
    return f"<td{kind}{key}>{escape_html(text)}</td>"
