"""Two real sweeps at once, on one machine and on one cluster: they divide its slots."""

import os
import subprocess
import sys

import pytest
from helpers.driver_process import Driver
from helpers.factories import make_sweep_yaml
from helpers.sabotage import ALL, faults

from flexres_tune.cluster import connection
from flexres_tune.results import open_results


def most_at_once(rows):
    """The largest number of trials that ran at the same time."""
    events = [(row["started_at"], 1) for row in rows] + [(row["finished_at"], -1) for row in rows]
    running = most = 0
    for _, change in sorted(events):
        running += change
        most = max(most, running)
    return most


@pytest.mark.slow
@pytest.mark.skipif(os.cpu_count() < 2, reason="one CPU has nothing to share")
def test_second_sweep_takes_its_share_of_the_cpus_and_both_say_so(tmp_path):
    results, num_cpus, drivers = tmp_path / "results", os.cpu_count(), []

    def start(name, num_trials):
        file = tmp_path / f"{name}.yaml"
        rates = [round(0.01 * (1 + index), 2) for index in range(num_trials)]
        file.write_text(make_sweep_yaml(name=name, base={"epochs": 4}, parameters={"lr": {"values": rates}}))
        env = faults(tmp_path / "notes", slow=ALL)
        drivers.append(Driver(file, "--profile", "none", "--storage", results, "--no-reuse", env=env))
        return drivers[-1]

    try:
        first = start("first", 5 * num_cpus)
        first.wait_for(lambda: len(first.trials()) == num_cpus)
        second = start("second", num_cpus)
        assert second.wait(400) == 0, second.text()
        assert first.wait(400) == 0, first.text()
    finally:
        for driver in drivers:
            driver.text()
            driver.clean_up()
    said_first, said_second = (driver.output.decode() for driver in drivers)
    rows = [row for name in ("first", "second") for row in open_results(results).trials(name).to_pylist()]
    assert [row["status"] for row in rows] == ["completed"] * 6 * num_cpus
    assert most_at_once(rows) == num_cpus, said_first + said_second
    share = f"on this machine, too: {num_cpus // 2} at once here instead of {num_cpus}"
    assert f"sweep first (process {first.process.pid}) runs {share}" in said_second
    assert f"sweep second (process {second.process.pid}) runs on this machine, too: " in said_first
    assert f"no other sweep runs on this machine now: {num_cpus} at once" in said_first


CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(True, head_node_args={"num_cpus": 4, "include_dashboard": False, "object_store_memory": 80 * 1024**2})
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""


@pytest.fixture
def address(tmp_path):
    """A cluster with four slots, whose trials are slow."""
    environment = os.environ | faults(tmp_path / "notes", slow=ALL) | connection.ENVIRONMENT
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


@pytest.mark.slow
def test_second_sweep_on_a_cluster_gets_its_half_before_the_first_one_ends(address, tmp_path):
    results, drivers = tmp_path / "results", []

    def start(name, num_trials):
        file = tmp_path / f"{name}.yaml"
        rates = [round(0.01 * (1 + index), 2) for index in range(num_trials)]
        file.write_text(make_sweep_yaml(name=name, base={"epochs": 4}, parameters={"lr": {"values": rates}}))
        options = ("--profile", "none", "--storage", results, "--no-reuse", "--address", address)
        drivers.append(Driver(file, *options))
        return drivers[-1]

    def num_rows(name):
        return open_results(results).trials(name).to_pandas().shape[0] if (results / name / "trials").is_dir() else 0

    try:
        first = start("first", 24)
        first.wait_for(lambda: num_rows("first") >= 1, 300)
        second = start("second", 4)
        assert second.wait(400) == 0, second.text()
        num_done_before = num_rows("first")
        assert first.wait(400) == 0, first.text()
    finally:
        for driver in drivers:
            driver.text()
            driver.clean_up()
    said_first, said_second = (driver.output.decode() for driver in drivers)
    assert num_done_before < 24, "the second sweep did not wait for the end of the first"
    assert "sweep first runs on this cluster, too: 2 at once here instead of 4" in said_second
    assert "sweep second runs on this cluster, too: " in said_first
    assert "no other sweep runs on this cluster now: 4 at once" in said_first
    rows = [row for name in ("first", "second") for row in open_results(results).trials(name).to_pylist()]
    assert [row["status"] for row in rows] == ["completed"] * 28
    assert most_at_once(rows) <= 4
