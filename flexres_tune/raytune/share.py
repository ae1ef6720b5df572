"""What one trial takes of a cluster, and how many run at once."""

from __future__ import annotations

from dataclasses import dataclass, replace

from flexres_tune.errors import DeviceError
from flexres_tune.raytune.cluster import Cluster
from flexres_tune.spec import Resources


@dataclass(frozen=True)
class TrialShare:
    """What one trial takes, and how many run at once."""

    cpu: float
    gpu: float
    num_concurrent: int
    reason: str

    @property
    def num_threads(self) -> int:
        return max(1, int(self.cpu))

    def whole_device(self, cluster: Cluster) -> TrialShare:
        """For trials that ran out of memory beside others: a GPU each, or one at a time where there is none."""
        if self.gpu:
            return replace(self, gpu=max(1.0, self.gpu), num_concurrent=int(cluster.num_gpus), reason="a GPU each")
        return replace(self, num_concurrent=1, reason="one at a time")


def share_for(requested: Resources, cluster: Cluster, max_concurrent: int | None) -> TrialShare:
    """What each trial takes. `auto` is one GPU a trial where there are any, and an equal share of the CPUs.

    Raises:
        DeviceError: no node of the cluster can ever hold one trial; Ray would wait for ever.
    """
    gpu = requested.gpu
    if gpu == "auto":
        gpu = 1.0 if cluster.num_gpus else 0.0
    if gpu and gpu > cluster.num_gpus:
        raise DeviceError(
            f"resources_per_trial.gpu <= GPUs in the cluster must hold, but got {gpu:g} and {cluster.num_gpus:g}; "
            "use --profile laptop, or --set resources_per_trial.gpu=0 to train on CPUs"
        )
    cpu = requested.cpu
    if cpu == "auto":
        cpu = max(1, int(cluster.num_cpus / cluster.num_gpus * gpu)) if gpu else 1
    if cpu > cluster.num_cpus:
        raise DeviceError(
            f"resources_per_trial.cpu <= CPUs in the cluster must hold, but got {cpu:g} and {cluster.num_cpus:g}; "
            f"use --set resources_per_trial.cpu={int(cluster.num_cpus)}"
        )
    slots = [int(cluster.num_cpus / cpu)] if cpu else []
    if gpu:
        slots.append(int(cluster.num_gpus / gpu) if gpu >= 1 else int(1 / gpu) * int(cluster.num_gpus))
    if max_concurrent:
        slots.append(max_concurrent)
    num_concurrent = max(1, min(slots))
    what = f"{cpu:g} CPU" + ("s" if cpu != 1 else "") + (f" and {gpu:g} GPU" if gpu else "")
    return TrialShare(float(cpu), float(gpu), num_concurrent, f"{num_concurrent} at once, {what} each")
