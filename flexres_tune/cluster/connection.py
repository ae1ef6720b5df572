"""The Ray cluster a sweep runs on: started here, or joined."""

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
    max_nodes,
    max_resources,
    num_visible_gpus,
    read_autoscaler_config,
)
from flexres_tune.errors import DeviceError
from flexres_tune.storage.filesystem import forwarded_environment

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
def connect(address: str | None, verbose: bool = False, ship_code: bool = False) -> Iterator[ClusterResources]:
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
                if problem := connection_problem(address):
                    raise ConnectionError(problem)
                ray.init(address=address, runtime_env=_own_code() if ship_code else _settings(), **options)
            else:
                with _termination_signals_blocked(), _errors_on_one_line():
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
        yield call_unless_ray_died(lambda: read_cluster(is_local=not address and not already_connected))
    finally:
        if not already_connected:
            kill_ray()


def read_cluster(is_local: bool) -> ClusterResources:
    """The connected cluster as it is now."""
    import ray

    config = None if is_local else read_autoscaler_config()
    size = max_resources(ray.cluster_resources(), config)
    alive = [node for node in ray.nodes() if node["Alive"]]
    return ClusterResources(
        num_cpus=size["CPU"],
        num_gpus=size["GPU"],
        num_nodes=len(alive),
        is_local=is_local,
        nodes=max_nodes([NodeResources.of(node["Resources"]) for node in alive], config),
    )


class RayConnection:
    """Ray, started or joined when first needed, and stopped or left at the end of the context."""

    def __init__(self, address: str | None, verbose: bool):
        self._address, self._verbose = address, verbose
        self._stack = ExitStack()
        self._cluster: ClusterResources | None = None

    @property
    def is_connected(self) -> bool:
        return self._cluster is not None

    @property
    def cluster(self) -> ClusterResources:
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


@contextmanager
def _termination_signals_blocked() -> Iterator[None]:
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
def _errors_on_one_line() -> Iterator[None]:
    """Whatever Ray raises where its processes do not come up, or die while they do."""
    try:
        yield
    except Exception as error:
        lines = str(error).splitlines() or [type(error).__name__]
        raise RayLostError(f"Ray did not start: {lines[0][:300]}") from error


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


CONNECT_TIMEOUT_S = 3.0


def find_address(address: str | None, local: bool) -> str | None:
    """Address of the cluster to join: the one given, $RAY_ADDRESS, one that `ray start` has started or joined on this
    machine, or None for a Ray of our own. `local` stays out of all of them.
    """
    if local:
        return None
    return address or os.environ.get("RAY_ADDRESS") or _running_here()


def connection_problem(address: str) -> str | None:
    """Why nobody can be reached at host:port; None where somebody can, or where the address is of another form.

    Ray would try for minutes.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "://" in address:
        return None
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        return str(error.strerror or error)
    return None


def _running_here() -> str | None:
    """What `ray start` left in ray_current_cluster, if somebody still answers there: the file outlives its cluster."""
    folder = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray"
    try:
        address = (folder / "ray_current_cluster").read_text().strip()
    except OSError:
        return None
    return address if address and connection_problem(address) is None else None


# Activations are tens of MB, which glibc takes from the kernel anew at every step, in pages of 4 KB. Kept, and in huge
# pages, resnet22_2 at batch 128 trains 1.08 (1.07 to 1.10) times as fast (AMD EPYC, 2 cores, torch 2.15.0, bf16
# compiled, 5 pairs of epochs in turn), for 1.6 GB in place of 1.3. Other C libraries do not look at it.
PROCESS_ENVIRONMENT = MappingProxyType(
    {
        "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824"
        ":glibc.malloc.trim_threshold=17179869184"
    }
)
