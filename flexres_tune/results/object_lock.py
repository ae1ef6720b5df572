"""One driver per sweep on object storage, which has no locks: each driver writes a claim and a heartbeat.

A driver first writes its claim, an object of its own under driver.lock/, and then lists all claims. If two start at
once, at least one of them sees the other's claim and withdraws, because a listing shows every object that was written
before it (true of S3, Google Cloud Storage and compatible servers). No conditional writes are needed.

Whether another claim's driver is alive: on the same machine its process is looked up. The claim of another machine is
observed: a living driver rewrites it every 5 s, and one that has not changed for 20 s is dead and is deleted.

Not covered: a driver that cannot reach the server for more than 20 s while a driver on another machine can. It is taken
for dead, finds its claim gone when it reaches the server again, and must exit at once, as with `kill -9`. Its unwritten
rows are lost, and their trials resume from their checkpoints in the other driver.
"""

from __future__ import annotations

import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from flexres_tune.errors import StorageError
from flexres_tune.results.holder import Holder
from flexres_tune.storage import RemotePath, list_folder

HEARTBEAT_S = 5.0
DEAD_AFTER_S = 20.0  # four heartbeats, each of which may wait for a request that is repeated
FRESH_S = 60.0  # find_claim_holder() looks once, and compares with this machine's clock
POLL_PERIOD_S = 0.5
MAX_CLAIM_BYTES = 10_000
NUM_ATTEMPTS = 5  # of drivers that start at the same instant and withdraw because of each other


@contextmanager
def hold_claim(folder: RemotePath, sweep: str, on_lost: Callable[[], None]) -> Iterator[None]:
    """Context in which this process has the only claim under `folder`, which a thread rewrites.

    `on_lost` is called once, in the thread, if another driver has deleted the claim and taken the sweep over.

    Raises:
        ResultsError: another driver that is alive holds the lock.
        StorageError: the server does not answer, or refuses.
    """
    claim = folder / f"{uuid.uuid4().hex}.json"
    content = Holder.of_this_process().to_json()
    for _ in range(NUM_ATTEMPTS):
        _remove_dead_claims(folder, sweep)
        claim.write_bytes(content)
        others = [name for name in _list_claims(folder) if name != claim.name]
        if not others:
            break
        claim.unlink(missing_ok=True)
        time.sleep(random.uniform(0, 2))  # otherwise both would come back at once, and withdraw again
    else:
        raise (_read(folder / others[0]) or Holder()).refusal(folder, sweep)
    released = threading.Event()
    thread = threading.Thread(target=_beat, args=(claim, content, released, on_lost), name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        released.set()
        thread.join(2)
        with suppress(OSError):  # the server does not answer: the claim expires by itself
            claim.unlink(missing_ok=True)


def _remove_dead_claims(folder: RemotePath, sweep: str) -> None:
    """Return when no claim is left; wait up to DEAD_AFTER_S for each to change.

    Raises:
        ResultsError: the driver of one is alive.
    """
    # by claim: when it had been written as we first saw it, and when we did
    first: dict[str, tuple[int, float]] = {}
    while claims := _list_claims(folder):
        for name, changed_at in claims.items():
            claim = folder / name
            holder = _read(claim)
            if holder is None:
                continue  # released since it was listed
            changed_at_first, seen_at = first.setdefault(name, (changed_at, time.monotonic()))
            is_alive = holder.is_alive_here
            if is_alive or (is_alive is None and changed_at != changed_at_first):
                raise holder.refusal(folder, sweep)
            if is_alive is False or time.monotonic() - seen_at > DEAD_AFTER_S:
                claim.unlink(missing_ok=True)
        time.sleep(POLL_PERIOD_S)


def _beat(claim: RemotePath, content: bytes, released: threading.Event, on_lost: Callable[[], None]) -> None:
    while not released.wait(HEARTBEAT_S):
        try:
            if claim.name not in _list_claims(claim.parent):
                return on_lost()
            claim.write_bytes(content)
            if released.is_set():  # meanwhile, because the lock's end does not wait for a slow server
                claim.unlink(missing_ok=True)
        except StorageError:
            continue  # no answer: the next heartbeat tries again


def find_claim_holder(folder: RemotePath) -> Holder | None:
    """The driver that runs the sweep now: its process lives on this machine, or its claim is at most FRESH_S old.

    Raises:
        StorageError: the server does not answer, or refuses.
    """
    for name, changed_at in _list_claims(folder).items():
        holder = _read(folder / name)
        if holder is None:
            continue
        is_alive = holder.is_alive_here
        if is_alive or (is_alive is None and time.time() - changed_at / 1e9 < FRESH_S):
            return holder
    return None


def exit_when_lost(sweep: str) -> None:
    """End this process before it overwrites what the driver that took over writes."""
    print(
        f"\nsweep {sweep}: this driver did not reach the storage for {DEAD_AFTER_S:g} s and another driver has taken "
        "over; exiting",
        flush=True,
    )
    os._exit(1)


def _list_claims(folder: RemotePath) -> dict[str, int]:
    """Names of the claims, and when each was last written, in ns by the server's clock."""
    try:
        listing = list_folder(folder)
    except FileNotFoundError:
        return {}
    return {name: stat.st_mtime_ns for name, stat in listing.items() if stat is not None and name.endswith(".json")}


def _read(claim: RemotePath) -> Holder | None:
    """Who has written a claim, unknown if it is too large to be one; None if there is no such object."""
    try:
        return Holder.from_json(claim.read_bytes(MAX_CLAIM_BYTES))
    except FileNotFoundError:
        return None
    except StorageError:
        raise
    except OSError:
        return Holder()
