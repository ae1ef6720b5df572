"""DriverSide: an object that stays in the driver's memory, whatever Ray pickles or copies around it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict

from ray import tune
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from flexres_tune.raytune.trainable import REPORT_KEY
from flexres_tune.raytune.watchdog import Watchdog
from flexres_tune.records import TrialStatus
from flexres_tune.search.sources import TrialSearch
from flexres_tune.spec import PlannedTrial
from flexres_tune.sweep.journal import Journal, TrialState
from flexres_tune.sweep.worker import TrialJob


class DriverSide:
    """Base of what we hand to Tuner: it holds open files and locks, and is read back by nobody.

    Tuner pickles its searcher, scheduler, callbacks and stopper into tuner.pkl for Tuner.restore, which is not used
    here: runs go on from the tables. So a pickle holds an empty DriverSide, and a deep copy is the object itself.
    """

    def __reduce__(self) -> tuple:
        return DriverSide, ()

    def __deepcopy__(self, memo: dict) -> DriverSide:
        return self


class SourceSearcher(DriverSide, Searcher):
    """Turns planned trials into Ray's configurations, in the source's order."""

    def __init__(
        self,
        source: TrialSearch,
        make_job: Callable[[PlannedTrial], TrialJob],
        is_held: Callable[[], bool],
        is_over: Callable[[], bool],
    ):
        """Args:
        is_held: whether no trial may start for the time being.
        is_over: whether no trial will start any more, because a signal has come.
        """
        super().__init__()
        self._source = source
        self._make_job = make_job
        self.planned: dict[str, PlannedTrial] = {}  # by our trial_id
        self._is_held = is_held
        self._is_over = is_over

    def suggest(self, trial_id: str) -> dict | str | None:
        if self._is_over():
            return Searcher.FINISHED
        if self._is_held():
            return None  # Ray asks again
        planned = self._source.next()
        if planned is None:
            return Searcher.FINISHED
        job = self._make_job(planned)
        self.planned[job.trial_id] = planned
        return asdict(job)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Nothing to do: the callback tells the source, with the score that stands in the tables."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: what was run stands in the tables."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: runs go on from the tables, not from Ray's snapshots."""


class JournalScheduler(DriverSide, FIFOScheduler):
    """Asks `Journal.should_stop` at every report.

    One object serves asha, hyperband, median and none for every number of epochs: the rules are rows of
    `stopping.RULES`. Ray's own schedulers hold one ladder a Tuner, let NaN go on, and keep their state out
    of any table, so a restart would decide differently.
    """

    def __init__(self, journal: Journal):
        super().__init__()
        self._journal = journal

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict) -> str:
        report = result.get(REPORT_KEY)
        with self._journal.lock:
            stop = report is not None and self._journal.should_stop(trial.config["trial_id"], report)
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE


class JournalCallback(DriverSide, tune.Callback):
    """Driver side of a sweep: journal, source and display hear what Ray Tune hears."""

    def __init__(
        self,
        journal: Journal,
        watch: Watchdog,
        searcher: SourceSearcher,
        source: TrialSearch,
        first_attempt: Callable[[str], int],
        score: Callable[[TrialState], float | None],
        on_change: Callable[[TrialState], None],
        on_message: Callable[[str], None],
    ):
        """Args:
        first_attempt: by trial_id, the number of this session's first attempt (the tables know earlier ones).
        score: what the source is told when a trial ends; None where it has no score.
        on_change: the display, told of every epoch and every end.
        on_message: the display, told what a person should know.
        """
        self._journal = journal
        self._watch = watch
        self._searcher = searcher
        self._source = source
        self._first_attempt = first_attempt
        self._score = score
        self._on_change = on_change
        self._on_message = on_message
        self._with_problem: set[str] = set()
        self._said: set[str] = set()

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info) -> None:
        trial_id = trial.config["trial_id"]
        attempt = self._first_attempt(trial_id) + trial.num_failures
        with self._journal.lock:
            state = self._journal.start(self._searcher.planned[trial_id], attempt)
        self._on_change(state)

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info) -> None:
        if REPORT_KEY not in result:
            return
        with self._journal.lock:
            state = self._journal.states[trial.config["trial_id"]]
            state.node_ip = result.get("node_ip", state.node_ip)
            self._journal.add(state.trial_id, result[REPORT_KEY])
        problem, notice = result[REPORT_KEY].facts.problem, result[REPORT_KEY].facts.notice
        if notice and notice not in self._said:
            self._said.add(notice)
            self._on_message(notice)
        if problem and state.trial_id not in self._with_problem:
            self._with_problem.add(state.trial_id)
            self._on_message(
                f"{problem}; trial {state.trial_id} continues, and if it is interrupted now, it resumes from its last "
                "saved checkpoint"
            )
        self._on_change(state)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info) -> None:
        trial_id = trial.config["trial_id"]
        if trial_id in self._journal.states:  # a trial that never started has no row
            self._finish(trial_id)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info) -> None:
        """The trial's process died more often than it is retried, or was ended because it hung."""
        trial_id = trial.config["trial_id"]
        if trial_id not in self._journal.states:
            with self._journal.lock:
                self._journal.start(self._searcher.planned[trial_id], self._first_attempt(trial_id))
        self._finish(trial_id, TrialStatus.FAILED, self._watch.ended.get(trial_id) or _error_text(trial))

    def on_step_end(self, iteration: int, trials: list[Trial], **info) -> None:
        self._watch.check(trials, time.monotonic())

    def _finish(self, trial_id: str, status: TrialStatus | None = None, error: str | None = None) -> None:
        with self._journal.lock:
            self._journal.finish(trial_id, status, error)
        state = self._journal.states[trial_id]
        self._source.tell(state.planned, self._score(state))
        self._on_change(state)


def _error_text(trial: Trial) -> str:
    error = trial.get_error()
    return f"{type(error).__name__}: {error}" if error is not None else "the trial's process died without a message"
