"""What the search decided, and why: a sentence per decision, in a table that is folded if it is long."""

from __future__ import annotations

from collections import Counter

from flexres_tune.analysis.decisions import ExplainedDecision, explain_decisions
from flexres_tune.analysis.summary import parameters_text
from flexres_tune.report.data import ReportData
from flexres_tune.text import escape_html, join_words, plural

_MOST_UNFOLDED = 12
_MOST_ROWS = 400
_NOUNS = {
    "continue": "continuation",
    "stop": "stop",
    "pause": "pause",
    "promote": "promotion",
    "allocate": "further run",
}
"""A decision as a noun; others, such as what a person asked for, are named as they are."""


def decisions_html(data: ReportData) -> str:
    """The decisions about trials on the report's data set; "" if there are none."""
    decisions = _of_dataset(data)
    if not decisions:
        return ""
    counts = Counter(_NOUNS.get(each.action, each.action) for each in decisions)
    counted = join_words([plural(count, noun) for noun, count in counts.items()], "and")
    is_open = " open" if len(decisions) <= _MOST_UNFOLDED else ""
    rows = "".join(map(_row, decisions[:_MOST_ROWS]))
    left_out = len(decisions) - _MOST_ROWS
    rest = f" {left_out:,} further ones are left out; `query decisions` has all." if left_out > 0 else ""
    return (
        f"<p>The search made {plural(len(decisions), 'decision')}: {escape_html(counted)}. A trial that was paused keeps "
        f"its checkpoint, and continues if the sweep file asks for more.</p><details{is_open}><summary>every decision with "
        "its reason, in the order in which they were made</summary><div class=scroll tabindex=0><table class=words><thead>"
        f"<tr><th>trial</th><th>decision</th><th>reason</th></tr></thead><tbody>{rows}</tbody></table></div></details>"
        f"<p class=note>Values are {escape_html(data.board.metric.words)}; a trial is compared only with those of its "
        f"group.{rest}</p>"
    )


def _of_dataset(data: ReportData) -> list[ExplainedDecision]:
    """The decisions of the sweep, without those about trials on other data sets."""
    here = {trial.trial_id for trial in data.trials}
    elsewhere = set(data.results.trials(data.sweep)["trial_id"].to_pylist()) - here
    decisions, _ = explain_decisions(data.results, data.sweep)
    return [each for each in decisions if each.trial_id not in elsewhere]


def _row(decision: ExplainedDecision) -> str:
    config_id, _, seed = decision.trial_id.rpartition("-")
    of_trial = f"{parameters_text(decision.parameters) or config_id}, seed {seed}"
    name = of_trial if decision.trial_id else "the sweep"  # that a person reloaded
    cells = (name, decision.action, decision.reason)
    title = escape_html(decision.trial_id)
    return f'<tr title="{title}">{"".join(f"<td>{escape_html(cell)}</td>" for cell in cells)}</tr>'
