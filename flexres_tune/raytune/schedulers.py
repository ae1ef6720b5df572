"""Scheduler as Ray sees it: first in, first out, stopping where the journal's rule says so."""

from __future__ import annotations

from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from flexres_tune.raytune.driver_side import DriverSide
from flexres_tune.raytune.journal import Journal
from flexres_tune.raytune.trainable import REPORT_KEY


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
