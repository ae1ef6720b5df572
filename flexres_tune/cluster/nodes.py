"""The nodes of a connected cluster, and calling one function on each of them."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from flexres_tune.cluster import probe
from flexres_tune.errors import FlexResError
from flexres_tune.text import last_line

RESULT_TIMEOUT_S = 180.0  # enough for the first import of torch and for decoding a data set
CLOCK_TIMEOUT_S = 30.0
NUM_CLOCK_READINGS = 5
PREEMPTION_S = 120.0  # AWS's time from the notice to the end of a machine

T = TypeVar("T")


@dataclass(frozen=True, order=True)
class Node:
    """A machine that Ray counts as alive."""

    address: str
    node_id: str
    num_gpus: float


@dataclass(frozen=True)
class NodeResult:
    """What a function returned on a node, or why it returned nothing."""

    node: Node
    value: Any = None
    problem: str | None = None


def alive_nodes() -> list[Node]:
    """Nodes of the connected cluster, ordered by address."""
    nodes = [
        Node(node["NodeManagerAddress"], node["NodeID"], node["Resources"].get("GPU", 0))
        for node in ray.nodes()
        if node["Alive"]
    ]
    return sorted(nodes)


def call_on_nodes(
    nodes: Sequence[Node],
    function: Callable[..., Any],
    arguments: Callable[[Node], tuple[Any, ...]] = lambda node: (),
    timeout_s: float = RESULT_TIMEOUT_S,
) -> list[NodeResult]:
    """Call a function of cluster/probe.py or cluster/gpu_health.py on all nodes at once.

    The calls take no CPU away from trials.
    """
    module = sys.modules[function.__module__]
    ray.cloudpickle.register_pickle_by_value(module)  # a node may lack this package
    try:  # .remote() pickles the function, so the module must be registered now
        references = {_task(function, node).remote(*arguments(node)): node for node in nodes}
    finally:
        ray.cloudpickle.unregister_pickle_by_value(module)
    done, late = ray.wait(list(references), num_returns=len(references), timeout=timeout_s)
    results = {}
    for reference in done:
        node = references[reference]
        try:
            results[node] = NodeResult(node, ray.get(reference))
        except Exception as error:  # the node died, or cannot run the function
            results[node] = NodeResult(node, problem=f"{type(error).__name__}: {last_line(str(error))}")
    for reference in late:
        ray.cancel(reference, force=True)
        results[references[reference]] = NodeResult(references[reference], problem=f"no answer in {timeout_s:g} s")
    return [results[node] for node in nodes]


def call_with_resources(cpu: float, gpu: float, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function of this package on any node that has these CPUs and GPUs free; waits until one has.

    Raises:
        FlexResError: the function raised an exception, or its process died.
    """
    try:
        return ray.get(ray.remote(num_cpus=cpu, num_gpus=gpu, max_retries=0)(function).remote(*arguments))
    except ray.exceptions.RayError as error:
        raise FlexResError(last_line(str(error), type(error).__name__)) from error


def stop_mps_on_nodes(timeout_s: float = RESULT_TIMEOUT_S) -> None:
    """End the MPS daemons that trials have started on the cluster's nodes, where no other process uses them."""
    from flexres_tune.training.mps import mps_folder

    with suppress(ray.exceptions.RayError):  # Ray's own processes may have died
        nodes = [node for node in alive_nodes() if node.num_gpus]
        call_on_nodes(nodes, probe.stop_mps, lambda node: (mps_folder().name,), timeout_s)


def drain_this_node(reason: str) -> None:
    """Let Ray start nothing more on the node of this process, which is about to be taken away.

    It does what the command `ray drain-node` does. If the head does not answer, trials may start here once more.
    """
    from ray._private.worker import global_worker
    from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_PREEMPTION

    deadline_ms = int((time.time() + PREEMPTION_S) * 1000)
    node_id = ray.get_runtime_context().get_node_id()
    with suppress(ray.exceptions.RayError):
        global_worker.gcs_client.drain_node(node_id, DRAIN_NODE_REASON_PREEMPTION, reason, deadline_ms)


def clock_offset_s(node: Node) -> tuple[float, float] | None:
    """(a node's clock minus this machine's, uncertainty) in seconds; None if the node does not answer.

    The shortest of several round trips is used: the node read its clock at some time during it.
    """
    readings = []
    for _ in range(NUM_CLOCK_READINGS):
        before = time.time()
        (result,) = call_on_nodes([node], probe.clock, timeout_s=CLOCK_TIMEOUT_S)
        after = time.time()
        if result.problem is None:
            readings.append((after - before, result.value - statistics.fmean((before, after))))
    if not readings:
        return None
    round_trip_s, offset_s = min(readings)
    return offset_s, round_trip_s / 2


def _task(function: Callable[..., Any], node: Node) -> Any:
    strategy = NodeAffinitySchedulingStrategy(node.node_id, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=strategy)(function)
