"""One driver a sweep on object storage, where no kernel keeps locks: a claim of each driver's own, and a heartbeat.

A driver first writes its claim, an object of its own under driver.lock/, and then lists all claims: of two that start
at once, at least one sees the other and withdraws, for a listing shows every object that was written before it (true of
S3, Google Cloud Storage and the servers that follow them). Nothing else is asked of the server: no conditional writes.

Whether another claim's driver lives: on the same machine its process is looked up; of another machine its claim is
watched, which a living driver writes anew every 5 s. One that has not changed for 20 s is dead, and is deleted.

What is not covered: a driver that cannot reach the server for more than 20 s, while another one on another machine
can, is taken for dead. It finds its claim gone once it gets through, and must end at once, as by `kill -9`; rows that
it has yet to write are lost with it, and their trials go on from their checkpoints in the other driver.
"""

from __future__ import annotations

import json
import os
import random
import socket
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flexres_tune.errors import ResultsError, StorageError
from flexres_tune.storage import RemotePath

HEARTBEAT_S = 5.0
DEAD_AFTER_S = 20.0  # four heartbeats, each of which may wait for a request that is tried again
FRESH_S = 60.0  # holder() looks once, and by this machine's clock
_LOOK_S = 0.5
_TRIES = 5  # of drivers that start at the same instant and withdraw before each other


class HeldError(Exception):
    """Another driver holds the lock; `other` is its claim."""

    def __init__(self, other: dict[str, Any]):
        super().__init__(str(other))
        self.other = other


class RemoteLock:
    """A claim under `folder`, written anew by a thread until it is released."""

    def __init__(self, folder: RemotePath, on_lost: Callable[[], None]):
        """Args:
        on_lost: called in the thread, once, where another driver has taken this one for dead.
        """
        self._folder = folder
        self._on_lost = on_lost
        self._claim = folder / f"{uuid.uuid4().hex}.json"
        self._content = json.dumps(_myself()).encode()
        self._released = threading.Event()
        self._thread: threading.Thread | None = None

    def acquire(self) -> None:
        """Raises:
        HeldError: by another driver that lives.
        StorageError: the server does not answer, or refuses.
        """
        for _ in range(_TRIES):
            self._bury_the_dead()
            self._claim.write_bytes(self._content)
            others = self._others()
            if not others:
                break
            self._claim.unlink(missing_ok=True)
            time.sleep(random.uniform(0, 2))  # else both would come back at once, and withdraw again
        else:
            raise HeldError(_read(others[0]) or {})
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        self._thread.start()

    def release(self) -> None:
        if self._thread is None:
            return
        self._released.set()
        self._thread.join(2)
        self._thread = None
        with suppress(OSError):  # a server that is away: the claim goes stale by itself
            self._claim.unlink(missing_ok=True)

    def _others(self) -> list[RemotePath]:
        return [self._folder / name for name in _claims(self._folder) if name != self._claim.name]

    def _bury_the_dead(self) -> None:
        """Wait until every claim has shown that its driver lives, or has not moved for DEAD_AFTER_S."""
        first: dict[str, tuple[int, float]] = {}  # what each claim showed when it was first seen here, and when
        while claims := _claims(self._folder):
            for name, changed_at in claims.items():
                claim = self._folder / name
                content = _read(claim)
                if content is None:
                    continue  # let go of just now
                lives = _lives_here(content)
                showed, since = first.setdefault(name, (changed_at, time.monotonic()))
                if lives or (lives is None and changed_at != showed):
                    raise HeldError(content)
                if lives is False or time.monotonic() - since > DEAD_AFTER_S:
                    claim.unlink(missing_ok=True)
            time.sleep(_LOOK_S)

    def _beat(self) -> None:
        while not self._released.wait(HEARTBEAT_S):
            try:
                if self._claim.name not in _claims(self._folder):
                    return self._on_lost()
                self._claim.write_bytes(self._content)
                if self._released.is_set():  # meanwhile: release() did not wait for a slow server
                    self._claim.unlink(missing_ok=True)
            except StorageError:
                continue  # away: it is tried again, and nobody else can take the lock meanwhile


def remote_holder(folder: RemotePath) -> dict[str, Any] | None:
    """The claim of the driver that runs the sweep now, by a process that lives here or a heartbeat of the last minute.

    Raises:
        StorageError: the server does not answer, or refuses.
    """
    for name, changed_at in _claims(folder).items():
        content = _read(folder / name)
        if content is None:
            continue
        lives = _lives_here(content)
        if lives or (lives is None and time.time() - changed_at / 1e9 < FRESH_S):
            return content
    return None


def lost_for(sweep: str) -> Callable[[], None]:
    """What a driver does that was taken for dead: it ends before it writes over what the other one writes."""

    def end() -> None:
        print(
            f"\nsweep {sweep}: the storage did not hear from this driver for {DEAD_AFTER_S:g} s, and another one has "
            "taken over; this one ends",
            flush=True,
        )
        os._exit(1)

    return end


def refusal(folder: RemotePath, sweep: str, who: str) -> ResultsError:
    return ResultsError(
        f"{folder}: sweep {sweep} is already run by another driver, {who}; wait for it, stop it, or give this sweep "
        "another name"
    )


def _claims(folder: RemotePath) -> dict[str, int]:
    """Names of the claims, and when each was last written, in ns by the server's clock."""
    try:
        listing = folder.list_folder()
    except FileNotFoundError:
        return {}
    return {name: stat.st_mtime_ns for name, stat in listing.items() if stat is not None and name.endswith(".json")}


def _read(claim: RemotePath) -> dict[str, Any] | None:
    try:
        content = json.loads(claim.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        content = {}
    return content if isinstance(content, dict) else {}


def _myself() -> dict[str, Any]:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "started_at": now,
        "machine": _machine(),
        "born": _born(pid),
    }


def _lives_here(content: dict[str, Any]) -> bool | None:
    """Whether a claim's process lives on this machine; None where it is another's, or cannot be known."""
    if not _machine() or content.get("machine") != _machine() or not isinstance(content.get("pid"), int):
        return None
    return _born(content["pid"]) == content.get("born")


def _machine() -> str | None:
    """One boot of one machine, and in it the container, whose processes have numbers of their own."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:
        return None


def _born(pid: int) -> str | None:
    """When a process started, in the kernel's ticks: a number that has gone to another process has another birth."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return None if state in "ZX" else rest[18]
