"""A Ray of pretended machines on this one: as many CPUs and GPUs as asked for, whatever is there.

Ray counts what it is told. So the driver, the packing of trials and what each trial sees of its GPUs can be tried on
a laptop; how fast a trial trains cannot.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from flexres_tune.cluster.connection import ENVIRONMENT, PROCESS_ENVIRONMENT, connect
from flexres_tune.cluster.resources import ClusterResources

OBJECT_STORE_BYTES = 100 * 1024**2  # of a node: reports are a few kB


@contextmanager
def fake_cluster(nodes: Sequence[tuple[float, float]]) -> Iterator[ClusterResources]:
    """Connected to nodes with (CPUs, GPUs) each, the first of them the head; gone at the end of the context."""
    with start_fake_cluster(nodes) as address, connect(address) as cluster:
        yield cluster


@contextmanager
def start_fake_cluster(nodes: Sequence[tuple[float, float]]) -> Iterator[str]:
    """The address of such nodes, for other processes to join. This process must not be connected to a Ray."""
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
