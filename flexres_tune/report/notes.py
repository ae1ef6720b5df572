"""What people wrote about a sweep: notes.md as text, and the tags of trials."""

from __future__ import annotations

from flexres_tune.report.data import ReportData
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.tags import read_notes, read_tags
from flexres_tune.text import escape_html, plural

_MOST_TAGS = 100


def notes_html(data: ReportData) -> str:
    """notes.md as it was written, and the tags, newest first; "" without both. Nothing in them is obeyed."""
    paths = SweepPaths(data.results.root, data.sweep)
    notes = read_notes(paths).strip()
    parts = [f"<div class=notes>{escape_html(notes, keep=chr(10) + chr(9))}</div>"] if notes else []
    labels = {trial.trial_id: f"{data.label(trial.config_id)}, seed {trial.seed}" for trial in data.trials}
    tags = [tag for each in read_tags(paths).values() for tag in each if tag.trial_id in labels]
    tags.sort(key=lambda tag: tag.tagged_at, reverse=True)
    if tags:
        rows = "".join(
            f"<tr><td>{escape_html(tag.text)}</td><td>{escape_html(labels[tag.trial_id])}</td>"
            f"<td>{escape_html(tag.trial_id)}</td><td>{escape_html(tag.who)}</td>"
            f"<td>{escape_html(tag.tagged_at[:10])}</td></tr>"
            for tag in tags[:_MOST_TAGS]
        )
        head = "".join(f'<th scope="col">{name}</th>' for name in ("tag", "trial", "trial id", "who", "when"))
        parts.append(
            f"<div class=scroll tabindex=0><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></div>"
        )
    if len(tags) > _MOST_TAGS:
        parts.append(f"<p class=note>{plural(len(tags) - _MOST_TAGS, 'older tag')} in the table of all trials.</p>")
    return "".join(parts)
