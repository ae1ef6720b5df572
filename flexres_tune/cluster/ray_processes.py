"""Ray's own processes (raylet, gcs_server): seen when they die, and ended when the command ends."""

from __future__ import annotations

import atexit
import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from flexres_tune.errors import FlexResError

T = TypeVar("T")
TUNE_THREAD = "tune"  # the thread in which Tuner.fit runs


class RayLostError(FlexResError):
    """Ray's own processes on this machine died; what had happened by then is in the tables.

    The process cannot go on: Tune's thread waits for an answer for ever, and Ray cannot be started a second time beside
    it. Another process can.
    """

    exit_status = 1


def dead_ray_processes() -> list[str]:
    """Those of Ray's own processes (raylet, gcs_server) that this process started and that are gone.

    Ray does not say so: without its raylet, Tuner.fit waits for ever.
    """
    import ray

    node = ray._private.worker._global_node
    if node is None:
        return []
    vital = ("raylet", "gcs_server")
    daemons = [(kind, info.process) for kind in vital for info in node.all_processes.get(kind, ())]
    return [kind for kind, daemon in daemons if daemon.poll() is not None or _is_dead(daemon.pid)]


def call_unless_ray_died(ask: Callable[[], T]) -> T:
    """ask(), which asks Ray something; in a thread that is left behind where Ray's own processes die meanwhile.

    Raises:
        RayLostError: they died.
    """
    answers: list[T] = []
    errors: list[Exception] = []

    def run() -> None:
        try:
            answers.append(ask())
        except Exception as error:  # raised where it was asked
            errors.append(error)

    thread = threading.Thread(target=run, name="ask", daemon=True)
    thread.start()
    while thread.is_alive() and not dead_ray_processes():
        thread.join(0.1)
    if dead := dead_ray_processes():
        raise RayLostError(f"Ray's own processes ({', '.join(dead)}) died")
    if errors:
        raise errors[0]
    return answers[0]


def kill_children() -> None:
    """End whatever processes this one has started, and theirs; before another program takes its place."""
    todo = _children(os.getpid())
    while todo:
        pid = todo.pop()
        todo += _children(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_ray() -> None:
    """ray.shutdown() without its politeness: it would send SIGTERM, to which they are deaf, and wait a second each.

    Nothing is lost: what happened is in the tables, and Ray's own state is read by nobody. Where a daemon is dead
    already, or Tune's thread was left behind after a signal, the rest is only killed: ray.shutdown() would wait for
    them (seen on a slow machine: until Ray's client ended the process after 60 s, with exit status 1), and a thread
    that still waits for an answer would start another Ray as soon as this one is gone.
    """
    import ray

    node = ray._private.worker._global_node
    if node is None:
        return ray.shutdown()
    is_lost = bool(dead_ray_processes()) or any(thread.name == TUNE_THREAD for thread in threading.enumerate())
    agents = [pid for _, daemon in node.live_processes() for pid in _children(daemon.pid)]
    _send(agents, signal.SIGSTOP)  # else they report the raylet's death: its log would be our last words
    kill = node.kill_all_processes
    node.kill_all_processes = lambda **options: kill(check_alive=False, allow_graceful=False)
    if is_lost:
        atexit.unregister(ray._private.worker.shutdown)  # it would wait, too
        node.kill_all_processes()
    else:
        ray.shutdown()
    _send(agents, signal.SIGKILL)  # none of them is anything but the raylet's child


def _send(pids: list[int], number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _children(parent: int) -> list[int]:
    """Processes whose parent is this one, by /proc; none where there is no /proc."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found


def _is_dead(pid: int) -> bool:
    """By /proc, because Popen.poll() says nothing while another thread waits for the same process, as Ray's does."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return Path("/proc/self/stat").exists()
