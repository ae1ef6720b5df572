"""The report's section of decisions: a sentence each, folded if there are many."""

from datetime import UTC, datetime

import pytest
from helpers.factories import make_decision

from flexres_tune.report.data import read_data
from flexres_tune.report.decisions import decisions_html
from flexres_tune.results import open_results
from flexres_tune.results.writer import SweepWriter


@pytest.fixture
def decide(paths, make_config, make_trial):
    """Writes trials of these learning rates, each with a decision; the section."""

    def make(rates, **changes):
        with SweepWriter(paths) as writer:
            for lr in rates:
                config = make_config(lr=lr)
                writer.add_trial(make_trial(config, "paused"), config)
                values = {"epoch": 4, "value": 0.61, "cutoff": 0.75, "action": "pause", "rank": 3, "num_compared": 5}
                writer.add_decision(make_decision(config.trial_id, **values | changes))
        return decisions_html(read_data(open_results(paths.root), "demo"))

    return make


def test_a_decision_stands_in_words_with_the_numbers_it_was_based_on(decide):
    html = decide([0.1, 0.2])
    assert "The search made 2 decisions: 2 pauses." in html and "<details open>" in html
    assert (
        "<td>lr=0.1, seed 0</td><td>pause</td><td>number 3 of 5 at epoch 4, with 61.0 %: those with at least 75.0 %"
        in html
    )


def test_many_decisions_are_folded(decide):
    html = decide([0.01 * k for k in range(1, 31)])
    assert "<details open>" not in html and html.count("<tr title=") == 30


def test_who_asked_for_something_is_named_and_escaped(decide):
    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    html = decide([0.1], action="steer stop", who="<b>ann@host", value=None, cutoff=None, decided_at=at)
    assert "&lt;b&gt;ann@host asked for it at 2026-01-02 03:04:05 UTC" in html and "<b>" not in html
    assert "somebody asked for it</td>" in decide([0.2], action="steer stop", value=None, cutoff=None)


def test_sweep_without_decisions_has_no_section(paths, make_config, make_trial):
    config = make_config()
    with SweepWriter(paths) as writer:
        writer.add_trial(make_trial(config), config)
    assert decisions_html(read_data(open_results(paths.root), "demo")) == ""


def test_decisions_on_other_data_sets_are_left_out(paths, make_config, make_trial):
    """A sweep whose profile was changed has trials on two data sets; the report is about the one used last."""
    with SweepWriter(paths) as writer:
        for hour, dataset in enumerate(("digits", "cifar10")):
            config = make_config(dataset=dataset)
            trial = make_trial(config)
            writer.add_trial(make_trial(config, finished_at=trial.finished_at.replace(hour=hour)), config)
            writer.add_decision(make_decision(config.trial_id))
    data = read_data(open_results(paths.root), "demo")
    assert data.board.dataset == "cifar10" and decisions_html(data).count("<tr title=") == 1
