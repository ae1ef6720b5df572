"""Fake GPUs, which Ray only counts: how trials are placed on them, and which each trial may use. Needs no GPU."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.factories import make_sweep_yaml
from helpers.witness import most_at_once, run_witnesses

from flexres_tune.cluster.packing import NotMeasuredError, measure_with_ray
from flexres_tune.results import open_results
from flexres_tune.spec import Resources, TrialConfig

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
UNEQUAL = [(4, 1), (8, 2)]


@pytest.fixture(scope="module")
def cluster():
    """A node with one GPU and a node with two, on one machine that has none."""
    from flexres_tune.bench.driver.fake_cluster import fake_cluster

    with fake_cluster(UNEQUAL) as cluster:
        yield cluster


@pytest.mark.parametrize(("gpu", "num_at_once"), [(0.25, 12), (0.4, 6), (0.5, 6), (1, 3)])
def test_no_gpu_has_more_trials_than_fit_on_it(cluster, tmp_path, gpu, num_at_once):
    num_trials = 2 * num_at_once
    share, notes = run_witnesses(cluster, tmp_path / "notes", Resources(cpu=0.5, gpu=gpu), num_trials)
    assert share.num_concurrent == num_at_once
    assert len(notes) == num_trials
    devices = {}
    for note in notes:
        devices.setdefault((note["node"], note["devices"]), []).append(note)
    by_node = sorted(sorted(device for node, device in devices if node == one) for one in {n for n, _ in devices})
    assert by_node == [["0"], ["0", "1"]], "each trial sees one device, and all three are used"
    assert most_at_once(notes) == num_at_once
    for held in devices.values():
        assert most_at_once(held) == int(1 / gpu)


def test_trials_that_are_measured_together_share_one_node_and_do_not_wait_for_ever(cluster, tmp_path, monkeypatch):
    """On two nodes each of four trials could have a device to itself; five CPUs on a GPU are on one node only."""
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))
    monkeypatch.setattr("flexres_tune.cluster.packing.MEASURE_S", 0.1)
    measure = measure_with_ray(TrialConfig(model="tiny", dataset="digits", epochs=1, compile="off"), {})
    assert len(measure(1.25, 0.25, 4)) == 4
    monkeypatch.setattr("flexres_tune.cluster.packing.TIMEOUT_S", 2.0)
    with pytest.raises(NotMeasuredError, match="3 trials did not train within 2 s"):
        measure(3.0, 0.25, 3)  # 12 CPUs in all, but on no node nine


SWEEP = make_sweep_yaml(
    name="fake",
    base={"epochs": 1},
    seeds=[0, 1, 2],
    parameters={"lr": {"values": [0.05]}},
    resources_per_trial={"cpu": 1, "gpu": 0.5},
    profiles={"laptop": {"seeds": [7]}},
)

RUN = """
import subprocess, sys
from flexres_tune.bench.driver.fake_cluster import start_fake_cluster
with start_fake_cluster([(2, 2)]) as address:
    sys.exit(subprocess.run([sys.executable, "-m", "flexres_tune.run", *sys.argv[1:], "--address", address]).returncode)
"""


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")
def test_run_uses_the_clusters_gpus_and_reports_that_torch_does_not_see_them(tmp_path):
    (tmp_path / "fake.yaml").write_text(SWEEP)
    command = [sys.executable, "-c", RUN, tmp_path / "fake.yaml", "--storage", tmp_path / "results"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 trials to run; 2 at once, 1 CPU and 0.5 GPU each" in done.stdout
    assert done.stdout.count("torch must see the GPU that a trial holds, but torch") == 1, done.stdout
    rows = open_results(tmp_path / "results").trials("fake").to_pylist()
    assert sorted(row["seed"] for row in rows) == [0, 1, 2], "the file as written, not its laptop profile"
    assert {row["status"] for row in rows} == {"completed"}
