"""Connecting to Ray: which cluster a command joins or starts, Ray's settings, and how the connection ends."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from flexres_tune.cluster.ray_processes import RayLostError, call_unless_ray_died, kill_ray
from flexres_tune.cluster.resources import (
    ClusterResources,
    NodeResources,
    gpu_kinds,
    max_nodes,
    num_visible_gpus,
    read_autoscaler_config,
)
from flexres_tune.errors import DeviceError
from flexres_tune.storage.filesystem import forwarded_environment
from flexres_tune.text import excerpt

CONNECT_TIMEOUT_S = 3.0
ANSWER_TIMEOUT_S = 10.0  # of a busy head
# The start of a connection to a gRPC server, which a head is: both sides send a SETTINGS frame, type 4 (RFC 9113, 3.4)
HTTP2_SETTINGS = b"\x04"
HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0" + HTTP2_SETTINGS + bytes(5)
TRANSIENT_OS_ERRORS = (ConnectionError, TimeoutError, BlockingIOError, InterruptedError)  # may pass in a new process

# Ray's settings, which must be in the environment before ray is imported. A variable that the user has set wins.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # Ray's future default; if unset, Ray warns about it in every trial
    "RAY_memory_monitor_refresh_ms": "0",  # a trial that it kills ends the whole sweep, whatever max_failures says
    "RAY_AIR_NEW_OUTPUT": "0",  # the new output prints a box even with verbose=0
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # Ray's snapshots are not used, and each one stops the driver for a while
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",  # a trial that failed reports no metric
    "TUNE_WARN_THRESHOLD_S": "30",
    "TUNE_FUNCTION_THREAD_TIMEOUT_S": "10",  # time for a stopped trial's thread to end; its actor is then reused
}

# Activations are tens of MB, which glibc requests from the kernel at every step, in pages of 4 KB. If it keeps them, in
# huge pages, resnet22_2 at batch 128 trains 1.08 (1.07 to 1.10) times as fast (AMD EPYC, 2 cores, torch 2.15.0, bf16
# compiled, 5 pairs of epochs in turn), with 1.6 GB of memory instead of 1.3. Other C libraries ignore the variable.
PROCESS_ENVIRONMENT = MappingProxyType(
    {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824"
        ":glibc.malloc.trim_threshold=17179869184"
    }
)


def find_address(address: str | None, local: bool) -> str | None:
    """Address of the cluster to join, or None to start Ray here.

    The first of: `address`, $RAY_ADDRESS, a cluster that `ray start` has started or joined on this machine. `local`
    ignores all three.
    """
    address = address or os.environ.get("RAY_ADDRESS")
    return None if local or address == "local" else address or _address_on_this_machine()


def ray_folder() -> Path:
    """Where Ray keeps the files of its processes on this machine."""
    return Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray"


def _address_on_this_machine() -> str | None:
    """Content of `ray start`'s file ray_current_cluster if that cluster answers: the file stays if it was killed."""
    try:
        address = (ray_folder() / "ray_current_cluster").read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    return address if address and connection_problem(address) is None else None


def connection_problem(address: str) -> str | None:
    """Why no head of a Ray cluster answers at HOST:PORT; None if one does. Ray itself looks for one if it is `auto`.

    Without this check Ray would try for minutes if nothing listens, or if another program uses the port now.
    """
    host, _, port = address.rpartition(":")
    if address == "auto":
        return None
    if not host or not port.isdigit() or "://" in address:
        return (
            "the address must be auto or the HOST:PORT of a head; through ray:// no sweep can be run, but with "
            "python -m flexres_tune.submit"
        )
    try:
        with socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S) as connection:
            if os.environ.get("RAY_USE_TLS", "0") != "0":
                return None
            connection.settimeout(ANSWER_TIMEOUT_S)
            connection.sendall(HTTP2_PREFACE)
            answer = connection.recv(9)
    except (OSError, OverflowError) as error:  # OverflowError: no such port
        return str(getattr(error, "strerror", None) or error)
    if answer[3:4] != HTTP2_SETTINGS:
        return "the program that listens there is not Ray"
    return None


class RayConnection:
    """A connection that is made when it is first needed, and closed at the end of the context."""

    def __init__(self, address: str | None, verbose: bool):
        self._address, self._verbose = address, verbose
        self._stack = ExitStack()
        self._cluster: ClusterResources | None = None

    @property
    def address(self) -> str | None:
        """Of the cluster to join; None: Ray is started on this machine."""
        return self._address

    @property
    def is_connected(self) -> bool:
        return self._cluster is not None

    @property
    def cluster(self) -> ClusterResources:
        assert self._cluster is not None, "connect() first"
        return self._cluster

    def connect(self) -> None:
        """Connect unless connected. Raises DeviceError if no cluster answers at the address."""
        if self._cluster is None:
            self._cluster = self._stack.enter_context(connect(self._address, self._verbose, ship_code=True))

    def __enter__(self) -> RayConnection:
        return self

    def __exit__(self, *exc_info) -> None:
        self._stack.close()


@contextmanager
def connect(address: str | None, verbose: bool = False, ship_code: bool = False) -> Iterator[ClusterResources]:
    """Join the cluster at `address`, or start Ray on this machine for the duration of the context.

    With `ship_code`, all nodes of a joined cluster run the driver's copy of this package, even if they have another.

    Raises:
        DeviceError: no cluster answers at the address.
        RayLostError: Ray did not start here.
    """
    for name, value in (ENVIRONMENT | PROCESS_ENVIRONMENT).items():  # trials inherit both from Ray's processes
        os.environ.setdefault(name, value)
    import ray

    if not verbose:
        logging.getLogger("ray").setLevel(logging.ERROR)
    already_connected = ray.is_initialized()  # by a test's session
    try:
        if not already_connected:
            level = logging.INFO if verbose else logging.ERROR
            options = {"log_to_driver": verbose, "logging_level": level, "configure_logging": True}
            if address:
                _join(address, ship_code, options)
            else:
                _start(options)
        yield call_unless_ray_died(lambda: read_cluster(is_local=not address and not already_connected))
    finally:
        if not already_connected:
            kill_ray()


def read_cluster(is_local: bool) -> ClusterResources:
    """The connected cluster as it is now; if it scales, with the nodes that it may still start."""
    import ray

    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    nodes = max_nodes([NodeResources.of(node) for node in alive], None if is_local else read_autoscaler_config())
    return ClusterResources(nodes, len(alive), is_local, gpu_kinds(alive))


def _join(address: str, ship_code: bool, options: dict[str, Any]) -> None:
    import ray

    try:
        if problem := connection_problem(address):
            raise ConnectionError(problem)
        ray.init(address=address, runtime_env=_runtime_env(ship_code), **options)
    except ray.exceptions.AuthenticationError as error:
        raise DeviceError(
            f"the cluster at {address} must accept this token, but: {_first_line(error)}; set RAY_AUTH_MODE=token, "
            "and copy the head's ~/.ray/auth_token to this machine; or use --local to start Ray here"
        ) from None
    except (ConnectionError, ValueError, RuntimeError) as error:  # RuntimeError: another version of Ray or Python
        raise DeviceError(
            f"a Ray cluster must answer at --address {address}, but: {_first_line(error)}; start one with "
            "`ray up`, or use --local to run on this machine"
        ) from None


def _runtime_env(ship_code: bool) -> dict[str, Any] | None:
    """What nodes get from this machine: how to reach object storage, and with `ship_code` this package."""
    storage = forwarded_environment()
    if ship_code:
        code = {"py_modules": [str(Path(__file__).parents[1])], "excludes": ["__pycache__"]}
        return code | {"env_vars": dict(PROCESS_ENVIRONMENT) | storage}
    return {"env_vars": storage} if storage else None


def _start(options: dict[str, Any]) -> None:
    import ray

    try:
        with _termination_signals_blocked(), _package_on_python_path():
            ray.init(address="local", include_dashboard=False, num_gpus=num_visible_gpus(), **options)
    except OSError as error:
        if isinstance(error, TRANSIENT_OS_ERRORS):
            raise RayLostError(f"Ray did not start: {_first_line(error)[:300]}") from error
        reason, file = excerpt(error.strerror or error, 200), str(error.filename or "")
        name, value = "RAY_TMPDIR", ray_folder().parent
        if file.startswith(str(Path.home())):
            name, value = "HOME", Path.home()
        raise DeviceError(
            f"Ray must be able to start on this machine, but: {file and excerpt(file) + ': '}{reason}; set {name}, "
            f"which is {excerpt(value)}, to a short path of a folder that you can write to, with some free space"
        ) from None
    except Exception as error:  # Ray raises many types if its processes do not start or die while they do
        raise RayLostError(f"Ray did not start: {_first_line(error)[:300]}") from error


@contextmanager
def _package_on_python_path() -> Iterator[None]:
    """Processes that are started inside can import this package, also if a notebook has put it on sys.path itself."""
    before, folder = os.environ.get("PYTHONPATH"), str(Path(__file__).parents[2])
    os.environ["PYTHONPATH"] = os.pathsep.join([folder, *([before] if before else [])])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def _termination_signals_blocked() -> Iterator[None]:
    """Processes that are started inside inherit SIGTERM and SIGHUP blocked; Ray itself does the same for SIGINT.

    Slurm sends SIGTERM to every process of a job, and a terminal that is lost sends SIGHUP to its whole group. If Ray's
    processes ended at once, no trial could save a checkpoint, and this process would be aborted inside Ray before it
    wrote a row.
    """
    handler = signal.getsignal(signal.SIGTERM)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # ray.init has replaced it by one that ends the process at once
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
