"""The nodes of a connected cluster, and one function run on each of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flexres_tune.cluster import probe

ANSWER_TIMEOUT_S = 180.0  # a first torch import, and a data set decoded
NUM_CLOCK_READINGS = 5


@dataclass(frozen=True)
class Node:
    """A machine that Ray counts as alive."""

    node_id: str
    address: str
    num_cpus: float
    num_gpus: float


@dataclass(frozen=True)
class NodeResult:
    """What a function returned on a node, or why there is nothing."""

    node: Node
    value: Any = None
    problem: str | None = None


def alive_nodes() -> list[Node]:
    """Nodes of the connected cluster, by address."""
    nodes = [
        Node(
            node["NodeID"], node["NodeManagerAddress"], node["Resources"].get("CPU", 0), node["Resources"].get("GPU", 0)
        )
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(nodes, key=lambda node: (node.address, node.node_id))


def on_every_node(
    nodes: Sequence[Node],
    function: Callable[..., Any],
    arguments: Callable[[Node], tuple[Any, ...]] = lambda node: (),
    timeout_s: float = ANSWER_TIMEOUT_S,
) -> list[NodeResult]:
    """Call a function of raytune/probe.py on every node at once; it takes no CPU that a trial could have."""
    ray.cloudpickle.register_pickle_by_value(probe)  # the node may lack this package
    try:
        references = {
            _task(function, node).remote(*arguments(node)): node for node in nodes
        }  # pickled here, while the module is registered
    finally:
        ray.cloudpickle.unregister_pickle_by_value(probe)
    done, late = ray.wait(list(references), num_returns=len(references), timeout=timeout_s)
    answers = {}
    for reference in done:
        node = references[reference]
        try:
            answers[node] = NodeResult(node, ray.get(reference))
        except Exception as error:  # a node that dies or cannot run the function is an answer, too
            answers[node] = NodeResult(node, problem=f"{type(error).__name__}: {str(error).strip().splitlines()[-1]}")
    for reference in late:
        ray.cancel(reference, force=True)
        answers[references[reference]] = NodeResult(references[reference], problem=f"no answer in {timeout_s:g} s")
    return [answers[node] for node in nodes]


def clock_offset_s(node: Node) -> tuple[float, float] | None:
    """(a node's clock minus this one's, its uncertainty), in seconds; None where the node does not answer.

    Of several round trips the shortest counts: the remote reading lies somewhere within it.
    """
    readings = []
    for _ in range(NUM_CLOCK_READINGS):
        before = time.time()
        (answer,) = on_every_node([node], probe.clock, timeout_s=30.0)
        after = time.time()
        if answer.problem is None:
            readings.append((after - before, answer.value - statistics.fmean((before, after))))
    if not readings:
        return None
    duration, offset = min(readings)
    return offset, duration / 2


def _task(function: Callable[..., Any], node: Node) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(function)
