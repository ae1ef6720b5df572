"""The plan that a driver leaves beside the tables, so that `query status` can say what is missing; without ray."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from datetime import UTC, datetime

from flexres_tune.raytune.versions import versions
from flexres_tune.records import Stage
from flexres_tune.results.plan import Plan
from flexres_tune.results.plan import PlannedTrial as PlanRow
from flexres_tune.spec import PlannedTrial, SweepSpec


def make_plan(spec: SweepSpec, trials: Sequence[PlannedTrial], command: str) -> Plan:
    """Plan of the trials known by now.

    Args:
        command: what a person types to go on.
    """
    num_screen = spec.num_trials * len(spec.seeds) if spec.method == "tpe" else None
    num_confirm = spec.confirm.top * len(spec.confirm.seeds) if spec.confirm else 0
    listed = [t for t in trials if t.stage == Stage.SCREEN]
    return Plan(
        sweep=spec.name,
        description=spec.description,
        profile=spec.profile,
        command=command,
        order_seed=spec.order_seed,
        trials=tuple(PlanRow(t.config.trial_id, t.config.config_id, t.config.seed, t.stage) for t in trials),
        num_trials=(num_screen or len(listed)) + num_confirm,
        created_at=datetime.now(UTC),
        versions=versions(),
        host=socket.gethostname(),
        pid=os.getpid(),
        spec=spec.resolved(),
    )
