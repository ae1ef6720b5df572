"""Tags of trials: adds one, removes one, or lists them."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.display.render import Section
from flexres_tune.errors import ResultsError
from flexres_tune.query.output import Answer
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.reader import Results
from flexres_tune.results.tags import add_tag, read_tags, remove_tags
from flexres_tune.text import did_you_mean, excerpt, join_words


def answer_tag(
    results: Results, sweep: str | None, trial: str, text: str | None, remove: bool, limit: int | None
) -> Answer:
    """The tags of a trial, after adding or removing one."""
    name, trial_id = find_trial(results, sweep, trial)
    paths = SweepPaths(results.root, name)
    if remove and text is None:
        raise ResultsError(f"--remove needs the text of the tag: query tag {trial} TEXT --remove")
    if remove and not remove_tags(paths, trial_id, text):
        known = did_you_mean(text, [tag.text for tag in read_tags(paths).get(trial_id, [])])
        raise ResultsError(f"trial {trial_id} of {name} has no tag {excerpt(text)!r}{known}")
    if text is not None and not remove:
        add_tag(paths, trial_id, text)
    tags = read_tags(paths).get(trial_id, [])
    columns = {
        "tag": [tag.text for tag in tags],
        "who": [tag.who for tag in tags],
        "tagged_at": [tag.tagged_at for tag in tags],
    }
    table = pa.table({key: pa.array(values, pa.string()) for key, values in columns.items()}).slice(0, limit)
    return Answer(table, [Section(table, title=f"trial {trial_id} of {name}")])


def find_trial(results: Results, sweep: str | None, text: str) -> tuple[str, str]:
    """(sweep, trial_id) of the trial that `text` is, or that begins with it.

    Raises:
        ResultsError: no such trial, or several.
    """
    found: set[tuple[str, str]] = set()
    known: set[str] = set()
    for name in results.choose(sweep):
        ids = pc.unique(results.table("trials", name, ["trial_id"])["trial_id"]).to_pylist()
        known |= set(ids)
        found |= {(name, each) for each in ids if each.startswith(text)}
    exact = {each for each in found if each[1] == text}
    found = exact or found
    if len(found) == 1:
        return found.pop()
    if not found:
        raise ResultsError(f"no trial {excerpt(text)!r} in {results.root}{did_you_mean(text, known)}")
    trials = sorted({trial_id for _, trial_id in found})
    if len(trials) > 1:
        raise ResultsError(f"trial {excerpt(text)!r} could be {join_words(trials[:5])}; write more of it")
    sweeps = sorted(name for name, _ in found)
    raise ResultsError(f"trial {trials[0]} is in {join_words(sweeps, 'and')}; add --sweep {sweeps[0]}")
