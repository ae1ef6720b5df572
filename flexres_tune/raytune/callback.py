"""Callback as Ray sees it: every event of a trial goes to the journal, and from there to the tables."""

from __future__ import annotations

import time
from collections.abc import Callable

from ray import tune
from ray.tune.experiment import Trial

from flexres_tune.raytune.driver_side import DriverSide
from flexres_tune.raytune.hold import Hold
from flexres_tune.raytune.journal import Journal, TrialState
from flexres_tune.raytune.search import SourceSearcher
from flexres_tune.raytune.sources import TrialSource
from flexres_tune.raytune.trainable import REPORT_KEY
from flexres_tune.raytune.watch import HangWatch
from flexres_tune.records import TrialStatus


class JournalCallback(DriverSide, tune.Callback):
    """Driver side of a sweep: journal, source and display hear what Ray Tune hears."""

    def __init__(
        self,
        journal: Journal,
        hold: Hold,
        watch: HangWatch,
        searcher: SourceSearcher,
        source: TrialSource,
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
        self._hold = hold
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
            self._on_message(f"{problem}; trial {state.trial_id} goes on, and would start anew if it were interrupted")
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
        self._watch.look(trials, time.monotonic())
        with self._journal.lock:
            if not self._journal.is_closed:
                self._hold.flush(time.monotonic())

    def _finish(self, trial_id: str, status: TrialStatus | None = None, error: str | None = None) -> None:
        with self._journal.lock:
            self._journal.finish(trial_id, status, error)
        state = self._journal.states[trial_id]
        self._source.tell(state.planned, self._score(state))
        self._on_change(state)


def _error_text(trial: Trial) -> str:
    error = trial.get_error()
    return f"{type(error).__name__}: {error}" if error is not None else "the trial's process died without a message"
