"""The number of machines follows what the search can still use; on fake machines inside of an emulated one."""

import sys
from pathlib import Path

import pytest
from helpers.factories import make_sweep_yaml
from helpers.scaling_cluster import read_idle_share

from flexres_tune.results import open_results

pytestmark = pytest.mark.cluster

CLUSTER = Path(__file__).parents[1] / "helpers/scaling_cluster.py"
NUM_WORKERS, IDLE_MINUTES = 4, 0.05
SWEEP = make_sweep_yaml(
    name="scaling",
    base={"epochs": 27},
    parameters={"lr": {"values": [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3]}},
    early_terminate={"type": "asha", "variant": "promotion", "grace_period": 3},
    confirm={"top": 2, "num_runs": 3},
    resources_per_trial={"cpu": 1, "gpu": 1},
)


def test_last_trials_of_a_sweep_hold_no_idle_machines(machines):
    folder = machines.lab / "scaling"
    folder.mkdir()
    (folder / "scaling.yaml").write_text(SWEEP)
    run = f"cd {machines.shared} && export PYTHONPATH={machines.shared} && "
    status, output = machines.on("n1", f"{run}{sys.executable} {CLUSTER} up {folder} {NUM_WORKERS} {IDLE_MINUTES}")
    assert status == 0, output
    try:
        watcher = machines.start("n1", f"{run}exec {sys.executable} {CLUSTER} watch {folder}")
        command = f"flexres_tune.run {folder}/scaling.yaml --profile none --storage {folder}/results"
        status, output = machines.on("n1", f"{run}{sys.executable} -m {command}", timeout_s=900)
        assert status == 0, output
        watcher.kill()
    finally:
        machines.on("n1", "ray stop --force")
    rows = open_results(folder / "results").trials("scaling").to_pylist()
    assert sum(row["status"] == "completed" for row in rows) >= 3
    idle_s, total_s = read_idle_share(folder)
    print(f"{idle_s:.0f} of {total_s:.0f} GPU-seconds idle after the last trial has begun")
    assert idle_s < 0.1 * total_s
