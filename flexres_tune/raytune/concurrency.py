"""Slots: how many trials run at once; more once nodes join the cluster, in the middle of a sweep."""

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

POLL_PERIOD_S = 5.0  # between two looks at the cluster; a machine takes a minute to start


class ConcurrencyUpdater:
    """Sets a limiter's number while the context is open; asks the cluster in a thread of its own, as it may not answer.

    Ray gives a trial that waits to whichever node has room, but Tune asks for no more trials than it was told at the
    start: without this a node that joins would stay idle. Where nodes leave, the number stays: the trials they had wait
    for a place, and no other begins before.
    """

    def __init__(
        self, limiter: ConcurrencyLimiter, measure: Callable[[], int] | None, on_message: Callable[[str], None]
    ):
        """Args:
        measure: how many trials the cluster can hold now; None where nothing can join.
        """
        self._limiter = limiter
        self._measure = measure
        self._on_message = on_message
        self._is_over = threading.Event()
        self._has_failed = False  # the last look: said once, until one succeeds

    def __enter__(self) -> ConcurrencyUpdater:
        if self._measure is not None:
            threading.Thread(target=self._run, name="slots", daemon=True).start()
        return self

    def __exit__(self, *exc_info) -> None:
        self._is_over.set()

    def look(self) -> None:
        """Take in what the cluster can hold now; a cluster that does not answer keeps its number."""
        assert self._measure is not None
        try:
            number = self._measure()
        except FlexResError as error:
            self._is_over.set()  # asked once: each time writes from every node
            self._on_message(f"a node has joined that no further trials are started for: {error}")
            return
        except Exception as error:  # of Ray's many kinds; the sweep goes on with the number it has
            if not self._has_failed and not self._is_over.is_set():  # at its end the connection goes away
                self._has_failed = True
                why = type(error).__name__
                self._on_message(f"the cluster does not say whether it has grown ({why}); it is asked again")
            return
        self._has_failed = False
        if number > self._limiter.max_concurrent:
            self._limiter.max_concurrent = number
            self._on_message(f"the cluster has grown: {number} trials at once")

    def _run(self) -> None:
        while not self._is_over.wait(POLL_PERIOD_S):
            self.look()


def measure_slots(
    share: TrialResources, cluster: ClusterResources, storage: AnyPath, max_concurrent: int | None
) -> Callable[[], int] | None:
    """Asks the connected cluster how many such trials it can hold now; None for a Ray of our own, which nobody joins.

    The function raises ResultsError where a node that has joined does not share the storage: its trials' checkpoints
    would be lost with it.
    """
    if cluster.is_local:
        return None
    requested = Resources(cpu=share.cpu, gpu=share.gpu)
    num_checked = cluster.num_nodes

    def measure() -> int:
        nonlocal num_checked
        now = read_cluster(is_local=False)
        if now.num_nodes > num_checked:
            require_shared_storage(storage, now)
            num_checked = now.num_nodes
        return trial_resources(requested, now, max_concurrent).num_concurrent

    return measure
