"""Concurrency: raises the number of trials that run at once when nodes join the cluster during a sweep."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ray.tune.search import ConcurrencyLimiter

from flexres_tune.cluster.connection import read_cluster
from flexres_tune.cluster.resources import ClusterResources, TrialResources, trial_resources
from flexres_tune.cluster.shared_storage import require_shared_storage
from flexres_tune.errors import FlexResError
from flexres_tune.spec import Resources
from flexres_tune.storage import AnyPath

POLL_PERIOD_S = 5.0  # a machine takes a minute to start


class ConcurrencyUpdater:
    """Updates a limiter's max_concurrent in a thread, because a query of the cluster may never return.

    Ray places a waiting trial on any node with room, but Tune creates only as many trials as the limiter allows: if the
    limit stayed, a node that joins would be idle. If nodes leave, the limit is unchanged: their trials queue first.
    """

    def __init__(
        self, limiter: ConcurrencyLimiter, measure: Callable[[], int] | None, on_message: Callable[[str], None]
    ):
        """`measure` returns how many trials the cluster can hold now; None: no node can join."""
        self._limiter = limiter
        self._measure = measure
        self._on_message = on_message
        self._has_ended = threading.Event()
        self._has_failed = False  # the last query did, and the user was informed

    def __enter__(self) -> ConcurrencyUpdater:
        if self._measure is not None:
            threading.Thread(target=self._run, name="concurrency", daemon=True).start()
        return self

    def __exit__(self, *exc_info) -> None:
        self._has_ended.set()

    def update(self) -> None:
        """Query the cluster and raise the limit; if the query fails, the limit stays."""
        assert self._measure is not None
        try:
            number = self._measure()
        except FlexResError as error:
            self._has_ended.set()  # no further query: each one writes files from every node
            self._on_message(f"ignoring a new node: {error}")
            return
        except Exception as error:  # Ray raises many types; the sweep continues with the limit that it has
            if not self._has_failed and not self._has_ended.is_set():  # the connection closes at the end of the sweep
                self._has_failed = True
                self._on_message(f"could not query the cluster's size ({type(error).__name__}); will retry")
            return
        self._has_failed = False
        if number > self._limiter.max_concurrent:
            self._limiter.max_concurrent = number
            self._on_message(f"the cluster has grown: {number} trials at once")

    def _run(self) -> None:
        while not self._has_ended.wait(POLL_PERIOD_S):
            self.update()


def measure_slots(
    resources: TrialResources, cluster: ClusterResources, storage: AnyPath, max_concurrent: int | None
) -> Callable[[], int] | None:
    """A function that returns how many such trials the connected cluster can hold now; None if Ray was started here.

    The function raises ResultsError if a node that has joined does not share the storage: checkpoints of its trials
    would be lost with it.
    """
    if cluster.is_local:
        return None
    requested = Resources(cpu=resources.cpu, gpu=resources.gpu)
    num_checked = cluster.num_alive

    def measure() -> int:
        nonlocal num_checked
        now = read_cluster(is_local=False)
        if now.num_alive > num_checked:
            require_shared_storage(storage, now)
        num_checked = now.num_alive  # also if machines have ended: those that replace them are checked
        return trial_resources(requested, now, max_concurrent).num_concurrent

    return measure
