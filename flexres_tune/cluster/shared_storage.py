"""Whether all nodes of a cluster share the folder or bucket that --storage names, found by writing to it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from flexres_tune.cluster.probe import remove_mark, seen_marks, write_mark
from flexres_tune.cluster.resources import ClusterResources
from flexres_tune.errors import ResultsError
from flexres_tune.storage import AnyPath, is_remote


@dataclass(frozen=True)
class SharingReport:
    """Which nodes do not write to the same folder or bucket as the driver."""

    apart: tuple[str, ...]  # addresses of nodes that cannot write there, or whose files and the driver's differ
    problems: tuple[str, ...]  # error messages, each once


def require_shared_storage(storage: AnyPath, cluster: ClusterResources) -> None:
    """Write from every node, before any trial does.

    Raises:
        ResultsError: a node cannot write there, or writes to a folder that only it has and that is lost with it.
    """
    if not cluster.is_local and cluster.num_alive > 1:
        check_sharing(storage, cluster.num_alive, probe_sharing(storage))


def check_sharing(storage: AnyPath, num_nodes: int, report: SharingReport) -> None:
    """Raise ResultsError if the report names a node that does not share the storage."""
    if not report.apart:
        return
    addresses = ", ".join(report.apart[:5]) + (" ..." if len(report.apart) > 5 else "")
    why = f" ({'; '.join(report.problems[:3])})" if report.problems else ", which write to a folder of their own"
    if is_remote(storage):
        advice = "give every node credentials for it (a role, or the environment that `ray start` was typed in)"
    else:
        advice = "give --storage a folder that all nodes share (NFS, EFS) at the same path, or s3:// or gs://"
    raise ResultsError(
        f"--storage {storage}: all {num_nodes} nodes must share it, but {len(report.apart)} do not: {addresses}{why}; "
        f"{advice}. To check again: python -m flexres_tune.doctor --storage {storage}"
    )


def probe_sharing(storage: AnyPath) -> SharingReport:
    """Write a file (a mark) from the driver and from every node; then look from each side for the other's marks."""
    from flexres_tune.cluster.nodes import alive_nodes, call_on_nodes

    nodes, prefix, place = alive_nodes(), new_mark_prefix(), str(storage.resolve())
    driver_mark = prefix + "driver"
    driver_problem = write_mark(place, driver_mark)
    written = call_on_nodes(nodes, write_mark, lambda node: (place, prefix + node.node_id))
    seen_here = set(seen_marks(place, prefix))
    seen_there = {
        result.node.node_id: result.value or ()
        for result in call_on_nodes(nodes, seen_marks, lambda _: (place, prefix))
    }
    call_on_nodes(nodes, remove_mark, lambda node: (place, prefix + node.node_id))
    if driver_problem is None:
        remove_mark(place, driver_mark)

    def is_shared(node_id: str) -> bool:
        return prefix + node_id in seen_here and driver_mark in seen_there[node_id]

    alive = {node.node_id for node in alive_nodes()}  # a node that died meanwhile does not matter
    written = [result for result in written if result.node.node_id in alive]
    problems = [problem for result in written if (problem := result.value or result.problem)]
    apart = [r.node.address for r in written if r.value or r.problem or not is_shared(r.node.node_id)]
    return SharingReport(tuple(apart), tuple(dict.fromkeys(problems)))


def new_mark_prefix() -> str:
    """Start of the names of one round of marks; the dot hides them from readers of tables."""
    return f".writable-{uuid.uuid4().hex[:8]}-"
