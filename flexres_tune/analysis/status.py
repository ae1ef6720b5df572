"""Status: a row a sweep, planned = done + missing, and why trials failed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from flexres_tune.errors import ResultsError
from flexres_tune.records import TrialStatus
from flexres_tune.results.holder import Holder
from flexres_tune.results.lock import find_holder
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import Plan, read_plan
from flexres_tune.results.reader import Results

FAILURES = (TrialStatus.FAILED, TrialStatus.OUT_OF_MEMORY, TrialStatus.DIVERGED)


@dataclass(frozen=True)
class Failure:
    """A trial that did not end well, and the last line of its error: the exception's own."""

    trial_id: str
    status: str
    reason: str


@dataclass(frozen=True)
class SweepStatus:
    """Where a sweep stands."""

    sweep: str
    planned: int | None  # None where it has no plan
    counts: Counter[str]  # of trials by how they ended
    missing: int  # planned, and without a row; while a driver runs, with those it takes up again
    unplanned: int  # rows of an earlier form of the sweep file, kept
    driver: Holder | None  # the driver that runs it now
    plan: Plan | None
    failures: list[Failure] = field(default_factory=list)
    problem: str = ""  # why there is no plan, where it is damaged

    @property
    def to_do(self) -> int:
        """Trials that the sweep's command would run."""
        return self.missing + self.counts[TrialStatus.INTERRUPTED]


def sweep_status(results: Results, sweep: str) -> SweepStatus:
    """Where one sweep stands; a damaged plan is a `problem` of it, and the rows are counted all the same.

    Raises:
        ResultsError: no such sweep.
    """
    paths = SweepPaths(results.root, sweep)
    columns = ["trial_id", "stage", "status", "error"]
    rows = results.trials(sweep).select(columns).to_pylist()
    plan, problem = None, ""
    try:
        plan = read_plan(paths)
    except ResultsError as error:
        problem = str(error)
    have = {(row["trial_id"], row["stage"]) for row in rows}
    listed = {(trial.trial_id, trial.stage) for trial in plan.trials} if plan else set()
    to_be_drawn = max(0, plan.num_trials - len(listed)) if plan else 0
    others = len(have - listed) if plan else 0  # drawn as the sweep went, or of an earlier form of it
    missing = len(listed - have) + max(0, to_be_drawn - others)
    counts = Counter(row["status"] for row in rows)
    driver = find_holder(paths)
    if driver is not None:  # what was cut off is running again, or about to; tpe writes this row before a trial starts
        cut_off = {(row["trial_id"], row["stage"]) for row in rows if row["status"] == TrialStatus.INTERRUPTED}
        again = len(cut_off if to_be_drawn else cut_off & listed)
        missing += again
        counts[TrialStatus.INTERRUPTED] -= again
    return SweepStatus(
        sweep=sweep,
        planned=plan.num_trials if plan else None,
        counts=counts,
        missing=missing,
        unplanned=max(0, others - to_be_drawn),
        driver=driver,
        plan=plan,
        failures=[
            Failure(row["trial_id"], row["status"], last_line(row["error"]))
            for row in rows
            if row["status"] in FAILURES
        ],
        problem=problem,
    )


def last_line(error: str | None) -> str:
    """The last line with something in it: of a traceback, the exception."""
    lines = (error or "").strip().splitlines()
    return lines[-1].strip() if lines else "no message"


def status_table(statuses: list[SweepStatus]) -> pa.Table:
    """A row a sweep."""
    rows = [
        {
            "sweep": each.sweep,
            "planned": each.planned,
            **{status.value: each.counts[status] for status in TrialStatus},
            "missing": each.missing,
            "unplanned": each.unplanned,
            "running": each.driver is not None,
            "profile": each.plan.profile if each.plan else None,
            "driver": None if each.driver is None else f"{each.driver.host} pid {each.driver.pid}",
            "command": each.plan.command if each.plan else None,
        }
        for each in statuses
    ]
    whole = ("planned", *TrialStatus, "missing", "unplanned")
    kinds = {name: pa.int64() for name in whole} | {"running": pa.bool_()}
    names = ["sweep", "planned", *TrialStatus, "missing", "unplanned", "running", "profile", "driver", "command"]
    return pa.Table.from_pylist(rows, pa.schema([(str(name), kinds.get(name, pa.string())) for name in names]))
