"""`query tag`: adds, lists and removes the tags of a trial."""

import pytest
from helpers.command import invoke

from flexres_tune.query.__main__ import app
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.tags import read_tags
from flexres_tune.results.writer import SweepWriter


@pytest.fixture
def trials(paths, make_config, make_trial):
    """Two trials of the sweep `demo`; the first one is also in the sweep `other`."""
    configs = [make_config(lr=0.1), make_config(lr=0.2)]
    for each, some in ((paths, configs), (SweepPaths(paths.root, "other"), configs[:1])):
        with SweepWriter(each) as writer:
            for config in some:
                writer.add_trial(make_trial(config), config)
    return [config.trial_id for config in configs]


def tag(paths, *arguments):
    return invoke(app, "tag", *arguments, "--results", paths.root)


def test_tag_is_added_listed_and_removed(paths, trials):
    done = tag(paths, trials[1][:6], "loss spikes")
    assert done.exit_code == 0 and f"trial {trials[1]} of demo" in done.output and "loss spikes" in done.output
    assert [each.text for each in read_tags(paths)[trials[1]]] == ["loss spikes"]
    assert "loss spikes" in tag(paths, trials[1]).output
    wrong = tag(paths, trials[1], "loss spike", "--remove")
    assert wrong.exit_code == 2 and "has no tag 'loss spike'; did you mean loss spikes?" in wrong.output
    assert "no rows" in tag(paths, trials[1], "loss spikes", "--remove").output
    assert read_tags(paths) == {}


def test_trial_of_two_sweeps_needs_the_name_of_one(paths, trials):
    done = tag(paths, trials[0], "good")
    assert done.exit_code == 2 and "is in demo and other; add --sweep demo" in done.output
    assert tag(paths, trials[0], "good", "--sweep", "other").exit_code == 0
    assert read_tags(paths) == {} and trials[0] in read_tags(SweepPaths(paths.root, "other"))


def test_unknown_trial_and_missing_text_are_refused(paths, trials):
    assert "no trial 'zzz'" in tag(paths, "zzz").output
    assert "--remove needs the text of the tag" in tag(paths, trials[1], "--remove").output
    assert "could be" in tag(paths, "").output
