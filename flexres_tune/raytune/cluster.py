"""The Ray cluster a sweep runs on: started here, or joined."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from flexres_tune.errors import DeviceError, FlexResError
from flexres_tune.places.connection import forwarded_environment
from flexres_tune.raytune.address import nobody_at
from flexres_tune.raytune.environment import PROCESS_ENVIRONMENT
from flexres_tune.raytune.growth import grown, grown_nodes, read_bootstrap
from flexres_tune.raytune.size import Cluster, NodeSize

T = TypeVar("T")
TUNE_THREAD = "tune"  # the thread in which Tuner.fit runs

# What Ray would otherwise say, write or do behind the user's back. Set before ray is imported; a user's own
# setting of the same variable wins.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's coming default; unset, it warns about it in every trial
    "RAY_memory_monitor_refresh_ms": "0",  # its kill would crash the whole sweep, whatever max_failures says
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints a box even when told to be silent
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # nobody reads Ray's snapshots; each costs the driver a pause
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed reports no metric
    "TUNE_WARN_THRESHOLD_S": "30",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "10",  # a stopped trial's thread ends at its report; wait for it, then reuse
}


@contextmanager
def connect(address: str | None, verbose: bool = False, ship_code: bool = False) -> Iterator[Cluster]:
    """Join the cluster at `address`, or start one on this machine for the length of the context.

    `ship_code` sends this package along: all nodes of a joined cluster run the driver's code, whatever they have.

    Raises:
        DeviceError: nothing answers at the address.
    """
    for name, value in (ENVIRONMENT | PROCESS_ENVIRONMENT).items():  # Ray's processes hand the latter on to trials
        os.environ.setdefault(name, value)
    import ray

    if not verbose:
        logging.getLogger("ray").setLevel(logging.ERROR)
    level = logging.INFO if verbose else logging.ERROR
    options = {"log_to_driver": verbose, "logging_level": level, "configure_logging": True}
    already_connected = ray.is_initialized()  # by a test's session
    if not already_connected:
        try:
            if address:
                if problem := nobody_at(address):
                    raise ConnectionError(problem)
                ray.init(address=address, runtime_env=_own_code() if ship_code else _settings(), **options)
            else:
                with _deaf_children(), _said_in_a_line():
                    ray.init(address="local", include_dashboard=False, num_gpus=num_visible_gpus(), **options)
        except ray.exceptions.AuthenticationError as error:
            raise DeviceError(
                f"the cluster at {address} must accept this token, but: {_first_line(error)}; set RAY_AUTH_MODE=token, "
                "and copy the head's ~/.ray/auth_token here; or use --local to stay out of it"
            ) from None
        except (ConnectionError, ValueError, RuntimeError) as error:  # RuntimeError: another version of Ray or Python
            if address is None:
                raise
            raise DeviceError(
                f"a Ray cluster must answer at --address {address}, but: {_first_line(error)}; start one with "
                "`ray up`, or use --local to run on this machine"
            ) from None
    try:
        yield watched(lambda: present_cluster(is_local=not address and not already_connected))
    finally:
        if not already_connected:
            _shut_down()


def present_cluster(is_local: bool) -> Cluster:
    """The connected cluster as it is now."""
    import ray

    config = None if is_local else read_bootstrap()
    size = grown(ray.cluster_resources(), config)
    alive = [node for node in ray.nodes() if node["Alive"]]
    return Cluster(
        num_cpus=size["CPU"],
        num_gpus=size["GPU"],
        num_nodes=len(alive),
        is_local=is_local,
        nodes=grown_nodes([NodeSize.of(node["Resources"]) for node in alive], config),
    )


class RayLostError(FlexResError):
    """Ray's own processes on this machine died; what had happened by then is in the tables.

    The process cannot go on: Tune's thread waits for an answer for ever, and Ray cannot be started a second time beside
    it. Another process can.
    """

    exit_status = 1


class RayConnection:
    """Ray, started or joined when first needed, and stopped or left at the end of the context."""

    def __init__(self, address: str | None, verbose: bool):
        self._address, self._verbose = address, verbose
        self._stack = ExitStack()
        self._cluster: Cluster | None = None

    @property
    def is_connected(self) -> bool:
        return self._cluster is not None

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None, "connect() first"
        return self._cluster

    def connect(self) -> None:
        """Raises:
        DeviceError: nothing answers at the address.
        """
        if self._cluster is None:
            self._cluster = self._stack.enter_context(connect(self._address, self._verbose, ship_code=True))

    def __enter__(self) -> RayConnection:
        return self

    def __exit__(self, *exc_info) -> None:
        self._stack.close()


def dead_daemons() -> list[str]:
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


def _is_dead(pid: int) -> bool:
    """By /proc, because Popen.poll() says nothing while another thread waits for the same process, as Ray's does."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except OSError:
        return Path("/proc/self/stat").exists()


def watched(ask: Callable[[], T]) -> T:
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
    while thread.is_alive() and not dead_daemons():
        thread.join(0.1)
    if dead := dead_daemons():
        raise RayLostError(f"Ray's own processes ({', '.join(dead)}) died")
    if errors:
        raise errors[0]
    return answers[0]


@contextmanager
def _deaf_children() -> Iterator[None]:
    """Processes started inside do not hear SIGTERM and SIGHUP, as Ray already sees to for SIGINT.

    Slurm sends SIGTERM to every process of a job, and a lost terminal SIGHUP to its whole group. Were Ray's processes
    to end at once, no trial could save where it is, and this process would be aborted inside Ray before it wrote a row.
    """
    handler = signal.getsignal(signal.SIGTERM)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # ray.init has taken it, to end the process at once
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _said_in_a_line() -> Iterator[None]:
    """Whatever Ray raises where its processes do not come up, or die while they do."""
    try:
        yield
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise RayLostError(f"Ray did not start: {lines[0][:300]}") from error


def kill_children() -> None:
    """End whatever processes this one has started, and theirs; before another program takes its place."""
    todo = _children(os.getpid())
    while todo:
        pid = todo.pop()
        todo += _children(pid)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _shut_down() -> None:
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
    is_lost = bool(dead_daemons()) or any(thread.name == TUNE_THREAD for thread in threading.enumerate())
    agents = [pid for _, daemon in node.live_processes() for pid in _children(daemon.pid)]
    kill = node.kill_all_processes
    node.kill_all_processes = lambda **options: kill(check_alive=False, allow_graceful=False)
    if is_lost:
        atexit.unregister(ray._private.worker.shutdown)  # it would wait, too
        node.kill_all_processes()
    else:
        ray.shutdown()
    for pid in agents:  # would notice after half a minute; none of them is anything but the raylet's child
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _children(parent: int) -> list[int]:
    """Processes whose parent is this one, by /proc; none where there is no /proc."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            if int(status.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(status.parent.name))
    return found


def _own_code() -> dict[str, Any]:
    return {
        "py_modules": [str(Path(__file__).parents[1])],
        "excludes": ["__pycache__"],
        "env_vars": dict(PROCESS_ENVIRONMENT) | forwarded_environment(),
    }


def _settings() -> dict[str, Any] | None:
    """How this machine reaches object storage, where it was told: nodes are asked to write there."""
    return {"env_vars": found} if (found := forwarded_environment()) else None


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def has_nvidia_gpu() -> bool:
    """Whether this machine shows an NVIDIA GPU to this process; without torch, so that `--dry-run` answers at once."""
    return (num_visible_gpus() or 0) > 0


def num_visible_gpus() -> int | None:
    """NVIDIA GPUs that this process may use; None where it sees none and nothing says so."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([part for part in visible.split(",") if part.strip() not in ("", "-1", "NoDevFiles")])
    return len(list(Path("/proc/driver/nvidia/gpus").glob("*"))) or None
