"""Emulated machines (tests/machines/machines.sh) for the tests marked `cluster`."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
MACHINES = Path(__file__).with_name("machines.sh")
AWAIT_NODES = """
import sys, time, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
end = time.monotonic() + 240
while (num := sum(node["Alive"] for node in ray.nodes())) < 3 and time.monotonic() < end:
    time.sleep(1)
sys.exit(0 if num == 3 else f"{num} of 3 nodes after 240 s")
"""
NEEDED = ("ip", "ss", "nsenter", "unshare", "sshd", "rsync", "ssh-keygen", "pgrep")


def why_not():
    """Why this machine cannot emulate several; None if it can."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    if missing := [name for name in NEEDED if shutil.which(name, path=path) is None]:
        return (
            f"{', '.join(missing)} must be installed: apt-get install iproute2 util-linux openssh-server rsync procps"
        )
    probe = subprocess.run(["unshare", "--net", "--mount", "--pid", "--fork", "true"], capture_output=True, text=True)
    return f"this machine allows no namespaces: {probe.stderr.strip()}" if probe.returncode else None


class Machines:
    """A machine to type on (cli), a head (n1) and two workers (n2, n3), which share the folder `shared`."""

    head = "10.77.0.11"
    workers = ("10.77.0.12", "10.77.0.13")

    def __init__(self, lab: Path):
        self.lab = lab
        self.shared = lab / "shared"
        self._environment = os.environ | {"LAB": str(lab), "VENV": sys.prefix}

    def _call(self, *arguments, **options):
        return subprocess.run([MACHINES, *map(str, arguments)], env=self._environment, text=True, **options)

    def up(self, num_machines):
        self._call("up", num_machines, check=True, capture_output=True)

    def down(self):
        self._call("down", check=True, capture_output=True)

    def do(self, command, name):
        """kill, boot, cut or mend a machine."""
        self._call(command, name, check=True, capture_output=True)

    def on(self, name, script, timeout_s=300):
        """(status, stdout + stderr) of a shell script that runs on a machine."""
        done = self._call(
            "exec", name, "bash", "-c", script, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout_s
        )
        return done.returncode, done.stdout

    def is_alive(self, name):
        pid = self.lab / name / "pid"
        return pid.exists() and psutil.pid_exists(int(pid.read_text()))

    def start(self, name, script):
        """Start a shell script on a machine, and do not wait for it."""
        return subprocess.Popen(
            [MACHINES, "exec", name, "bash", "-c", script],
            env=self._environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def wait_for(self, condition, what, timeout_s=240):
        """Wait until a condition holds."""
        end = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < end, f"no {what} after {timeout_s} s"
            time.sleep(0.5)

    def ray_processes(self, name):
        """Command lines of Ray's own processes on a machine."""
        _, output = self.on(name, "ps -eo args | grep -E 'raylet|gcs_server|ray::|monitor.py' | grep -v grep")
        return output.splitlines()


@pytest.fixture(scope="session")
def machines():
    """Three machines with the checkout on a folder that all of them share."""
    if reason := why_not():
        pytest.skip(reason)
    lab = Path(tempfile.mkdtemp(prefix="fxlab_", dir="/var/tmp"))  # short: Ray's sockets have 107 characters
    machines = Machines(lab)
    try:
        machines.up(3)
        machines.shared.mkdir()
        for name in ("flexres_tune", "sweeps", "cluster", "requirements.txt"):
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, machines.shared / name)
        (machines.shared / ".venv").symlink_to(sys.prefix)
        yield machines
    finally:
        machines.down()
        shutil.rmtree(lab, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(machines):
    """The machines as a running cluster, started as the header of cluster/onprem.yaml says."""
    for name in ("n1", "n2", "n3"):  # a test of another module may have killed one
        if not machines.is_alive(name):
            machines.do("boot", name)
    text = (ROOT / "cluster/onprem.yaml").read_text()
    for place, value in {
        "FOLDER-YOURS": str(machines.shared),
        "HEAD-YOURS": machines.head,
        "WORKERS-YOURS": ", ".join(machines.workers),
        "USER-YOURS": "root",
        "KEY-YOURS": str(machines.lab / "ssh/id"),
    }.items():
        text = text.replace(place, value)
    (machines.lab / "onprem.yaml").write_text(text)
    status, output = machines.on("cli", "ray get-auth-token --generate >/dev/null")
    assert status == 0, output
    status, output = machines.on("cli", f"RAY_UP_enable_autoscaler_v2=0 ray up -y {machines.lab}/onprem.yaml")
    assert status == 0, output
    status, output = machines.on(
        "n1", f"cd {machines.shared} && RAY_AUTH_MODE=token .venv/bin/python -c '{AWAIT_NODES}'"
    )
    assert status == 0, output
    yield machines
    machines.on("cli", f"ray down -y {machines.lab}/onprem.yaml")
    # workers stop by themselves only after a minute, and the next module would use them
    for name in ("n1", "n2", "n3"):
        if machines.is_alive(name):
            machines.on(name, "ray stop --force")
