"""Whether results can be where --storage says: one place, which every node writes to and reads from."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from flexres_tune.cluster.probe import remove_mark, seen_marks, write_mark
from flexres_tune.cluster.resources import ClusterResources
from flexres_tune.errors import ResultsError
from flexres_tune.storage import AnyPath, is_remote, make_path


def require_shared_storage(storage: AnyPath, cluster: ClusterResources) -> None:
    """Write from every node, before any trial does.

    Raises:
        ResultsError: a node cannot write there, or writes to a folder of its own: what it saves is lost with it.
    """
    if cluster.is_local or cluster.num_nodes <= 1:
        return

    sharing = probe_sharing(storage)
    if sharing.apart:
        names = ", ".join(sharing.apart[:5]) + (" ..." if len(sharing.apart) > 5 else "")
        why = f" ({'; '.join(sharing.problems[:3])})" if sharing.problems else ", which write to a folder of their own"
        raise ResultsError(
            f"--storage {storage}: all {cluster.num_nodes} nodes must share it, but {len(sharing.apart)} do not: "
            f"{names}{why}; {_way_out(storage)}. "
            f"To look again: python -m flexres_tune.doctor --storage {storage}"
        )


def _way_out(storage: AnyPath) -> str:
    if is_remote(storage):
        return "give every node credentials for it (a role, or the environment that `ray start` was typed in)"
    return "give --storage a folder that all nodes share (NFS, EFS) at the same path, or s3:// or gs://"


@dataclass(frozen=True)
class SharingReport:
    """Whether the nodes write to one folder, or one place on object storage."""

    storage: AnyPath
    apart: tuple[str, ...]  # addresses of nodes that cannot write there or do not see what the others wrote
    problems: tuple[str, ...]


def probe_sharing(storage: AnyPath) -> SharingReport:
    """Write a file from every node of the connected cluster, and look for all of them from this one."""
    from flexres_tune.cluster.nodes import alive_nodes, on_every_node

    nodes, round_, place = alive_nodes(), new_mark_prefix(), str(storage.resolve())
    mine = round_ + "driver"
    problem = write_mark(place, mine)
    written = on_every_node(nodes, write_mark, lambda node: (place, round_ + node.node_id))
    here = set(seen_marks(place, round_))
    sees = {
        a.node.node_id: mine in (a.value or ()) for a in on_every_node(nodes, seen_marks, lambda node: (place, round_))
    }
    on_every_node(nodes, remove_mark, lambda node: (place, round_ + node.node_id))
    if problem is None:
        remove_mark(place, mine)
    still = {node.node_id for node in alive_nodes()}  # one that has died, but was counted when this began, needs none
    written = [answer for answer in written if answer.node.node_id in still]
    apart = [
        a.node.address
        for a in written
        if a.value or a.problem or round_ + a.node.node_id not in here or not sees[a.node.node_id]
    ]
    problems = [text for a in written if (text := a.value or a.problem)]
    return SharingReport(make_path(place), tuple(apart), tuple(dict.fromkeys(problems)))


def new_mark_prefix() -> str:
    return f".writable-{uuid.uuid4().hex[:8]}-"
