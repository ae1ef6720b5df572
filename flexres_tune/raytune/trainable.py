"""The Ray trainable: run_job's reports, handed to ray.tune.report."""

from __future__ import annotations

from typing import Any

from ray import tune

from flexres_tune.sweep.worker import TrialJob, run_job

REPORT_KEY = "report"


def train_trial(config: dict[str, Any]) -> None:
    """A function trainable: `config` is TrialJob's fields.

    The last report carries `done`, so that Tune ends the trial with it and needs no further round trip.
    """
    for report in run_job(TrialJob(**config)):
        tune.report({REPORT_KEY: report, "done": report.status is not None})
