"""`run --dry-run`: a row a trial, their totals, what of it is done, and the disk that the rest takes; without ray."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from flexres_tune.errors import DeviceError
from flexres_tune.places import AnyPath
from flexres_tune.raytune.disk import describe_disk
from flexres_tune.raytune.gpus import num_visible_gpus
from flexres_tune.raytune.share import share_for
from flexres_tune.raytune.size import Cluster
from flexres_tune.raytune.terminal import harmless
from flexres_tune.spec import PlannedTrial, SweepSpec, describe_plan


def print_listing(
    console: Console,
    spec: SweepSpec,
    trials: Sequence[PlannedTrial],
    missing: Sequence[PlannedTrial],
    folder: AnyPath,
    max_concurrent: int | None,
) -> None:
    """Args:
    trials: all of the sweep that are known before it runs.
    missing: those that the sweep's command would run.
    folder: where the rows of the others are.
    """
    plan = describe_plan(spec, trials)
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in plan.columns:
        table.add_column(name, no_wrap=True)
    for row in plan.rows:
        table.add_row(*map(harmless, row))
    if plan.rows:
        console.print(table)
    lines = [plan.totals]
    if num_done := len(trials) - len(missing):
        lines.append(f"{num_done} of them are done: their rows are in {folder}")
    lines.append(describe_disk(missing, _num_at_once(spec, max_concurrent)))
    for line in lines:
        console.print(harmless(line), soft_wrap=True)


def _num_at_once(spec: SweepSpec, max_concurrent: int | None) -> int:
    """Trials at once on this machine as far as it is known without Ray; `auto` is taken as one a CPU or GPU."""
    here = Cluster(os.cpu_count() or 1, num_visible_gpus() or 0, 1, is_local=True)
    try:
        return share_for(spec.resources_per_trial, here, max_concurrent).num_concurrent
    except DeviceError:  # the file is for another machine, which may be the one that it will run on
        return max_concurrent or 1
