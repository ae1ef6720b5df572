"""SharedCluster: sweeps that run at once on one Ray cluster, each with its own driver, divide its slots fairly.

Ray places what waits, first come, first served, and a driver passes the process of a trial that ended to its next trial:
the first sweep would hold the whole cluster until its end. So each driver writes into Ray's key-value store how many
trials it could use, reads what the others have written, and starts no more than its share. All drivers compute the same
division, so none has to lead.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from flexres_tune.text import excerpt, join_words

PERIOD_S = 2.0
REMOVE_TIMEOUT_S = 2.0  # of this driver's record, at its end
LOST_AFTER_S = 15.0  # of a driver whose record does not change any more
MAX_SLOTS = 10_000  # bounds the work that a damaged record can cause
NAMESPACE = b"flexres_tune_drivers"


@dataclass(frozen=True)
class ClusterDriver:
    """What a driver writes down."""

    sweep: str
    num_slots: int  # trials at once if no other driver were there
    num_wanted: int  # trials that run or may still come, at most num_slots
    beat: int = 0  # counts the records, so that each differs from the last one

    @classmethod
    def from_json(cls, content: bytes) -> ClusterDriver | None:
        """Parse a record; None if it is damaged."""
        try:
            found = json.loads(content)
            sweep, *numbers = (found[name] for name in cls.__dataclass_fields__)
            num_slots, num_wanted, beat = (max(0, int(number)) for number in numbers)
            num_slots = min(max(1, num_slots), MAX_SLOTS)
            return cls(excerpt(sweep), num_slots, min(num_wanted, num_slots), beat)
        except (ValueError, LookupError, TypeError, OverflowError, RecursionError):
            return None


def divide_slots(drivers: Sequence[ClusterDriver]) -> list[int]:
    """How many trials each driver may run at once: equal parts of the cluster, at least one trial each.

    What a driver cannot use is divided among the others.
    """
    granted = [0] * len(drivers)
    free = 1.0  # part of the cluster
    while True:
        able = [
            index
            for index, driver in enumerate(drivers)
            if granted[index] < driver.num_wanted and 1 / driver.num_slots <= free + 1e-9
        ]
        if not able:
            return [max(1, number) for number in granted]
        least = min(able, key=lambda index: (granted[index] / drivers[index].num_slots, index))
        granted[least] += 1
        free -= 1 / drivers[least].num_slots


class Store(Protocol):
    """Small records that all drivers of a cluster see, by name."""

    def read(self) -> Mapping[str, bytes]: ...

    def write(self, name: str, content: bytes) -> None: ...

    def remove(self, name: str) -> None: ...


class RayStore:
    """The key-value store of the connected cluster's head."""

    def read(self) -> dict[str, bytes]:
        from ray.experimental.internal_kv import _internal_kv_get, _internal_kv_list

        names = [bytes(name) for name in _internal_kv_list(b"", namespace=NAMESPACE)]
        found = {name.decode(): _internal_kv_get(name, namespace=NAMESPACE) for name in names}
        return {name: content for name, content in found.items() if content is not None}

    def write(self, name: str, content: bytes) -> None:
        from ray.experimental.internal_kv import _internal_kv_put

        _internal_kv_put(name.encode(), content, overwrite=True, namespace=NAMESPACE)

    def remove(self, name: str) -> None:
        from ray.experimental.internal_kv import _internal_kv_del

        _internal_kv_del(name.encode(), namespace=NAMESPACE)


class SharedCluster:
    """This driver's place among those of its cluster; a context manager.

    A thread reads and writes the records, because the head may not answer: then the last division stays.
    """

    def __init__(
        self,
        sweep: str,
        num_slots: int,
        most_at_once: Callable[[], int],
        on_message: Callable[[str], None],
        store: Store | None = None,
    ):
        """`most_at_once`: the most trials that may still run at once."""
        self._sweep, self._num_slots = sweep, num_slots
        self._most_at_once, self._on_message = most_at_once, on_message
        self._store = RayStore() if store is None else store
        self._name = f"{time.time_ns():020d}-{os.getpid()}"  # orders drivers by age
        self._running: set[str] = set()  # trial_ids
        self._seen: dict[str, tuple[bytes, float]] = {}  # record of each other driver, and when it changed
        self._others: list[ClusterDriver] = []
        self._beat = 0
        self._num_allowed = num_slots
        self._has_ended = threading.Event()

    @property
    def num_free(self) -> int | None:
        """How many more trials may run at once; None: as many as there is room for, because no other driver is there."""
        return max(0, self._num_allowed - len(self._running)) if self._others else None

    def __enter__(self) -> SharedCluster:
        self._try_to_update()
        threading.Thread(target=self._watch, name="shared cluster", daemon=True).start()
        return self

    def __exit__(self, *exc_info) -> None:
        self._has_ended.set()
        remover = threading.Thread(target=self._try_to_remove, name="shared cluster", daemon=True)
        remover.start()
        remover.join(REMOVE_TIMEOUT_S)

    def may_start(self) -> bool:
        """Whether one more trial may start now."""
        return not self._others or len(self._running) < self._num_allowed

    def started(self, trial_id: str) -> None:
        self._running.add(trial_id)

    def ended(self, trial_id: str) -> None:
        self._running.discard(trial_id)

    def update(self, now: float) -> None:
        """Write this driver's record, read the others', and divide; `now` in seconds on any clock that never jumps."""
        self._beat += 1
        num_wanted = max(min(self._num_slots, self._most_at_once()), len(self._running))
        me = ClusterDriver(self._sweep, self._num_slots, num_wanted, self._beat)
        self._store.write(self._name, json.dumps(asdict(me)).encode())
        drivers = {self._name: me}
        for name, content in self._store.read().items():
            if name == self._name:
                continue
            before = self._seen.get(name)
            if before is None or before[0] != content:
                self._seen[name] = before = (content, now)
            driver = ClusterDriver.from_json(content)
            if driver is not None and now - before[1] < LOST_AFTER_S:
                drivers[name] = driver
        names = sorted(drivers)
        granted = divide_slots([drivers[name] for name in names])[names.index(self._name)]
        others = [drivers[name] for name in names if name != self._name]
        has_changed = {other.sweep for other in others} != {other.sweep for other in self._others}
        self._num_allowed, self._others = granted, others
        if has_changed:
            self._on_message(self._describe())

    def _describe(self) -> str:
        if not self._others:
            return f"no other sweep runs on this cluster now: {self._num_slots} at once"
        names = [f"sweep {other.sweep}" for other in self._others[:5]]
        verb = "runs" if len(self._others) == 1 else "run"
        share = f"{self._num_allowed} at once here instead of {self._num_slots}"
        return f"{join_words(names, 'and')} {verb} on this cluster, too: {share}, and more when others need less"

    def _try_to_update(self) -> None:
        try:
            self.update(time.monotonic())
        except Exception:  # Ray raises many types if the head does not answer; the next try may succeed
            return

    def _try_to_remove(self) -> None:
        try:
            self._store.remove(self._name)
        except Exception:  # the head may be gone; the others notice that the record does not change any more
            return

    def _watch(self) -> None:
        while not self._has_ended.wait(PERIOD_S):
            self._try_to_update()
