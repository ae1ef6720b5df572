"""Whether results can be where --storage says: one place, which every node writes to and reads from."""

from __future__ import annotations

from flexres_tune.errors import ResultsError
from flexres_tune.places import AnyPath, RemotePath
from flexres_tune.raytune.cluster import Cluster


def check_shared(storage: AnyPath, cluster: Cluster) -> None:
    """Write from every node, before any trial does.

    Raises:
        ResultsError: a node cannot write there, or writes to a folder of its own: what it saves is lost with it.
    """
    if cluster.is_local or cluster.num_nodes <= 1:
        return
    from flexres_tune.raytune.examine import check_sharing

    sharing = check_sharing(storage)
    if sharing.apart:
        names = ", ".join(sharing.apart[:5]) + (" ..." if len(sharing.apart) > 5 else "")
        why = f" ({'; '.join(sharing.problems[:3])})" if sharing.problems else ", which write to a folder of their own"
        raise ResultsError(
            f"--storage {storage}: all {cluster.num_nodes} nodes must share it, but {len(sharing.apart)} do not: "
            f"{names}{why}; {_way_out(storage)}. "
            f"To look again: python -m flexres_tune.doctor --storage {storage}"
        )


def _way_out(storage: AnyPath) -> str:
    if isinstance(storage, RemotePath):
        return "give every node credentials for it (a role, or the environment that `ray start` was typed in)"
    return "give --storage a folder that all nodes share (NFS, EFS) at the same path, or s3:// or gs://"
