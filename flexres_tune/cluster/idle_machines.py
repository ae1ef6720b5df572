"""IdleMachines: worker machines for which no trial of a sweep will come are ended at once, not after Ray's idle timeout.

Ray's autoscaler ends a machine that was idle for a while, because it cannot know whether another trial will come. The
search does know. The call is the one with which version 2 of the autoscaler ends idle machines: the machine refuses it if
anything runs there. Its Ray stops, and the autoscaler ends the machine and starts another one only if a trial waits.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from flexres_tune.cluster.resources import NodeResources, TrialResources, num_slots
from flexres_tune.text import plural

PERIOD_S = 1.0
NUM_LAST_LOOKS = 3  # after the last trial, whose process takes a moment to end
TIMEOUT_S = 5.0  # of each query of the head
LONGEST_TIMEOUT_MIN = 5.0  # Ray's default idle timeout: a file with a longer one keeps machines for the next command


@dataclass(frozen=True)
class Machine:
    """A machine that takes trials now."""

    node_id: str
    node_type: str | None  # of the cluster file; None: it is never ended
    resources: NodeResources
    idle_s: float  # 0: it is in use


def read_min_workers(config: Mapping[str, Any] | None) -> dict[str, int]:
    """How many workers of each type must stay, by the cluster file; empty if no machine may be ended early."""
    config = config or {}
    if float(config.get("idle_timeout_minutes") or 0) > LONGEST_TIMEOUT_MIN:
        return {}
    types = config.get("available_node_types") or {}
    head = config.get("head_node_type")
    return {name: int(each.get("min_workers") or 0) for name, each in types.items() if name != head}


def unneeded_machines(
    machines: Sequence[Machine], num_trials: int, trial: TrialResources, min_workers: Mapping[str, int]
) -> list[Machine]:
    """The idle machines without which the others still hold `num_trials` trials at once; the longest idle ones first.

    `min_workers`: how many machines of each type must stay.
    """
    slots = {each.node_id: num_slots([each.resources], trial.cpu, trial.gpu) for each in machines}
    num_left = sum(slots.values())
    num_of_type = Counter(each.node_type for each in machines)
    found = []
    for each in sorted(machines, key=lambda machine: (-machine.idle_s, machine.node_id)):
        can_end = each.idle_s > 0 and each.node_type in min_workers and slots[each.node_id] > 0
        if not can_end or num_of_type[each.node_type] <= min_workers[each.node_type]:
            continue
        if num_left - slots[each.node_id] >= num_trials:
            num_left -= slots[each.node_id]
            num_of_type[each.node_type] -= 1
            found.append(each)
    return found


class Autoscaler(Protocol):
    """What is asked of the autoscaler of a cluster."""

    def machines(self) -> Sequence[Machine]:
        """All machines that take trials; none while no machine may be ended."""

    def end(self, node_id: str) -> bool:
        """End a machine if it is idle; whether it was."""


class RayAutoscaler:
    """Version 2 of Ray's autoscaler, which runs on the head of the connected cluster.

    With version 1 there are no machines: it would start Ray on an ended machine again. There are none while another
    driver is connected, machines are requested with `request_resources`, or something waits for a machine.
    """

    def machines(self) -> list[Machine]:
        from ray._private.worker import global_worker
        from ray.autoscaler.v2.sdk import get_cluster_resource_state
        from ray.autoscaler.v2.utils import is_autoscaler_v2

        client = global_worker.gcs_client
        if not is_autoscaler_v2(fetch_from_server=True, gcs_client=client) or self._has_other_drivers(client):
            return []
        return machines_of(get_cluster_resource_state(client))

    def end(self, node_id: str) -> bool:
        from ray._private.worker import global_worker
        from ray.core.generated.autoscaler_pb2 import DRAIN_NODE_REASON_IDLE_TERMINATION

        reason = "no trial of the sweep will come"
        is_accepted, _ = global_worker.gcs_client.drain_node(node_id, DRAIN_NODE_REASON_IDLE_TERMINATION, reason, 0)
        return is_accepted

    def _has_other_drivers(self, client: Any) -> bool:
        import ray
        from ray._raylet import RAY_INTERNAL_NAMESPACE_PREFIX

        own = ray.get_runtime_context().get_job_id()
        jobs = client.get_all_job_info(
            skip_submission_job_info_field=True, skip_is_running_tasks_field=True, timeout=TIMEOUT_S
        )
        return any(
            not job.is_dead
            and job.job_id.hex() != own
            and not job.config.ray_namespace.startswith(RAY_INTERNAL_NAMESPACE_PREFIX)
            for job in jobs.values()
        )


def machines_of(state: Any) -> list[Machine]:
    """The machines of Ray's ClusterResourceState that take trials; none if something waits for a machine or requests it.

    A machine without a type or without an instance was not started by the autoscaler, which would not end it.
    """
    from ray.autoscaler.v2.utils import is_head_node
    from ray.core.generated.autoscaler_pb2 import IDLE, RUNNING

    is_requested = any(each.resource_requests for each in state.cluster_resource_constraints)
    if is_requested or state.pending_resource_requests or state.pending_gang_resource_requests:
        return []
    machines = []
    for node in state.node_states:
        if node.status not in (RUNNING, IDLE):  # it is about to end, and takes no trial any more
            continue
        is_worker = bool(node.instance_id) and not is_head_node(node)
        node_type = node.ray_node_type_name if is_worker else None
        idle_s = node.idle_duration_ms / 1000 if node.status == IDLE else 0.0
        machines.append(Machine(node.node_id.hex(), node_type, NodeResources.of(node.total_resources), idle_s))
    return machines


class IdleMachines:
    """Ends the machines that a search cannot use any more, while the search runs and at its end; a context manager.

    A machine that was ended is not needed again, so none is ended and started in turn: `most_at_once` is never less than
    what runs later. However long a machine takes to start, it counts only when it takes trials, and no machine is ended
    while a trial waits for one.
    """

    def __init__(
        self,
        config: Mapping[str, Any] | None,
        trial: TrialResources,
        most_at_once: Callable[[], int],
        on_message: Callable[[str], None],
        autoscaler: Autoscaler | None = None,
    ):
        """`most_at_once`: the most trials that may still run at once. `config`: the cluster file; None: there is none."""
        self._min_workers = read_min_workers(config)
        self._trial, self._most_at_once, self._on_message = trial, most_at_once, on_message
        self._autoscaler = RayAutoscaler() if autoscaler is None else autoscaler
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="idle machines", daemon=True)

    def __enter__(self) -> IdleMachines:
        if self._min_workers:
            self._thread.start()
        return self

    def __exit__(self, *exc_info) -> None:
        self._has_ended.set()
        if self._min_workers:
            self._thread.join(TIMEOUT_S)  # the head may not answer

    def update(self) -> None:
        """End the machines that are idle now and for which no trial will come."""
        number = self._most_at_once()
        if number >= self._trial.num_concurrent:  # all that the cluster may hold
            return
        unneeded = unneeded_machines(self._autoscaler.machines(), number, self._trial, self._min_workers)
        if num_ended := sum(self._autoscaler.end(each.node_id) for each in unneeded):
            self._on_message(f"ending {plural(num_ended, 'idle machine')}, for which no trial will come")

    def _run(self) -> None:
        try:
            while not self._has_ended.wait(PERIOD_S):
                self.update()
            for _ in range(NUM_LAST_LOOKS if self._most_at_once() == 0 else 0):
                self.update()
                time.sleep(PERIOD_S)
        except Exception as error:  # Ray raises many types; its idle timeout ends the machines
            if not self._has_ended.is_set():  # the connection closes at the end of the sweep
                name = type(error).__name__
                self._on_message(f"could not end idle machines ({name}): they end after the cluster's idle timeout")
