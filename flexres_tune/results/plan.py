"""Plan: the trials a sweep was started with, kept as plan.json, so that `status` can say which are missing."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from flexres_tune.errors import ResultsError
from flexres_tune.records import Versions
from flexres_tune.results.aside import describe, written_aside
from flexres_tune.results.paths import SweepPaths


@dataclass(frozen=True)
class PlannedTrial:
    trial_id: str
    config_id: str
    seed: int
    stage: str  # screen | confirm


@dataclass(frozen=True)
class Plan:
    """What the driver set out to do; written anew at each start, so that it describes the sweep as it is now."""

    sweep: str
    description: str
    profile: str  # none if none was laid over the file
    command: str  # to go on with the sweep: what the person typed
    order_seed: int  # of the shuffled order of trials
    trials: tuple[PlannedTrial, ...]  # those known before the start; a method that draws as it goes adds more
    num_trials: int  # all that will run; len(trials) unless the method draws as it goes
    created_at: datetime
    versions: Versions
    host: str
    pid: int
    spec: dict[str, Any]  # the sweep file as resolved, profile and overrides laid over it


def write_plan(paths: SweepPaths, plan: Plan) -> None:
    """Write plan.json aside and rename it.

    Raises:
        ResultsError: the folder cannot be written.
    """
    values = dataclasses.asdict(plan) | {"created_at": plan.created_at.isoformat()}
    with written_aside(paths.plan) as aside:
        aside.write_text(json.dumps(values, indent=1, ensure_ascii=False), encoding="utf-8")


def read_plan(paths: SweepPaths) -> Plan | None:
    """The plan; None where the sweep has none.

    Raises:
        ResultsError: plan.json is damaged or not a plan; names the first wrong field.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        text = paths.plan.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResultsError(f"{paths.plan}: cannot be read: {describe(error)}") from error
    try:
        return TypeAdapter(Plan).validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(map(str, first["loc"]))
        raise ResultsError(
            f"{paths.plan}: not a plan: {key + ': ' if key else ''}{first['msg']}; run the sweep's command again "
            "to have it written anew"
        ) from None
