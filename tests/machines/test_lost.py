"""A cluster loses a worker, a link or the driver during a sweep, on emulated machines; no row is lost."""

import time

import pytest
from helpers.factories import make_sweep_yaml

from flexres_tune.results import open_results

pytestmark = pytest.mark.cluster

NUM_TRIALS = 8
NUM_SLOTS = 6  # three machines of two cores
NUM_EPOCHS = 80
SWEEP = {
    "base": {"epochs": NUM_EPOCHS, "batch_size": 32},
    "seeds": list(range(8)),
    "parameters": {"lr": {"values": [0.05]}},
}


def start(cluster, name):
    (cluster.shared / f"{name}.yaml").write_text(make_sweep_yaml(name=name, **SWEEP))
    return cluster.start(
        "n1",
        f"cd {cluster.shared} && RAY_AUTH_MODE=token exec .venv/bin/python -m flexres_tune.run {name}.yaml "
        "--profile none --no-reuse",
    )


def wait_for_checkpoints(cluster, driver, name, number=4):
    folder = cluster.shared / "results" / name / "checkpoints"

    def are_there():
        assert driver.poll() is None, driver.communicate()[0]
        return len(list(folder.glob("*.pt"))) >= number

    cluster.wait_for(are_there, f"checkpoints of {number} trials")


def wait_for_end(driver):
    output, _ = driver.communicate(timeout=900)
    assert driver.returncode == 0, output
    return output


def rows_of(cluster, name):
    """The trials' rows, after checking that the tables and their files have each trial and each epoch once."""
    results = open_results(cluster.shared / "results")
    rows = results.trials(name).to_pylist()
    assert sorted(row["seed"] for row in rows) == list(range(NUM_TRIALS)), "one row per trial"
    assert [row["status"] for row in rows] == ["completed"] * NUM_TRIALS
    epochs = results.sql(
        "SELECT trial_id, count(*) AS n, count(DISTINCT epoch) AS d FROM epochs GROUP BY 1", name
    ).to_pylist()
    assert [(row["n"], row["d"]) for row in epochs] == [(NUM_EPOCHS, NUM_EPOCHS)] * NUM_TRIALS
    return rows


def curves_of(cluster, name):
    return open_results(cluster.shared / "results").sql(
        "SELECT trial_id, epoch, train_loss, val_accuracy FROM epochs ORDER BY 1, 2", name
    )


def test_trials_of_a_dead_worker_resume_from_their_checkpoints_on_other_nodes(cluster):
    driver = start(cluster, "dead")
    wait_for_checkpoints(cluster, driver, "dead", NUM_SLOTS)  # fewer could be of the other machines alone
    cluster.do("kill", "n3")
    died_at = time.time()
    wait_for_end(driver)
    rows = rows_of(cluster, "dead")
    again = [row for row in rows if row["attempt"] > 1]
    assert again, "something ran on the worker that died"
    late = [row for row in rows if row["finished_at"].timestamp() > died_at]
    assert {row["node_ip"] for row in late} <= {cluster.head, cluster.workers[0]}, (
        "the row names the node where the trial ended"
    )
    attempts = open_results(cluster.shared / "results").sql(
        "SELECT trial_id, max(attempt) FILTER (epoch = 1) AS first FROM epochs GROUP BY 1", "dead"
    )
    first = {row["trial_id"]: row["first"] for row in attempts.to_pylist()}
    assert 1 in {first[row["trial_id"]] for row in again}, (
        "a checkpoint was used: the first epoch is not computed again"
    )


def test_driver_that_is_killed_and_restarted_resumes(cluster):
    driver = start(cluster, "driver")
    wait_for_checkpoints(cluster, driver, "driver")
    cluster.on("n1", "kill -9 $(pgrep -f '^.venv/bin/python -m flexres_tune.run')")
    driver.wait(30)
    wait_for_end(start(cluster, "driver"))
    rows = rows_of(cluster, "driver")
    assert {row["attempt"] for row in rows} >= {2}
    assert curves_of(cluster, "driver") == curves_of(cluster, "dead"), "another fault, the same curves"


def test_node_that_joins_during_a_sweep_gets_trials(cluster):
    cluster.do("boot", "n4")
    driver = start(cluster, "joined")
    wait_for_checkpoints(cluster, driver, "joined", 1)

    def has_trials():
        # Stop the other trials until the node has one: on a slow machine all were done before it had joined.
        for name in ("n1", "n2"):
            cluster.on(name, "pkill -STOP -f ^ray::ImplicitFunc")
        assert driver.poll() is None, driver.communicate()[0]
        return any(line.startswith("ray::ImplicitFunc") for line in cluster.ray_processes("n4"))

    assert not has_trials()
    script = (
        f"mkdir -p ~/.ray && cp {cluster.lab}/cli/home/.ray/auth_token ~/.ray/ && cd {cluster.shared} && "
        "PATH=$PWD/.venv/bin:$PATH PYTHONPATH=$PWD RAY_AUTH_MODE=token RAY_memory_monitor_refresh_ms=0 "
        f"ray start --address={cluster.head}:6379 --include-log-monitor=false"
    )
    status, output = cluster.on("n4", script)
    assert status == 0, output
    cluster.wait_for(has_trials, "a trial on the node that joined")
    for name in ("n1", "n2"):
        cluster.on(name, "pkill -CONT -f ^ray::ImplicitFunc")
    output = wait_for_end(driver)
    assert "the cluster has grown" in output
    assert "10.77.0.14" in {row["node_ip"] for row in rows_of(cluster, "joined")}
    cluster.do("kill", "n4")


def test_partition_of_20_seconds_changes_no_row(cluster):
    driver = start(cluster, "partition")  # Ray may still count the machine of the previous test
    wait_for_checkpoints(cluster, driver, "partition")
    cluster.do("cut", "n2")
    time.sleep(20)  # the fault itself: Ray counts a node as dead after about 30 s, and this must stay below
    cluster.do("mend", "n2")
    wait_for_end(driver)
    rows_of(cluster, "partition")
    assert curves_of(cluster, "partition") == curves_of(cluster, "dead")


def test_sweep_completes_without_a_worker_whose_link_is_cut_for_good(cluster):
    driver = start(cluster, "cut")
    wait_for_checkpoints(cluster, driver, "cut")
    cluster.do("cut", "n2")
    cut_at = time.time()
    wait_for_end(driver)
    cluster.do("mend", "n2")
    rows = rows_of(cluster, "cut")
    again = [row for row in rows if row["attempt"] > 1]
    assert again, "something ran beyond the link"
    late = {row["node_ip"] for row in rows if row["finished_at"].timestamp() > cut_at + 1}
    assert cluster.workers[0] not in late
    assert curves_of(cluster, "cut") == curves_of(cluster, "dead")
