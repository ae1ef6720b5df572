"""Steering: what a person asks of a running driver, from another terminal or machine, and the driver's answer.

A request is a small JSON file in `results/<sweep>/.steering/`, written atomically; the driver deletes it and writes
an answer to the same folder. So it works wherever the results can be read: on this machine, on a cluster's shared
folder, or on object storage. Requests are data that are checked field by field: a stranger's folder can execute
nothing. Each names the driver that it is for, so that one that was left behind steers no later driver.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import queue
import re
import socket
import threading
import time
import uuid
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields
from enum import StrEnum

from flexres_tune.errors import FlexResError
from flexres_tune.results.holder import Holder
from flexres_tune.results.paths import SweepPaths
from flexres_tune.storage import AnyPath, atomic_write_text, is_remote, list_folder, parse_json, read_file

POLL_S = 1.0  # between two looks of the driver
REMOTE_POLL_S = 5.0  # the same on object storage, where each look is a request that is paid for
MAX_BYTES = 10_000  # of a request or an answer
MAX_REQUESTS = 1_000  # read at one look
_REQUEST_NAME = re.compile(r"request-[0-9a-f]{32}\.json")


class Act(StrEnum):
    """What a person may ask for."""

    STOP = "stop"  # a running trial, after its current epoch
    PRIORITISE = "prioritise"  # a trial that has not started: it starts next
    RELOAD = "reload"  # save all trials, read the sweep file again, and continue


@dataclass(frozen=True)
class Request:
    """What a person asks of a driver."""

    id: str
    act: str  # an Act
    trial_id: str  # "" for reload
    who: str  # user@host
    driver: str  # identity of the driver that is asked


@dataclass(frozen=True)
class Answer:
    """What the driver says."""

    is_done: bool  # False: refused
    text: str


def identity(holder: Holder) -> str:
    """What tells a driver from an earlier one of the same sweep."""
    return f"{holder.host} {holder.pid} {holder.started_at}"


def send_request(paths: SweepPaths, act: Act, trial_id: str, holder: Holder) -> Request:
    """Ask the driver that holds the sweep's lock.

    Raises:
        StorageError: the folder cannot be written.
    """
    who = f"{_user()}@{socket.gethostname()}"
    request = Request(uuid.uuid4().hex, act.value, trial_id, who, identity(holder))
    atomic_write_text(_folder(paths) / f"request-{request.id}.json", json.dumps(asdict(request)))
    return request


def wait_for_answer(paths: SweepPaths, request: Request, timeout_s: float) -> Answer | None:
    """The driver's answer; None if there is none after `timeout_s`."""
    path = _answer_path(paths, request)
    ends_at = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
            found = parse_json(read_file(path, MAX_BYTES))
            answer = Answer(found["is_done"] is True, str(found["text"]))
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            return answer
        if time.monotonic() > ends_at:
            return None
        time.sleep(min(0.2, timeout_s))


class Inbox(AbstractContextManager):
    """The driver's side: a thread reads requests while the context is open, and `take` returns them.

    A thread, because a look at object storage takes time, and Tune's thread must not wait for it.
    """

    def __init__(self, paths: SweepPaths, driver: str, period_s: float | None = None):
        self._paths, self._driver = paths, driver
        self._period_s = period_s or (REMOTE_POLL_S if is_remote(paths.root) else POLL_S)
        self._requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
        self._is_over = threading.Event()

    def __enter__(self) -> Inbox:
        threading.Thread(target=self._run, name="steering", daemon=True).start()
        return self

    def __exit__(self, *exc_info) -> None:
        self._is_over.set()

    def take(self) -> list[Request]:
        """The requests that have arrived since the last call."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._requests.get_nowait())
        return found

    def answer(self, request: Request, answer: Answer) -> None:
        """Write the answer; a folder that cannot be written is the asking person's problem, not the sweep's."""
        with contextlib.suppress(FlexResError, OSError):
            atomic_write_text(_answer_path(self._paths, request), json.dumps(asdict(answer)))

    def look(self) -> None:
        """Read and delete the requests that are there."""
        folder = _folder(self._paths)
        try:
            names = sorted(name for name in list_folder(folder) if _REQUEST_NAME.fullmatch(name))
        except (OSError, FlexResError):  # there is no such folder until somebody asks
            return
        for name in names[:MAX_REQUESTS]:
            with contextlib.suppress(OSError, FlexResError):
                request = _parse(read_file(folder / name, MAX_BYTES))
                (folder / name).unlink(missing_ok=True)
                if request is not None and request.driver == self._driver and name == f"request-{request.id}.json":
                    self._requests.put(request)

    def _run(self) -> None:
        while not self._is_over.wait(self._period_s):
            self.look()


def _parse(content: bytes) -> Request | None:
    try:
        found = parse_json(content)
        values = {field.name: found[field.name] for field in fields(Request)}
    except (ValueError, KeyError, TypeError):
        return None
    is_text = all(isinstance(value, str) and len(value) <= 300 for value in values.values())
    return Request(**values) if is_text and values["act"] in list(Act) else None


def _folder(paths: SweepPaths) -> AnyPath:
    return paths.folder / ".steering"


def _answer_path(paths: SweepPaths, request: Request) -> AnyPath:
    return _folder(paths) / f"answer-{request.id}.json"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return "unknown"
