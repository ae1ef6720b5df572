"""Trials that take SLOW_MOTION_EPOCH_S per epoch and hardly any CPU time, and write down when each of them runs.

Through FLEXRES_TUNE_TRIAL_HOOK (sweep/worker.py). SLOW_MOTION names the file: one line per begin and end. The start of a
process, which takes long on a busy machine, belongs to its first trial.
"""

import os
import time

import psutil

_has_begun: list[bool] = []


def apply(job, reports):
    """The hook: the trial's reports, slowed down."""
    epoch_s = float(os.environ["SLOW_MOTION_EPOCH_S"])

    def note(sign, at):
        with open(os.environ["SLOW_MOTION"], "a") as file:
            file.write(f"{at} {sign} {job.trial_id}\n")

    note("+", time.time() if _has_begun else psutil.Process().create_time())
    _has_begun.append(True)
    try:
        for report in reports:
            time.sleep(0 if report.is_repeat else epoch_s)
            yield report
    finally:
        note("-", time.time())
