"""Callback as Ray sees it: every event of a trial goes to the journal, and from there to the tables."""

from __future__ import annotations

import time
from collections.abc import Callable

from ray import tune
from ray.tune.experiment import Trial

from flexres_tune.raytune.driver_side import DriverSide
from flexres_tune.raytune.journal import Journal, TrialState
from flexres_tune.raytune.search import SourceSearcher
from flexres_tune.raytune.sources import TrialSource
from flexres_tune.raytune.trainable import REPORT_KEY
from flexres_tune.records import TrialStatus
from flexres_tune.results.writer import SweepWriter


class JournalCallback(DriverSide, tune.Callback):
    """Driver side of a sweep: journal, source and display hear what Ray Tune hears."""

    def __init__(
        self,
        journal: Journal,
        writer: SweepWriter,
        searcher: SourceSearcher,
        source: TrialSource,
        first_attempt: Callable[[str], int],
        score: Callable[[TrialState], float | None],
        on_change: Callable[[TrialState], None],
    ):
        """Args:
        first_attempt: by trial_id, the number of this session's first attempt (the tables know earlier ones).
        score: what the source is told when a trial ends; None where it has no score.
        on_change: the display, told of every epoch and every end.
        """
        self._journal = journal
        self._writer = writer
        self._searcher = searcher
        self._source = source
        self._first_attempt = first_attempt
        self._score = score
        self._on_change = on_change

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info) -> None:
        trial_id = trial.config["trial_id"]
        attempt = self._first_attempt(trial_id) + trial.num_failures
        state = self._journal.start(self._searcher.planned[trial_id], attempt)
        self._on_change(state)

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info) -> None:
        if REPORT_KEY not in result:
            return
        state = self._journal.states[trial.config["trial_id"]]
        state.node_ip = result.get("node_ip", state.node_ip)
        self._journal.add(state.trial_id, result[REPORT_KEY])
        self._on_change(state)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info) -> None:
        trial_id = trial.config["trial_id"]
        if trial_id in self._journal.states:  # a trial that never started has no row
            self._finish(trial_id)

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info) -> None:
        """The trial's process died more often than it is retried."""
        trial_id = trial.config["trial_id"]
        if trial_id not in self._journal.states:
            self._journal.start(self._searcher.planned[trial_id], self._first_attempt(trial_id))
        self._finish(trial_id, TrialStatus.FAILED, _error_text(trial))

    def on_step_end(self, iteration: int, trials: list[Trial], **info) -> None:
        self._writer.maybe_flush(time.monotonic())

    def _finish(self, trial_id: str, status: TrialStatus | None = None, error: str | None = None) -> None:
        self._journal.finish(trial_id, status, error)
        state = self._journal.states[trial_id]
        self._source.tell(state.planned, self._score(state))
        self._on_change(state)


def _error_text(trial: Trial) -> str:
    error = trial.get_error()
    return f"{type(error).__name__}: {error}" if error is not None else "the trial's process died without a message"
