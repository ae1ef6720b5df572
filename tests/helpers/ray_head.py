"""The head of a Ray cluster, as processes of its own on this machine, which drivers join by its address."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping

import psutil

from flexres_tune.cluster import connection

START_S = 90.0


@contextlib.contextmanager
def ray_head(num_cpus: int, env: Mapping[str, str]) -> Iterator[str]:
    """Start a head with `num_cpus` slots, whose trials have this environment, and end its processes; its address."""
    folder = tempfile.mkdtemp(prefix="fx_")  # short: it is part of the paths of sockets
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--include-dashboard=false"]
    command += ["--node-ip-address=127.0.0.1", f"--port={address.rpartition(':')[2]}", f"--num-cpus={num_cpus}"]
    command += [f"--object-store-memory={80 * 1024**2}", f"--temp-dir={folder}", "--disable-usage-stats"]
    environment = os.environ | connection.ENVIRONMENT | env | {"RAY_TMPDIR": folder}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    known: list[psutil.Process] = []
    try:
        deadline = time.monotonic() + START_S
        while connection.connection_problem(address) is not None:
            assert process.poll() is None and time.monotonic() < deadline, "no head of Ray has started"
            time.sleep(0.2)
        yield address
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            known = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for each in known:
            with contextlib.suppress(psutil.NoSuchProcess):  # it checks that the number is not another process's
                each.kill()
        process.kill()
        process.wait()
        shutil.rmtree(folder, ignore_errors=True)
