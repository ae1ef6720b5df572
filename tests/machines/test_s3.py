"""Results, checkpoints and queries on S3: a real server on loopback, killed and started again while sweeps run."""

import importlib.util
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers.driver_process import ROOT, Driver
from helpers.factories import make_sweep_yaml
from helpers.object_storage import S3Server
from helpers.sabotage import ALL, faults

from flexres_tune.results import open_results
from flexres_tune.storage import list_folder, make_path
from flexres_tune.storage.filesystem import open_filesystem

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(
        not all(map(importlib.util.find_spec, ("moto", "flask"))),
        reason="needs moto[server,s3], the server",
    ),
]

STORAGE = "s3://bucket/results"
NUM_EPOCHS = 45


@pytest.fixture
def server(tmp_path, monkeypatch):
    folder = tmp_path / "server"
    folder.mkdir()
    server = S3Server(folder)
    server.start()
    server.make_bucket("bucket")
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    open_filesystem.cache_clear()
    yield server
    server.kill()
    open_filesystem.cache_clear()


@pytest.fixture
def sweep(tmp_path, server):
    """Start the sweep: sweep(values, *options) -> Driver; ended when the test is."""
    drivers = []

    def start(values, *options, storage=STORAGE):
        file = tmp_path / "test.yaml"
        file.write_text(make_sweep_yaml(base={"epochs": NUM_EPOCHS}) + f"parameters: {{lr: {{values: {values}}}}}\n")
        arguments = (file, "--profile", "none", "--storage", storage, *options)
        drivers.append(Driver(*arguments, env=server.environment | faults(tmp_path / "notes", slow=ALL)))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.clean_up()


def run_module(*command):
    """(status, what a command printed)."""
    command = [sys.executable, "-m", *map(str, command)]
    done = subprocess.run(command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return done.returncode, done.stdout


def num_checkpoints():
    try:
        return len([name for name in list_folder(make_path(STORAGE) / "test" / "checkpoints") if name.endswith(".pt")])
    except FileNotFoundError:
        return 0


def table(name):
    return getattr(open_results(STORAGE), name)("test").to_pandas()


def assert_whole(num_trials):
    """Every trial completed, every epoch once."""
    assert sorted(table("trials")["status"]) == ["completed"] * num_trials
    epochs = table("epochs")
    assert len(epochs) == num_trials * NUM_EPOCHS
    assert not epochs.duplicated(["trial_id", "epoch"]).any()


def test_server_that_is_killed_and_started_again_costs_no_row(sweep, server, tmp_path):
    driver = sweep("[0.02, 0.03, 0.05, 0.1, 0.2, 0.3]")
    driver.wait_for(lambda: num_checkpoints() > 0, 300)
    server.kill()
    driver.wait_for(lambda: "saved checkpoint" in driver.text() and "no trial starts until" in driver.text(), 60)
    server.start()
    assert driver.wait(300) == 0, driver.text()
    text = driver.text()
    assert "does not answer" in text and "all rows are written, after" in text, text
    assert "Traceback" not in text, text
    assert_whole(6)
    assert set(table("trials")["attempt"]) == {1}, "no trial was lost"
    assert num_checkpoints() == 3

    again = sweep("[0.02, 0.03, 0.05, 0.1, 0.2, 0.3]")
    assert again.wait(300) == 0 and "nothing to do: all 6 trials are in s3://bucket/results/test" in again.text()

    status, text = run_module("flexres_tune.query", "leaderboard", "--results", STORAGE)
    assert status == 0 and "0.02" in text, text
    status, text = run_module(
        *("flexres_tune.query", "SELECT count(*) AS n FROM epochs", "--results", STORAGE, "--format", "csv")
    )
    assert (status, text) == (0, f"n\n{6 * NUM_EPOCHS}\n")
    out = f"{STORAGE}/answer.csv"
    status, text = run_module("flexres_tune.query", "trials", "--results", STORAGE, "--format", "csv", "--out", out)
    assert status == 0 and len(make_path(out).read_text().splitlines()) == 7, text
    for what in (("status",), ("curves",), ("pareto",), ("compare", "lr")):
        status, text = run_module("flexres_tune.query", *what, "--results", STORAGE)
        assert status == 0, text
    status, text = run_module("flexres_tune.report", "--results", STORAGE)
    assert (status, text) == (0, "s3://bucket/results/test/report.html\n")
    assert "<html" in make_path(f"{STORAGE}/test/report.html").read_text()
    status, text = run_module("flexres_tune.report", "--index", "--results", STORAGE)
    assert status == 0, text
    _, text = run_module("flexres_tune.doctor", "--here", "--storage", STORAGE)
    assert "written" in text and "storage" in text, text
    status, text = run_module(
        *("flexres_tune.export", "best", "--sweep", "test", "--results", STORAGE, "--out", tmp_path / "best")
    )
    assert status == 0 and (tmp_path / "best" / "model.onnx").exists(), text


def test_killed_and_stopped_drivers_are_resumed_and_two_never_run_at_once(sweep, server):
    values = "[0.05, 0.1]"
    first = sweep(values)
    first.wait_for(lambda: num_checkpoints() == 2, 300)
    second = sweep(values)
    assert second.wait(300) == 2
    assert f"already run by another driver, on host {os.uname().nodename}, pid {first.process.pid}" in second.text()
    status, text = run_module("flexres_tune.query", "status", "--results", STORAGE)
    assert status == 0 and f"pid {first.process.pid}" in text, text
    first.kill(first.process.pid)
    first.wait()

    third = sweep(values)  # without waiting: the dead driver was on this machine
    third.wait_for(lambda: any(table("epochs")["attempt"] == 2), 300)
    began = time.monotonic()
    os.killpg(third.process.pid, signal.SIGINT)
    assert third.wait(30) == 130, third.text()
    assert time.monotonic() - began < 15
    assert sorted(table("trials")["status"]) == ["interrupted"] * 2
    assert len(list_folder(make_path(STORAGE) / "test" / "driver.lock")) == 0

    fourth = sweep(values)
    assert fourth.wait(300) == 0, fourth.text()
    assert_whole(2)
    attempts = table("epochs")["attempt"]
    assert set(attempts) >= {1, 3}, "epochs of the checkpoints were computed by the first attempt"


def test_missing_bucket_is_an_error_before_anything_starts(sweep):
    driver = sweep("[0.1]", storage="s3://nowhere/results")
    assert driver.wait() == 2
    assert "s3://nowhere/results/test/" in driver.text() and "there is no bucket nowhere at 127.0.0.1" in driver.text()


def test_server_that_is_down_is_an_error_before_anything_starts(sweep, server):
    server.kill()
    driver = sweep("[0.1]")
    began = time.monotonic()
    assert driver.wait() == 2
    assert time.monotonic() - began < 30
    assert "does not answer" in driver.text() and "Traceback" not in driver.text(), driver.text()


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
options = {"num_cpus": 1, "object_store_memory": 80 * 1024**2}
cluster = Cluster(True, head_node_args=options | {"include_dashboard": False})
cluster.add_node(**options)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture
def address(server):
    """A cluster of two nodes whose environment has the credentials but not the address of the server."""
    environment = os.environ | server.environment
    del environment["AWS_ENDPOINT_URL"]
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )
    lines = iter(process.stdout.readline, "")
    yield next(line.strip() for line in lines if ":" in line and line.strip()[-1].isdigit())
    process.stdin.close()
    process.wait(60)


def test_every_node_of_a_cluster_writes_there(address, sweep):
    _, text = run_module("flexres_tune.doctor", "--address", address, "--storage", STORAGE)
    assert "written, and shared" in text, text
    driver = sweep("[0.05, 0.1, 0.2]", "--address", address, "--set", "base.epochs=2")
    assert driver.wait(300) == 0, driver.text()
    assert sorted(table("trials")["status"]) == ["completed"] * 3
    assert not [name for name in list_folder(make_path(STORAGE)) if name.startswith(".writable")]
