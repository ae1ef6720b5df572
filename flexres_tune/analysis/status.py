"""Status of a sweep: how many of its planned trials are done or missing, and why trials failed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from flexres_tune.errors import ResultsError
from flexres_tune.records import TrialStatus, column
from flexres_tune.results.holder import Holder
from flexres_tune.results.lock import find_holder
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import read_plan
from flexres_tune.results.reader import Results
from flexres_tune.text import last_line

FAILURES = (TrialStatus.FAILED, TrialStatus.OUT_OF_MEMORY, TrialStatus.DIVERGED)


@dataclass(frozen=True)
class Failure:
    """A trial that failed, and the last line of its error: in a traceback, the exception."""

    trial_id: str
    status: str
    reason: str


@dataclass(frozen=True)
class SweepStatus:
    """How far a sweep is: a row of `query status`; planned = all counts + missing, unless some rows are unplanned."""

    sweep: str = column("sweep's name")
    planned: int | None = column("trials planned; null if the sweep has no plan", "trials")
    completed: int = column("trials that ran to the end", "trials")
    stopped: int = column("trials that the scheduler stopped", "trials")
    paused: int = column("trials that the search paused, and may continue", "trials")
    diverged: int = column("trials whose loss was not finite", "trials")
    out_of_memory: int = column("trials that ran out of memory", "trials")
    failed: int = column("trials that raised an exception", "trials")
    interrupted: int = column("trials that will be resumed by the sweep's command", "trials")
    missing: int = column("planned trials without a row; while a driver runs, also those that it resumes", "trials")
    unplanned: int = column("rows that belong to an earlier version of the sweep file", "trials")
    running: bool = column("whether a driver is running the sweep")
    profile: str | None = column("profile of the sweep file")
    driver: str | None = column("host and pid of the driver")
    command: str | None = column("command that runs what is missing")
    holder: Holder | None  # the driver that is running the sweep
    failures: list[Failure]
    problem: str  # why the plan cannot be read; empty if it can


def sweep_status(results: Results, sweep: str) -> SweepStatus:
    """Status of one sweep. If its plan is damaged, `problem` says so, and its rows are still counted.

    Raises:
        ResultsError: no such sweep.
    """
    paths = SweepPaths(results.root, sweep)
    rows = results.table("trials", sweep, ["trial_id", "stage", "status", "error"]).to_pylist()
    plan, problem = None, ""
    try:
        plan = read_plan(paths)
    except ResultsError as error:
        problem = str(error)
    have = {(row["trial_id"], row["stage"]) for row in rows}
    listed = {(trial.trial_id, trial.stage) for trial in plan.trials} if plan else set()
    to_be_drawn = max(0, plan.num_trials - len(listed)) if plan else 0
    others = len(have - listed) if plan else 0  # drawn during the sweep (tpe), or of an earlier file
    missing = len(listed - have) + max(0, to_be_drawn - others)
    counts = Counter(row["status"] for row in rows)
    holder = find_holder(paths)
    if holder is not None:
        # An interrupted trial is running again or will be; with tpe, a trial has this row from its start.
        interrupted = {(row["trial_id"], row["stage"]) for row in rows if row["status"] == TrialStatus.INTERRUPTED}
        num_resumed = len(interrupted if to_be_drawn else interrupted & listed)
        missing += num_resumed
        counts[TrialStatus.INTERRUPTED] -= num_resumed
    return SweepStatus(
        sweep=sweep,
        planned=plan.num_trials if plan else None,
        **{status.value: counts[status] for status in TrialStatus},
        missing=missing,
        unplanned=max(0, others - to_be_drawn),
        running=holder is not None,
        profile=plan.profile if plan else None,
        driver=f"{holder.host} pid {holder.pid}" if holder else None,
        command=plan.command if plan else None,
        holder=holder,
        failures=[
            Failure(row["trial_id"], row["status"], last_line(row["error"]))
            for row in rows
            if row["status"] in FAILURES
        ],
        problem=problem,
    )
