"""The command doctor, on a real cluster of three nodes and on this machine alone."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def address():
    """A head and two workers on this machine, started by another process so that this one does not join them."""
    script = (
        "import sys\n"
        "from ray.cluster_utils import Cluster\n"
        "options = {'num_cpus': 1, 'object_store_memory': 80 * 1024**2}\n"
        "cluster = Cluster(True, head_node_args=options | {'include_dashboard': False})\n"
        "cluster.add_node(**options)\n"
        "cluster.add_node(**options)\n"
        "print(cluster.address, flush=True)\n"
        "sys.stdin.read()\n"
        "cluster.shutdown()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    lines = iter(process.stdout.readline, "")
    yield next(line.strip() for line in lines if ":" in line and line.strip()[-1].isdigit())
    process.stdin.close()
    process.wait(60)


def doctor(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "flexres_tune.doctor", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "160"},
    )
    return done.returncode, done.stdout, done.stderr


def test_cluster_without_problems(address, tmp_path):
    status, output, errors = doctor("--address", address, "--dataset", "digits", "--storage", tmp_path / "results")
    assert (status, errors) == (0, "")
    assert f"3 nodes at {address}: no problems found" in output
    for check in ("Python", "Ray", "torch", "flexres_tune", "GPUs", "data digits", "clock"):
        assert f"ok  {check}" in output
    assert "written, and shared" in output
    assert list((tmp_path / "results").iterdir()) == [], "no file remains"


def test_failed_check_gives_exit_status_1(address, tmp_path):
    (tmp_path / "file").write_text("")
    status, output, _ = doctor("--address", address, "--dataset", "parquet:/nowhere", "--storage", tmp_path / "file")
    assert status == 1
    assert "2 problems found" in output
    assert "no  data parquet:/nowhere" in output
    assert "no  storage" in output
    assert "mount it there, writable for the user that Ray runs as" in output


def test_address_without_a_cluster_is_an_error():
    status, _, errors = doctor("--address", "127.0.0.1:1")
    assert status == 2
    assert "a Ray cluster must answer at --address 127.0.0.1:1" in errors


def test_this_machine_is_checked_without_ray(tmp_path):
    status, output, _ = doctor("--here", "--dataset", "digits", "--storage", tmp_path)
    assert status == 0
    assert "this machine: no problems found" in output


def test_speed_of_this_machine_is_measured():
    status, output, _ = doctor("--here", "--speed")
    assert status == 0, output
    assert "matrix product" in output
    assert "TFLOP/s (median)" in output


@pytest.mark.parametrize(("name", "says"), [("load", "no problems found"), ("broken", "ZeroDivisionError")])
def test_own_code_that_loads_images_is_checked_like_other_data(tmp_path, name, says):
    (tmp_path / "doctor_data.py").write_text(
        "import numpy as np\n\ndef load():\n"
        "    images, labels = np.zeros((20, 8, 8), np.uint8), np.arange(20) % 2\n"
        "    return {'train_images': images, 'train_labels': labels, 'test_images': images, 'test_labels': labels}\n\n"
        "def broken():\n    return 1 / 0\n"
    )
    status, output, errors = doctor("--here", "--dataset", f"{tmp_path / 'doctor_data.py'}:{name}")
    assert (status, errors) == (int(name == "broken"), "") and says in output
    assert "must name a file" in doctor("--here", "--dataset", "no_file.py:load")[2]
