"""What Ray's loop gets from the adapters; whole sweeps are run in tests/run/test_session.py."""

import copy
import pickle
from collections import Counter
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from helpers.factories import VERSIONS, make_sweep, make_trial
from ray.tune.experiment import Trial
from ray.tune.search import ConcurrencyLimiter, Searcher

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.raytune.adapters import (
    MAX_LOSSES,
    DriverSide,
    JournalCallback,
    JournalScheduler,
    NoRayOutput,
    SearchAdapter,
)
from flexres_tune.raytune.watchdog import Watchdog
from flexres_tune.results.writer import SweepWriter
from flexres_tune.search.base import DONE, WAIT, Assignment, Search
from flexres_tune.spec import SweepSpec, expand_trials
from flexres_tune.sweep.journal import Journal, TrialState
from flexres_tune.sweep.worker import TrialJob


class Script(Search):
    """A search that answers as written."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def ask(self):
        return self.steps.pop(0)

    def most_to_come(self):
        return sum(isinstance(step, Assignment) for step in self.steps)


def make_job(assignment):
    config = assignment.trial.config
    return TrialJob(config.trial_id, config.to_dict(), None, 10.0, 1, assignment.until_epoch)


def make_searcher(search, must_wait=lambda: False, is_over=lambda: False):
    return SearchAdapter(search, make_job, lambda decision: None, must_wait, is_over, on_lost=lambda trial_id: None)


def make_assignments(count):
    sweep = make_sweep(parameters={"lr": {"values": [0.01 * k for k in range(1, count + 1)]}})
    return [Assignment.whole(trial) for trial in expand_trials(sweep, describe_dataset)]


@pytest.fixture
def assignment():
    spec = SweepSpec(name="test", base={"model": "tiny", "dataset": "digits", "epochs": 2})
    return Assignment.whole(expand_trials(spec, describe_dataset)[0])


def test_search_that_waits_is_asked_again_and_one_that_is_done_is_not(assignment):
    searcher = make_searcher(Script(assignment, WAIT, DONE))
    job = searcher.suggest("a")
    assert (job["trial_id"], job["until_epoch"]) == (assignment.trial.config.trial_id, 2)
    assert searcher.suggest("b") is None
    assert searcher.suggest("c") is None, "the trial has not started, and may have to be handed out again"
    searcher.on_trial_complete("a")
    assert searcher.suggest("d") == Searcher.FINISHED
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


def test_trials_that_may_still_run_are_those_that_run_and_those_to_come():
    """Also once Tune asks for no further trial: the machines of the others end, and other sweeps get their slots."""
    first, second = make_assignments(2)
    searcher = make_searcher(Script(first, second, DONE))
    assert (searcher.num_to_come, searcher.most_at_once) == (2, 2)
    searcher.suggest("a")
    assert (searcher.num_to_come, searcher.most_at_once) == (1, 2)
    assert searcher.hand_out_again(first.trial.config.trial_id)
    assert (searcher.num_to_come, searcher.most_at_once) == (2, 2), "a trial that Tune has lost is still to come"
    for ray_id in "bc":
        searcher.suggest(ray_id)
    assert (searcher.num_to_come, searcher.most_at_once) == (0, 2)
    for left, each in ((1, first), (0, second)):
        searcher.tell(make_ended(each), make_sweep().metric)
        assert (searcher.num_to_come, searcher.most_at_once) == (0, left)


def make_ended(assignment):
    """The state of a trial that has failed before its first epoch."""
    record = make_trial(assignment.trial.config, "failed", best=None)
    return TrialState(assignment.trial, 1, record.started_at, record=record)


class Desk:
    """The adapters of a run with one trial at once, and a stand-in for each of Tune's trials."""

    def __init__(self, paths, assignments):
        self.searcher = make_searcher(Script(*assignments, DONE))
        self.limiter = ConcurrencyLimiter(self.searcher, 1)
        self.journal = Journal(make_sweep(name=paths.sweep), SweepWriter(paths), VERSIONS, None)
        watchdog = Watchdog(self.journal, None)
        self.callback = JournalCallback(self.journal, self.limiter, watchdog, {}, lambda state: None, print)

    def suggest(self, ray_id):
        """Tune's next trial, None if it gets none."""
        job = self.limiter.suggest(ray_id)
        if job in (None, Searcher.FINISHED):
            return None
        return SimpleNamespace(
            trial_id=ray_id,
            config={"trial_id": job["trial_id"]},
            status=Trial.PENDING,
            num_failures=0,
            max_failures=2,
            get_error=lambda: None,
        )

    def lose(self, trial, is_silent):
        """As Tune does with a trial whose process has died (it says so) or is not free in time (it does not)."""
        trial.status, trial.num_failures = Trial.ERROR, 2
        if not is_silent:
            self.limiter.on_trial_complete(trial.trial_id, error=True)
            self.callback.on_trial_error(0, [trial], trial)
        self.callback.on_step_end(0, [trial])

    def run(self, trial):
        trial.status = Trial.RUNNING
        self.callback.on_trial_start(0, [trial], trial)
        trial.status = Trial.TERMINATED
        self.limiter.on_trial_complete(trial.trial_id)
        self.callback.on_trial_complete(0, [trial], trial)
        self.callback.on_step_end(0, [trial])


@pytest.mark.parametrize("is_silent", [False, True])
def test_trial_that_tune_loses_before_it_starts_runs_before_the_ones_that_follow_it(paths, is_silent):
    assignments = make_assignments(3)
    desk, begun = Desk(paths, assignments), []
    for number in range(5):
        trial = desk.suggest(str(number))
        begun.append(trial.config["trial_id"])
        desk.lose(trial, is_silent) if number in (1, 2) else desk.run(trial)
    first, second, third = (each.trial.config.trial_id for each in assignments)
    assert begun == [first, second, second, second, third]
    assert desk.limiter.suggest("last") == Searcher.FINISHED
    assert {trial_id: state.attempt for trial_id, state in desk.journal.states.items()} == dict.fromkeys(
        (first, second, third), 1
    ), "a trial that never started has made no attempt"


def test_lost_trial_is_handed_out_again_although_the_search_is_done(paths):
    desk = Desk(paths, make_assignments(1))
    trial = desk.suggest("1")
    desk.limiter.max_concurrent = 2
    assert desk.limiter.suggest("2") is None
    desk.lose(trial, is_silent=True)
    assert desk.suggest("3").config == trial.config


def test_trial_that_is_lost_again_and_again_is_left_to_the_next_pass(paths):
    desk = Desk(paths, make_assignments(2))
    first = desk.suggest("0")
    for number in range(MAX_LOSSES + 1):
        trial = desk.suggest(str(number)) if number else first
        assert trial.config == first.config
        desk.lose(trial, is_silent=False)
    assert desk.journal.states[first.config["trial_id"]].record.status == "interrupted"
    assert desk.suggest("next").config != first.config


def test_trial_whose_process_cannot_start_has_failed(paths):
    desk = Desk(paths, make_assignments(1))
    trial = desk.suggest("1")
    trial.num_failures = 3
    desk.callback.on_trial_error(0, [trial], trial)
    assert desk.journal.states[trial.config["trial_id"]].record.status == "failed"


def test_trial_that_moves_to_another_machine_has_another_attempt_although_ray_counts_no_failure(paths):
    desk = Desk(paths, make_assignments(1))
    trial = desk.suggest("a")
    desk.callback.on_trial_start(0, [trial], trial)
    desk.callback.on_trial_start(0, [trial], trial)
    (state,) = desk.journal.states.values()
    assert (state.attempt, trial.num_failures) == (2, 0)


def test_idle_processes_are_kept_for_trials_that_follow_and_for_no_others():
    numbers, cache = iter([4, 4, 1, 0]), Counter()
    controller = SimpleNamespace(
        _actor_cache=SimpleNamespace(increase_max=lambda key, by: cache.update({key: by})),
        get_live_trials=set,
        get_trials=list,
    )
    scheduler = JournalScheduler(None, lambda: next(numbers))
    scheduler.on_trial_add(controller, SimpleNamespace(placement_group_factory="one GPU"))
    kept = [cache["one GPU"]]
    for _ in range(3):
        scheduler.choose_trial_to_run(controller)
        kept.append(cache["one GPU"])
    assert kept == [4, 4, 1, 0]


def test_free_process_goes_to_the_oldest_trial_for_which_none_is_starting():
    trials = [SimpleNamespace(status=status) for status in ("RUNNING", "PENDING", "PENDING", "PENDING")]
    running, starting, waiting, new = map(id, trials)
    actors = {running: "ready", starting: "has resources", waiting: "has none"}
    controller = SimpleNamespace(
        get_trials=lambda: trials,
        _trial_to_actor=SimpleNamespace(get=lambda trial: actors.get(id(trial))),
        _started_actors={"ready"},
        _actor_manager=SimpleNamespace(is_actor_started=lambda actor: actor in ("ready", "has resources")),
    )
    scheduler = JournalScheduler(None)
    assert id(scheduler.choose_trial_to_run(controller)) == waiting
    del trials[2]
    assert id(scheduler.choose_trial_to_run(controller)) == new
    del trials[2]
    assert id(scheduler.choose_trial_to_run(controller)) == starting, "its process is not ready, but another one is"
    del trials[1]
    assert scheduler.choose_trial_to_run(controller) is None
