"""What `auto` of a sweep file stands for on the connected cluster: the precision of all trials, and what each takes of it.

Both are measured before the first trial of a stage runs, if the sweep is long enough for that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from flexres_tune.cluster.packing import resolve_auto_resources
from flexres_tune.cluster.ray_processes import call_unless_ray_died
from flexres_tune.cluster.resources import ClusterResources, TrialResources, trial_resources
from flexres_tune.results.paths import SweepPaths
from flexres_tune.spec import PlannedTrial, SweepSpec, TrialConfig
from flexres_tune.sweep.precision import (
    Measurement,
    Precisions,
    decide_precisions,
    describe_precisions,
    measure_precision,
    recorded_precisions,
)


@dataclass(frozen=True)
class AutoValues:
    """Finds them for one sweep."""

    spec: SweepSpec
    paths: SweepPaths
    max_concurrent: int | None
    say: Callable[[str], None]  # prints one line
    step: Callable[[str], AbstractContextManager[None]]  # of a step before the first trial, with its name

    def precisions(self, trials: Sequence[PlannedTrial], cluster: ClusterResources) -> Precisions:
        """What `precision: auto` stands for, by kind of device: as in the sweep's earlier trials, else measured."""
        from flexres_tune.cluster.nodes import call_with_resources

        if recorded := recorded_precisions(self.paths):
            self.say(f"{self.spec.name}: precision {describe_precisions(recorded)}, as in its earlier trials")
            return recorded
        trial = trial_resources(self.spec.resources_per_trial, cluster, self.max_concurrent)

        def measure(config: TrialConfig) -> Measurement:
            arguments = (config.to_dict(), trial.num_threads, os.getcwd(), trial.gpu)
            return call_unless_ray_died(
                lambda: call_with_resources(trial.cpu, trial.gpu, measure_precision, *arguments)
            )

        with self.step("measuring which precision is faster"):
            precisions, reason = decide_precisions(self.spec, trials, measure)
        if reason:
            self.say(f"{self.spec.name}: precision {reason}")
        return precisions

    def resources(
        self, missing: Sequence[PlannedTrial], cluster: ClusterResources, precisions: Precisions
    ) -> tuple[TrialResources, str]:
        """(what each trial takes of the cluster, why): as in the sweep file, with `auto` measured for `missing`."""
        requested = self.spec.resources_per_trial
        with self.step("measuring how many trials share a device best"):
            requested, measured = call_unless_ray_died(
                lambda: resolve_auto_resources(requested, cluster, missing, precisions)
            )
        found = trial_resources(requested, cluster, self.max_concurrent)
        return found, found.reason + (f"; {measured}" if measured else "")
