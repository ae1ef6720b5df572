"""Ray's own processes on this machine (raylet, gcs_server): noticing that they died, and killing them at the end.

Ray reports neither. Without its raylet Tuner.fit waits for ever, and ray.shutdown() waits for processes that do not
answer. What this file uses of Ray is private to it, so a new version of Ray may need changes here.
"""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar

from flexres_tune.errors import FlexResError

if TYPE_CHECKING:
    import psutil

T = TypeVar("T")
TUNE_THREAD = "tune"  # name of the thread in which Tuner.fit runs
POLL_PERIOD_S = 0.1


class RayLostError(FlexResError):
    """Ray's own processes on this machine died; everything until then is in the tables.

    This process cannot continue: Tune's thread waits for ever, and a second Ray cannot be started next to it. A new
    process can.
    """

    exit_status = 1


def dead_ray_processes() -> list[str]:
    """Names (raylet, gcs_server) of the processes of Ray that this process started and that have ended."""
    import ray

    node = ray._private.worker._global_node
    if node is None:
        return []
    started = [(name, info.process) for name in ("raylet", "gcs_server") for info in node.all_processes.get(name, ())]
    return [name for name, process in started if process.poll() is not None or _has_ended(process.pid)]


def call_unless_ray_died(function: Callable[[], T]) -> T:
    """function(), which queries Ray. It runs in a thread, which is abandoned if Ray's own processes die meanwhile.

    Raises:
        RayLostError: they died.
    """
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function())
        except Exception as error:  # raised again in the calling thread
            future.set_exception(error)

    threading.Thread(target=run, name="ray call", daemon=True).start()
    while not (dead := dead_ray_processes()):
        if future.done():
            return future.result()
        wait([future], POLL_PERIOD_S)
    raise RayLostError(f"Ray's own processes ({', '.join(dead)}) died")


def kill_children() -> None:
    """Kill all descendants of this process, before another program replaces it."""
    import psutil

    _for_each(psutil.Process().children(recursive=True), psutil.Process.kill)


def kill_ray() -> None:
    """Disconnect from Ray and kill the processes that ray.init started here, without waiting for them.

    ray.shutdown() would send them SIGTERM, which they block, and wait a second for each. Killing them loses nothing:
    results are in the tables, and nothing reads Ray's own state. ray.shutdown() is left out if a process of Ray is dead
    already, or if Tune's thread was abandoned after a signal, because it would wait for them (on a slow machine until
    Ray's client ended the process after 60 s with exit status 1).
    """
    import psutil
    import ray

    node = ray._private.worker._global_node
    if node is None:
        return ray.shutdown()
    is_lost = bool(dead_ray_processes()) or any(thread.name == TUNE_THREAD for thread in threading.enumerate())
    agents: list[psutil.Process] = []
    for _, process in node.live_processes():
        with suppress(psutil.NoSuchProcess):
            agents += psutil.Process(process.pid).children()
    _for_each(agents, psutil.Process.suspend)  # Ray's agents would print the raylet's log after our last line
    kill = node.kill_all_processes
    node.kill_all_processes = lambda **options: kill(check_alive=False, allow_graceful=False)
    if is_lost:
        atexit.unregister(ray._private.worker.shutdown)  # it would wait, too
        node.kill_all_processes()
    else:
        ray.shutdown()
    _for_each(agents, psutil.Process.kill)  # all of them are children of the raylet


def _has_ended(pid: int) -> bool:
    """Zombies included: Popen.poll() returns None while another thread waits for the same process, as Ray's does."""
    import psutil

    try:
        return psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return True


def _for_each(processes: list[psutil.Process], action: Callable[[psutil.Process], None]) -> None:
    import psutil

    for process in processes:
        with suppress(psutil.NoSuchProcess):
            action(process)
