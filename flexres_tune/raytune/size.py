"""Cluster: what Ray offers in all, and node by node; without ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, order=True)
class NodeSize:
    """What trials may take of one node."""

    num_gpus: float  # first, so that nodes are ordered by it
    num_cpus: float

    @classmethod
    def of(cls, resources: Mapping[str, float]) -> NodeSize:
        """Of a node's resources as Ray names them."""
        return cls(resources.get("GPU", 0), resources.get("CPU", 0))


@dataclass(frozen=True)
class Cluster:
    """What Ray offers; of a cluster that scales, what it may grow to."""

    num_cpus: float
    num_gpus: float
    num_nodes: int
    is_local: bool  # started for this run, and stopped with it
    nodes: tuple[NodeSize, ...] = ()  # each by itself; none given: one node has it all

    @property
    def sizes(self) -> tuple[NodeSize, ...]:
        return self.nodes or (NodeSize(self.num_gpus, self.num_cpus),)

    @property
    def cpus_per_gpu(self) -> float:
        """CPUs that each GPU's trials can have on every node with GPUs; a head without GPUs lends none of its own."""
        return min((node.num_cpus / node.num_gpus for node in self.sizes if node.num_gpus), default=0.0)
