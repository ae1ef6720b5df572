"""What Ray's loop gets from the adapters; whole sweeps are run in tests/run/test_session.py."""

import copy
import pickle
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from helpers.factories import VERSIONS, make_sweep
from ray.tune.search import Searcher

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.raytune.adapters import DriverSide, JournalCallback, NoRayOutput, SearchAdapter
from flexres_tune.raytune.watchdog import Watchdog
from flexres_tune.results.writer import SweepWriter
from flexres_tune.search.base import DONE, WAIT, Assignment, Search
from flexres_tune.spec import SweepSpec, expand_trials
from flexres_tune.sweep.journal import Journal
from flexres_tune.sweep.worker import TrialJob


class Script(Search):
    """A search that answers as written."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def ask(self):
        return self.steps.pop(0)


def make_job(assignment):
    config = assignment.trial.config
    return TrialJob(config.trial_id, config.to_dict(), None, 10.0, 1, assignment.until_epoch)


def make_searcher(search, must_wait=lambda: False, is_over=lambda: False):
    return SearchAdapter(search, make_job, lambda decision: None, must_wait, is_over)


@pytest.fixture
def assignment():
    spec = SweepSpec(name="test", base={"model": "tiny", "dataset": "digits", "epochs": 2})
    return Assignment.whole(expand_trials(spec, describe_dataset)[0])


def test_search_that_waits_is_asked_again_and_one_that_is_done_is_not(assignment):
    searcher = make_searcher(Script(assignment, WAIT, DONE))
    job = searcher.suggest("a")
    assert (job["trial_id"], job["until_epoch"]) == (assignment.trial.config.trial_id, 2)
    assert searcher.suggest("b") is None
    assert searcher.suggest("c") == Searcher.FINISHED
    assert searcher.assignments == {assignment.trial.config.trial_id: assignment}


def test_search_that_waits_for_nothing_is_an_error_and_no_endless_loop(assignment):
    with pytest.raises(RuntimeError, match="must not wait if no trial runs"):
        make_searcher(Script(WAIT)).suggest("a")


def test_no_trial_starts_while_rows_wait_or_after_a_signal(assignment):
    search = Script(assignment)
    assert make_searcher(search, must_wait=lambda: True).suggest("a") is None
    assert make_searcher(search, is_over=lambda: True).suggest("a") == Searcher.FINISHED
    assert search.steps == [assignment], "the search was not asked"


def test_ray_copies_and_pickles_nothing_of_the_driver(assignment):
    searcher = make_searcher(Script(assignment))
    assert copy.deepcopy(searcher) is searcher
    assert type(pickle.loads(pickle.dumps(searcher))) is DriverSide


@pytest.mark.parametrize(("ours", "is_silent"), [([NoRayOutput()], True), ([], False)])
def test_ray_prints_nothing_of_a_trial_that_ends_before_its_first_epoch(ours, is_silent, monkeypatch, capsys):
    from ray.tune.utils.callback import _create_default_callbacks

    from flexres_tune.cluster.connection import ENVIRONMENT

    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    trial = Mock(last_result={})
    for callback in _create_default_callbacks(list(ours), air_verbosity=None):
        callback.on_trial_complete(0, [trial], trial)
    assert (capsys.readouterr().out == "") == is_silent


@pytest.mark.parametrize(("num_failures", "status"), [(1, "interrupted"), (3, "failed")])
def test_trial_whose_process_died_before_it_started_is_left_to_the_next_pass(assignment, paths, num_failures, status):
    """Tune does not start a trial again if the process that it was to reuse has died."""
    searcher = make_searcher(Script(assignment))
    searcher.suggest("1")
    trial_id = assignment.trial.config.trial_id
    trial = SimpleNamespace(
        trial_id="1", config={"trial_id": trial_id}, num_failures=num_failures, max_failures=2, get_error=lambda: None
    )
    with SweepWriter(paths) as writer:
        journal = Journal(make_sweep(name=paths.sweep), writer, VERSIONS, None)
        watchdog = Watchdog(journal, None)
        JournalCallback(journal, searcher, watchdog, {}, lambda state: None, print).on_trial_error(0, [], trial)
        assert journal.states[trial_id].record.status == status
