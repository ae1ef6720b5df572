"""Whether results can be where --storage says: one folder, which every node writes to and reads from."""

from __future__ import annotations

from pathlib import Path

from flexres_tune.errors import ResultsError
from flexres_tune.raytune.cluster import Cluster

REMOTE = ("s3:", "gs:", "abfs:", "az:", "hdfs:", "http:", "https:")


def check_is_folder(storage: Path) -> None:
    """Raises:
    ResultsError: an address of object storage; taken for a folder, it would make one named `s3:`.
    """
    if storage.parts and storage.parts[0] in REMOTE:
        raise ResultsError(
            f"--storage: must be a folder, but got {storage}: object storage is not supported; use a folder that all "
            "nodes share (NFS, EFS, Filestore), and copy results to the bucket later"
        )


def check_shared(storage: Path, cluster: Cluster) -> None:
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
            f"{names}{why}; give --storage a folder that all nodes share (NFS, EFS) at the same path. "
            f"To look again: python -m flexres_tune.doctor --storage {storage}"
        )
