"""The Ray trainable: run_job's reports, handed to ray.tune.report."""

from __future__ import annotations

import os
from typing import Any

from ray import tune

from flexres_tune.cluster.nodes import drain_this_node
from flexres_tune.sweep.spot import NodeLeavingError
from flexres_tune.sweep.worker import TrialJob, run_job

REPORT_KEY = "report"


def train_trial(config: dict[str, Any]) -> None:
    """A function trainable: `config` is TrialJob's fields.

    The last report carries `done`, so that Tune ends the trial with it and needs no further round trip. If the machine
    is about to be taken away, this process ends: Tune starts the trial again on another machine, and does not count
    that as a failure, because the node is draining.
    """
    try:
        for report in run_job(TrialJob(**config)):
            tune.report({REPORT_KEY: report, "done": report.status is not None})
    except NodeLeavingError:
        drain_this_node("the cloud takes this machine away")
        os._exit(1)  # an exception would be a failure of the trial
