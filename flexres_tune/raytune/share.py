"""What one trial takes of a cluster, and how many run at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from flexres_tune.errors import DeviceError
from flexres_tune.raytune.size import Cluster, NodeSize
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
            alone = replace(self, gpu=max(1.0, self.gpu), reason="a GPU each")
            return replace(alone, num_concurrent=max(1, num_slots(cluster.sizes, alone.cpu, alone.gpu)))
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
        cpu = max(1, int(cluster.cpus_per_gpu * gpu)) if gpu else 1
    if cpu > cluster.num_cpus:
        raise DeviceError(
            f"resources_per_trial.cpu <= CPUs in the cluster must hold, but got {cpu:g} and {cluster.num_cpus:g}; "
            f"use --set resources_per_trial.cpu={int(cluster.num_cpus)}"
        )
    slots = num_slots(cluster.sizes, cpu, gpu)
    if not slots:
        have = " or ".join(_amounts(node.num_cpus, node.num_gpus) for node in sorted(set(cluster.sizes), reverse=True))
        raise DeviceError(
            f"resources_per_trial must fit on one node, but got {_amounts(cpu, gpu)}, and a node has {have}; use "
            f"{_what_fits(cluster.sizes, cpu, gpu)}"
        )
    num_concurrent = min(slots, max_concurrent or slots)
    return TrialShare(float(cpu), float(gpu), num_concurrent, f"{num_concurrent} at once, {_amounts(cpu, gpu)} each")


def num_slots(nodes: Sequence[NodeSize], cpu: float, gpu: float) -> int:
    """Trials that can run at once, node by node: what is left over on two nodes makes no slot."""
    return sum(_slots(node, cpu, gpu) for node in nodes)


def _slots(node: NodeSize, cpu: float, gpu: float) -> int:
    slots = [_fits(node.num_cpus, cpu)]
    if gpu:  # Ray never lends a trial parts of two GPUs
        slots.append(_fits(node.num_gpus, gpu) if gpu >= 1 else _fits(1, gpu) * int(node.num_gpus))
    return min(slots)


def _fits(whole: float, part: float) -> int:
    return int(whole / part + 1e-9)  # 0.3 / 0.1 is a little less than 3


def _amounts(cpu: float, gpu: float) -> str:
    return f"{cpu:g} CPU" + ("s" if cpu != 1 else "") + (f" and {gpu:g} GPU" + ("s" if gpu > 1 else "") if gpu else "")


def _what_fits(nodes: Sequence[NodeSize], cpu: float, gpu: float) -> str:
    """What the largest node can hold, as options of the command."""
    largest = max(nodes)
    options = {"gpu": (gpu, largest.num_gpus), "cpu": (cpu, largest.num_cpus)}
    return " ".join(
        f"--set resources_per_trial.{name}={most:g}" for name, (asked, most) in options.items() if asked > most
    )
