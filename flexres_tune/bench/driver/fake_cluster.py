"""A Ray cluster of fake nodes on this machine, with any number of CPUs and GPUs.

Ray does not check the numbers that it is given. So a laptop can exercise the driver, the packing of trials and which
GPUs each trial sees, but not the speed of training.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flexres_tune.cluster.connection import ENVIRONMENT, PROCESS_ENVIRONMENT, connect
from flexres_tune.cluster.resources import ClusterResources

OBJECT_STORE_BYTES = 100 * 1024**2  # per node: reports are a few kB


@contextmanager
def fake_cluster(nodes: Sequence[tuple[float, float]]) -> Iterator[ClusterResources]:
    """Context connected to nodes with (CPUs, GPUs) each, the first of them the head. They stop when it ends."""
    with start_fake_cluster(nodes) as address, connect(address) as cluster:
        yield cluster


@contextmanager
def start_fake_cluster(nodes: Sequence[tuple[float, float]]) -> Iterator[str]:
    """Context with the address of such nodes, for other processes. This process must not be connected to a Ray."""
    for name, value in (ENVIRONMENT | PROCESS_ENVIRONMENT).items():
        os.environ.setdefault(name, value)
    import ray
    from ray.cluster_utils import Cluster as Nodes

    assert not ray.is_initialized()
    started = Nodes()
    try:
        for num_cpus, num_gpus in nodes:
            started.add_node(
                num_cpus=num_cpus,
                num_gpus=num_gpus,
                object_store_memory=OBJECT_STORE_BYTES,
                include_dashboard=False,
            )
        yield started.address
    finally:
        started.shutdown()
