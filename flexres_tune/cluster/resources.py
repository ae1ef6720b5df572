"""CPUs and GPUs: what a node has, what the cluster has in all, and what one trial takes of it. Imports no ray."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from flexres_tune.errors import DeviceError, SpecError
from flexres_tune.spec import Resources
from flexres_tune.spec.document.yaml_reader import read_yaml

KIND = "accelerator_type:"
ROOT = Path("/")
AUTOSCALER_CONFIG = Path("~/ray_bootstrap_config.yaml")  # as in `ray start --autoscaling-config` in cluster/*.yaml


@dataclass(frozen=True, order=True)
class NodeResources:
    """What trials may use of one node. Nodes are ordered by their GPUs, then by their CPUs."""

    num_gpus: float
    num_cpus: float

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> NodeResources:
        """From Ray's names: {"CPU": 16.0, "GPU": 1.0, ...}."""
        return cls(resources.get("GPU", 0), resources.get("CPU", 0))


@dataclass(frozen=True)
class ClusterResources:
    """What Ray offers; if the cluster scales, what it can grow to."""

    nodes: tuple[NodeResources, ...]
    num_alive: int  # nodes that are there now
    is_local: bool  # started for this run, and stopped with it
    gpu_kinds: tuple[str, ...] = ()  # models of its GPUs by Ray's names, such as H200, as far as Ray knows them

    @property
    def num_cpus(self) -> float:
        return sum(node.num_cpus for node in self.nodes)

    @property
    def num_gpus(self) -> float:
        return sum(node.num_gpus for node in self.nodes)

    @property
    def cpus_per_gpu(self) -> float:
        """CPUs available to the trials of each GPU on every node with GPUs. A head without GPUs does not count."""
        return min((node.num_cpus / node.num_gpus for node in self.nodes if node.num_gpus), default=0.0)


@dataclass(frozen=True)
class TrialResources:
    """What one trial takes, and how many trials run at once."""

    cpu: float
    gpu: float
    num_concurrent: int
    reason: str
    mps: bool = False  # whether trials that share a GPU are served by NVIDIA's MPS

    @property
    def num_threads(self) -> int:
        return max(1, int(self.cpu))

    def device_share(self, cluster: ClusterResources) -> float:
        """The part of a device that a trial holds if all slots are taken; without GPUs, a node is a device."""
        return (cluster.num_gpus if self.gpu else len(cluster.nodes)) / self.num_concurrent

    def whole_device(self, cluster: ClusterResources) -> TrialResources:
        """For trials that ran out of memory next to others: one GPU each, or without GPUs one trial at a time."""
        if self.gpu:
            alone = replace(self, gpu=max(1.0, self.gpu), reason="a GPU each")
            return replace(alone, num_concurrent=max(1, num_slots(cluster.nodes, alone.cpu, alone.gpu)))
        return replace(self, num_concurrent=1, reason="one at a time")


def trial_resources(requested: Resources, cluster: ClusterResources, max_concurrent: int | None) -> TrialResources:
    """What each trial takes. `auto` is one GPU per trial if there are GPUs, and an equal share of the CPUs.

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
    slots = num_slots(cluster.nodes, cpu, gpu)
    if not slots:
        have = " or ".join(_amounts(node.num_cpus, node.num_gpus) for node in sorted(set(cluster.nodes), reverse=True))
        raise DeviceError(
            f"resources_per_trial must fit on one node, but got {_amounts(cpu, gpu)}, and a node has {have}; use "
            f"{_options_that_fit(cluster.nodes, cpu, gpu)}"
        )
    num_concurrent = min(slots, max_concurrent or slots)
    reason = f"{num_concurrent} at once, {_amounts(cpu, gpu)} each"
    return TrialResources(float(cpu), float(gpu), num_concurrent, reason, mps=bool(gpu) and requested.mps == "on")


def num_slots(nodes: Sequence[NodeResources], cpu: float, gpu: float) -> int:
    """Trials that can run at once, counted per node: remainders of two nodes cannot be joined to a slot."""

    def slots(node: NodeResources) -> int:
        if not gpu:
            return _times(node.num_cpus, cpu)
        # Ray never gives a trial parts of two GPUs
        with_gpu = _times(node.num_gpus, gpu) if gpu >= 1 else _times(1, gpu) * int(node.num_gpus)
        return min(_times(node.num_cpus, cpu), with_gpu)

    return sum(map(slots, nodes))


def _times(whole: float, part: float) -> int:
    return int(whole / part + 1e-9)  # 0.3 / 0.1 is a little less than 3


def _amounts(cpu: float, gpu: float) -> str:
    return f"{cpu:g} CPU" + ("s" if cpu != 1 else "") + (f" and {gpu:g} GPU" + ("s" if gpu > 1 else "") if gpu else "")


def _options_that_fit(nodes: Sequence[NodeResources], cpu: float, gpu: float) -> str:
    """The most that the largest node can hold, as options of the command."""
    largest = max(nodes)
    options = {"gpu": (gpu, largest.num_gpus), "cpu": (cpu, largest.num_cpus)}
    return " ".join(
        f"--set resources_per_trial.{name}={most:g}" for name, (requested, most) in options.items() if requested > most
    )


def gpu_kinds(nodes: Sequence[Mapping[str, float]]) -> tuple[str, ...]:
    """Models of the GPUs of nodes, from Ray's names of their resources: {"GPU": 1.0, "accelerator_type:H200": 1.0}."""
    with_gpus = [node for node in nodes if node.get("GPU")]
    return tuple(sorted({name[len(KIND) :] for node in with_gpus for name in node if name.startswith(KIND)}))


def max_nodes(now: Sequence[NodeResources], config: Mapping[str, Any] | None) -> tuple[NodeResources, ...]:
    """The nodes with as many workers as the cluster file allows, or those that are there now if they have more.

    As many trials are started as fit on them: Ray starts machines for waiting trials, and only for those.
    """

    def total(nodes: Sequence[NodeResources]) -> tuple[float, float]:
        return sum(node.num_gpus for node in nodes), sum(node.num_cpus for node in nodes)

    return tuple(max(now, _allowed_nodes(config), key=total))


def _allowed_nodes(config: Mapping[str, Any] | None) -> list[NodeResources]:
    """The head and as many workers as the cluster file allows, those with the most GPUs first."""
    config = config or {}
    types = config.get("available_node_types") or {}
    head = config.get("head_node_type")
    num_left = int(config.get("max_workers") or 0)
    sizes = {name: NodeResources.of(node_type.get("resources") or {}) for name, node_type in types.items()}
    nodes = [sizes[head]] if head in sizes else []
    for name in sorted((name for name in types if name != head), key=sizes.__getitem__, reverse=True):
        count = min(num_left, int(types[name].get("max_workers", num_left)))
        num_left -= count
        nodes += [sizes[name]] * count
    return nodes


def read_autoscaler_config(path: Path = AUTOSCALER_CONFIG) -> Mapping[str, Any] | None:
    """The cluster file, or None if this machine is not the head of a cluster that `ray up` has started."""
    try:
        return read_yaml(str(path.expanduser())).data
    except SpecError:
        return None


def has_nvidia_gpu() -> bool:
    """Whether this process may use an NVIDIA GPU; found without torch, so that `--dry-run` answers at once."""
    return (num_visible_gpus() or 0) > 0


def num_visible_gpus() -> int | None:
    """NVIDIA GPUs that this process may use; None if it sees none and CUDA_VISIBLE_DEVICES is unset."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in ("", "-1", "NoDevFiles")])
    return _num_listed_gpus(ROOT) or _num_gpus_of_driver() or None


def _num_listed_gpus(root: Path) -> int:
    """GPUs that Linux lists; some sandboxes have the device files only, and Windows' Linux has neither."""
    listed = list((root / "proc/driver/nvidia/gpus").glob("*"))
    return len(listed or [file for file in (root / "dev").glob("nvidia*") if file.name[6:].isdecimal()])


def _num_gpus_of_driver() -> int:
    """GPUs that NVIDIA's management library counts; 0 without the library. Takes no memory of a GPU."""
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return 0
    count = ctypes.c_uint(0)
    if library.nvmlInit_v2() or library.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return 0
    library.nvmlShutdown()
    return count.value
