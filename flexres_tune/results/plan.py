"""Plan: the trials that a sweep was started with, saved as plan.json, so that `status` can tell which are missing."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import socket
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from flexres_tune.errors import ResultsError, describe_os_error
from flexres_tune.provenance import versions
from flexres_tune.records import LeftOut, PrecisionUsed, Stage, Versions
from flexres_tune.results.paths import SweepPaths
from flexres_tune.spec import PlannedTrial, SweepSpec
from flexres_tune.spec.levels import list_levels
from flexres_tune.storage import atomic_write_text, read_file

if TYPE_CHECKING:
    from pydantic import TypeAdapter

Whole = Annotated[int, Field(ge=0, lt=2**63)]  # a larger number fits no column of a table


@dataclass(frozen=True)
class PlanRow:
    """One trial of a plan."""

    trial_id: str
    config_id: str
    seed: Whole
    stage: str  # screen | confirm


@dataclass(frozen=True)
class Plan:
    """What the driver was started to do; rewritten at each start, so that it describes the sweep as it is now."""

    sweep: str
    description: str
    profile: str  # none if no profile was applied
    command: str  # what the user typed; typing it again resumes the sweep
    order_seed: Whole  # of the shuffled order of trials
    trials: tuple[PlanRow, ...]  # those known before the start; a method that draws trials while it runs adds more
    num_trials: Whole  # all that will run; more than len(trials) if the method draws trials while it runs
    created_at: datetime
    versions: Versions
    host: str
    pid: Whole
    spec: dict[str, Any]  # the sweep file after profile and overrides were applied
    precisions: dict[str, PrecisionUsed] = field(default_factory=dict)  # of `precision: auto`, by kind of device
    device_share: float = 1.0  # part of a device that a trial holds: a GPU, or a node without GPUs
    left_out: LeftOut = field(default_factory=LeftOut)  # what did not fit into the budget, once the sweep has ended


def make_plan(
    spec: SweepSpec, trials: Sequence[PlannedTrial], command: str, precisions: Mapping[str, PrecisionUsed]
) -> Plan:
    """The plan of a sweep whose `trials` are known so far; `command` resumes it."""
    num_drawn = spec.num_trials * len(spec.seeds) if spec.method == "tpe" else None
    num_screened = num_drawn or sum(trial.stage == Stage.SCREEN for trial in trials)
    num_chosen = sum(trial.stage == Stage.CONFIRM for trial in trials)  # fewer if the baseline is one of the best
    num_confirmed = count_confirmation(spec, num_chosen)
    num_confirmed += spec.confirm is not None and spec.confirm.final is not None
    return Plan(
        sweep=spec.name,
        description=spec.description,
        profile=spec.profile,
        command=command,
        order_seed=spec.order_seed,
        trials=tuple(PlanRow(t.config.trial_id, t.config.config_id, t.config.seed, t.stage) for t in trials),
        num_trials=num_screened + num_confirmed,
        created_at=datetime.now(UTC),
        versions=versions(),
        host=socket.gethostname(),
        pid=os.getpid(),
        spec=spec.resolved(),
        precisions=dict(precisions),
    )


def count_confirmation(spec: SweepSpec, num_chosen: int = 0) -> int:
    """Trials of the confirmation; those that were chosen, once the screening has ended."""
    if spec.confirm is None:
        return 0
    num_candidates = spec.confirm.top * len(list_levels(spec)) + (spec.baseline is not None)
    return spec.confirm.num_runs or num_chosen or num_candidates * len(spec.confirm.seeds)


def closed_plan(plan: Plan, trial_ids: Collection[str], left_out: LeftOut) -> Plan:
    """The plan of a sweep that has nothing left to do, without trials that never started.

    These are further seeds of configurations that were stopped, runs that an adaptive confirmation did not need, and
    what a budget left out.
    """
    trials = tuple(row for row in plan.trials if row.trial_id in trial_ids)
    num_unlisted = len(set(trial_ids) - {row.trial_id for row in trials})
    num_drawn = max(0, plan.num_trials - len(plan.trials))
    num_trials = len(trials) + min(num_unlisted, num_drawn)
    return dataclasses.replace(plan, trials=trials, num_trials=num_trials, left_out=left_out)


def write_plan(paths: SweepPaths, plan: Plan) -> None:
    """Write plan.json.

    Raises:
        ResultsError: the folder cannot be written.
    """
    values = dataclasses.asdict(plan) | {"created_at": plan.created_at.isoformat()}
    atomic_write_text(paths.plan, json.dumps(values, indent=1, ensure_ascii=False))


def read_plan(paths: SweepPaths) -> Plan | None:
    """The plan; None if the sweep has none.

    Raises:
        ResultsError: plan.json cannot be read or is not a plan; names the first wrong field.
    """
    from pydantic import ValidationError

    try:
        text = read_file(paths.plan)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResultsError(f"{paths.plan}: cannot be read: {describe_os_error(error)}") from error
    try:
        return _plan_parser().validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ResultsError(
            f"{paths.plan}: not a plan: {key + ': ' if key else ''}{first['msg']}; run the sweep's command again "
            "to rewrite it"
        ) from None


@functools.cache
def _plan_parser() -> TypeAdapter[Plan]:
    """Made once, because that takes longer than to parse a plan; pydantic is imported when it is needed."""
    from pydantic import TypeAdapter

    return TypeAdapter(Plan)


def plan_or_none(paths: SweepPaths) -> Plan | None:
    """The plan of a sweep; None if it has none or a damaged one, which `query status` reports."""
    try:
        return read_plan(paths)
    except ResultsError:
        return None
