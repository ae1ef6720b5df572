"""Trials that take a second per epoch and no CPU time, and write down when each of them runs.

Through FLEXRES_TUNE_TRIAL_HOOK (sweep/worker.py). SLOW_MOTION names the file: one line per begin and end.
"""

import os
import time


def apply(job, reports):
    """The hook: the trial's reports, slowed down."""

    def note(sign):
        with open(os.environ["SLOW_MOTION"], "a") as file:
            file.write(f"{time.time()} {sign} {job.trial_id}\n")

    note("+")
    try:
        for report in reports:
            time.sleep(0 if report.is_repeat else 1.0)
            yield report
    finally:
        note("-")
