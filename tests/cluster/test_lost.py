"""A worker that dies in the middle of a sweep, on three emulated machines: nothing is lost, and nothing done twice."""

import time

import pytest

from flexres_tune.results import open_results

pytestmark = pytest.mark.cluster

SWEEP = """
name: lost
base: {dataset: digits, model: tiny, epochs: 40, batch_size: 32, augmentation: []}
resources_per_trial: {cpu: 1, gpu: 0}
seeds: [0, 1, 2, 3, 4, 5, 6, 7]
parameters: {lr: {values: [0.05]}}
"""


def test_trials_of_a_dead_worker_go_on_elsewhere_from_their_checkpoints(cluster):
    (cluster.shared / "lost.yaml").write_text(SWEEP)
    command = (
        f"cd {cluster.shared} && RAY_AUTH_MODE=token .venv/bin/python -m flexres_tune.run lost.yaml --profile none"
    )
    driver = cluster.start("n1", command)
    checkpoints = cluster.shared / "results/lost/checkpoints"
    cluster.wait_for(lambda: len(list(checkpoints.glob("*.pt"))) >= 4, "checkpoints of four trials")
    cluster.do("kill", "n3")
    died_at = time.time()
    output, _ = driver.communicate(timeout=400)
    assert driver.returncode == 0, output
    results = open_results(cluster.shared / "results")
    rows = results.trials("lost").to_pylist()
    assert sorted(row["seed"] for row in rows) == list(range(8)), "one row a trial"
    assert [row["status"] for row in rows] == ["completed"] * 8
    again = [row for row in rows if row["attempt"] > 1]
    assert again, "something ran on the worker that died"
    late = [row for row in rows if row["finished_at"].timestamp() > died_at]
    assert {row["node_ip"] for row in late} <= {cluster.head, cluster.workers[0]}, "the row says where it ended"
    epochs = results.sql(
        "SELECT trial_id, count(*) AS n, count(DISTINCT epoch) AS d FROM epochs GROUP BY 1"
    ).to_pylist()
    assert [(row["n"], row["d"]) for row in epochs] == [(40, 40)] * 8
