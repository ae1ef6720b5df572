"""The number of machines follows what the search can still use; on fake machines inside of an emulated one."""

import sys
from pathlib import Path

import pytest
import yaml
from helpers.factories import make_sweep_yaml
from helpers.scaling_cluster import num_gpus, read_tail

from flexres_tune.results import open_results

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "tests/helpers/scaling_cluster.py"
SCALE = 10  # everything takes a tenth of the time: trials of 13.5 minutes, and the idle timeout of the cluster files
NUM_WORKERS, EPOCH_S = 4, 30.0 / SCALE
RATES = [0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3]
EARLY = {
    "promotion": {"type": "asha", "variant": "promotion", "grace_period": 3},
    "halving": {"type": "halving", "rungs": [{"epochs": 3, "keep": 3}, {"epochs": 9, "keep": 2}]},
}


def idle_minutes(name):
    return yaml.safe_load((ROOT / "cluster" / name).read_text())["idle_timeout_minutes"]


def run_sweep(machines, name, early, timeout_min, confirm=None, until_all_have_ended=True):
    """Run a sweep on machines that come and go; returns GPU-seconds (idle, in all) at its end, and the GPUs left then."""
    folder = machines.lab / name
    folder.mkdir()
    sweep = make_sweep_yaml(
        name="scaling",
        base={"epochs": 27},
        parameters={"lr": {"values": RATES}},
        early_terminate=early,
        resources_per_trial={"cpu": 1, "gpu": 1},
        **({} if confirm is None else {"confirm": confirm}),
    )
    (folder / "scaling.yaml").write_text(sweep)
    run = f"cd {machines.shared} && export PYTHONPATH={machines.shared} && "
    numbers = f"{NUM_WORKERS} {timeout_min} {EPOCH_S}"
    status, output = machines.on("n1", f"{run}{sys.executable} {CLUSTER} up {folder} {numbers}")
    assert status == 0, output
    watcher = machines.start("n1", f"{run}exec {sys.executable} {CLUSTER} watch {folder}")
    try:
        command = f"flexres_tune.run {folder}/scaling.yaml --profile none --storage {folder}/results"
        status, output = machines.on("n1", f"{run}{sys.executable} -m {command}", timeout_s=1200)
        assert status == 0, output
        num_left = num_gpus(folder)
        if until_all_have_ended:
            machines.wait_for(lambda: num_gpus(folder) == 0, "end of the idle machines", timeout_s=120)
    finally:
        watcher.kill()
        machines.on("n1", "ray stop --force")
    rows = open_results(folder / "results").trials("scaling").to_pylist()
    assert sum(row["status"] == "completed" for row in rows) >= (3 if confirm else 1)
    idle_s, total_s = read_tail(folder, NUM_WORKERS)
    print(f"{name}: {idle_s:.0f} of {total_s:.0f} GPU-seconds idle since all GPUs had a trial for the last time")
    return idle_s, total_s, num_left, output


@pytest.mark.parametrize("name", EARLY)
def test_last_trials_of_a_sweep_hold_no_idle_machines(machines, name):
    """With a confirmation, whose three runs cannot fill the four machines either."""
    timeout_min = idle_minutes("gpu.yaml")
    idle_s, total_s, *_ = run_sweep(machines, name, EARLY[name], timeout_min / SCALE, {"top": 2, "num_runs": 3})
    assert idle_s < 0.1 * total_s
    assert idle_minutes("gcp.yaml") == timeout_min


def test_machines_for_which_no_trial_will_come_do_not_wait_for_the_idle_timeout(machines):
    """The timeout is longer than the sweep. The machines of the last trials stay until then."""
    idle_s, total_s, num_left, output = run_sweep(
        machines, "at_once", EARLY["promotion"], timeout_min=5.0, until_all_have_ended=False
    )
    assert "idle machine" in output
    assert num_left < NUM_WORKERS
    assert idle_s < 0.1 * total_s
