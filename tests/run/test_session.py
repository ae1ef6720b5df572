"""Real sweeps on a real Ray: what a person gets, from the sweep file to the tables."""

import io
import math
import os
from collections import Counter
from pathlib import Path

import pytest
from helpers.factories import make_sweep_yaml
from rich.console import Console

from flexres_tune.analysis.answer import answer_of
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import read_plan
from flexres_tune.run.session import Session
from flexres_tune.sweep.options import RunOptions

JPEG = Path(__file__).parents[3] / "shared" / "data" / "cifar10-jpeg"

SWEEP = make_sweep_yaml()


@pytest.fixture(scope="session")
def ray_session():
    """One Ray on two cores for all tests of this process."""
    from flexres_tune.cluster.connection import ENVIRONMENT

    os.environ.update(ENVIRONMENT)
    import ray

    ray.init(
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 * 1024**2,
        log_to_driver=False,
        logging_level="ERROR",
    )
    yield
    ray.shutdown()


@pytest.fixture
def run(ray_session, tmp_path):
    """Run a sweep given as text: (exit status, what was printed, its results)."""

    def run_text(text, **options):
        file = tmp_path / "test.yaml"
        file.write_text(text)
        output = io.StringIO()
        options = RunOptions(profile="none", storage=tmp_path / "results", **options)
        status = Session(file, options, Console(file=output, width=160)).run().status
        return status, output.getvalue(), open_results(tmp_path / "results")

    return run_text


def test_sweep_trains_every_trial_and_fills_the_tables(run):
    status, output, results = run(SWEEP + "seeds: [0, 1]\nparameters: {lr: {values: [0.05, 0.1]}}\n")
    trials = results.trials("test").to_pylist()
    assert status == 0
    assert [trial["status"] for trial in trials] == ["completed"] * 4
    assert {(trial["lr"], trial["seed"]) for trial in trials} == {(0.05, 0), (0.05, 1), (0.1, 0), (0.1, 1)}
    for trial in trials:
        assert trial["best_val_accuracy"] > 0.3, "digits are learned in two epochs; chance is 0.1"
        assert trial["test_accuracy"] > 0.3
        assert trial["num_parameters"] == 19_994
        assert trial["node_ip"]
        assert trial["versions"]["ray"]
        assert trial["started_at"] < trial["finished_at"]
    assert results.epochs("test").num_rows == 8
    assert "4/4" in output
    assert output.count("images: 1,197 training, 300 validation, 300 test images") == 1
    assert "query leaderboard --sweep test" in output


def test_same_command_again_has_nothing_to_do_and_growth_runs_only_what_is_new(run):
    run(SWEEP + "parameters: {lr: {values: [0.05]}}\n")
    _, output, results = run(SWEEP + "parameters: {lr: {values: [0.05]}}\n")
    assert "nothing to do" in output
    before = results.trials("test").to_pylist()
    _, output, results = run(SWEEP + "seeds: [0, 1]\nparameters: {lr: {values: [0.05]}}\n")
    assert "1 trial to run, 1 already done" in output
    after = {row["trial_id"]: row for row in results.trials("test").to_pylist()}
    assert len(after) == 2
    assert after[before[0]["trial_id"]] == before[0]


def test_diverging_trial_is_a_row_and_the_sweep_goes_on(run):
    status, output, results = run(SWEEP + "parameters: {lr: {values: [1.0e+30, 0.05]}}\n")
    by_lr = {row["lr"]: row for row in results.trials("test").to_pylist()}
    assert status == 0
    assert by_lr[0.05]["status"] == "completed"
    assert by_lr[1e30]["status"] == "diverged"
    assert "loss" in by_lr[1e30]["error"]
    assert by_lr[1e30]["test_accuracy"] is None
    assert "diverged" in output


@pytest.fixture
def faulty_optimizer(tmp_path):
    """An optimizer that fails for a positive `optimizer.fault`, which shows in a trial only; its name in a sweep file."""
    (tmp_path / "faulty.py").write_text(
        "import torch\n\n\n"
        "def build(parameters, lr, weight_decay, fault):\n"
        "    if fault:\n"
        '        raise ValueError("the optimizer is faulty")\n'
        "    return torch.optim.SGD(parameters, lr=lr, weight_decay=weight_decay)\n"
    )
    return "faulty.py:build"


def test_failing_trial_is_a_row_with_its_reason_and_the_sweep_goes_on(run, faulty_optimizer):
    parameters = f"{{optimizer: {{value: '{faulty_optimizer}'}}, optimizer.fault: {{values: [0, 1]}}}}"
    status, output, results = run(SWEEP + f"parameters: {parameters}\n")
    good, bad = sorted(results.trials("test").to_pylist(), key=lambda row: row["status"])
    assert status == 0
    assert (good["status"], bad["status"]) == ("completed", "failed")
    assert "the optimizer is faulty" in bad["error"]
    assert "failed" in output


def test_first_five_trials_that_fail_alike_are_the_last(run, faulty_optimizer):
    faults = list(range(1, 10))
    parameters = f"{{optimizer: {{value: '{faulty_optimizer}'}}, optimizer.fault: {{values: {faults}}}}}"
    text = SWEEP + f"parameters: {parameters}\nconfirm: {{top: 1, seeds: [7]}}\n"
    status, output, results = run(text, max_concurrent=1)
    assert status == 1
    assert [row["status"] for row in results.trials("test").to_pylist()] == ["failed"] * 5
    assert "the first 5 trials ended with the same error, so no further trial starts:\n" in output
    assert output.rstrip().endswith(" --retry failed")
    again = "5 trials to run: 4 of the screening and 1 of the confirmation, 5 already done"
    assert again in run(text)[1]


def test_asha_stops_bad_trials_and_says_why(run):
    text = SWEEP.replace("epochs: 2", "epochs: 4") + (
        "early_terminate: {type: asha, variant: stopping, grace_period: 1, reduction_factor: 2}\n"
        "parameters: {lr: {values: [0.1, 0.05, 1.0e-6, 1.0e-7, 1.0e-8, 1.0e-9]}}\n"
    )
    _, _, results = run(text, max_concurrent=1)
    stopped = results.sql("SELECT * FROM trials WHERE status = 'stopped'").to_pylist()
    assert stopped
    for row in stopped:
        assert row["epochs_run"] < 4
        assert row["test_accuracy"] is None
        decisions = results.sql(f"SELECT * FROM decisions WHERE trial_id = '{row['trial_id']}' AND action = 'stop'")
        (decision,) = decisions.to_pylist()
        assert decision["value"] < decision["cutoff"]
        assert decision["epoch"] == row["epochs_run"]
    best = max(results.trials("test").to_pylist(), key=lambda row: row["best_val_accuracy"])
    assert best["status"] == "completed"


def test_screening_is_followed_by_confirmation_on_fresh_seeds(run):
    text = SWEEP + "parameters: {lr: {values: [0.1, 1.0e-6]}}\nconfirm: {top: 1, seeds: [10, 11]}\n"
    _, _, results = run(text, stage="screen")
    assert results.trials("test").num_rows == 2
    _, output, results = run(text)
    confirmed = results.sql("SELECT lr, seed, status, test_accuracy FROM trials WHERE stage = 'confirm' ORDER BY seed")
    assert [(row["lr"], row["seed"], row["status"]) for row in confirmed.to_pylist()] == [
        (0.1, 10, "completed"),
        (0.1, 11, "completed"),
    ]
    assert all(row["test_accuracy"] is not None for row in confirmed.to_pylist())
    assert "confirm: 2 trials to run" in output
    _, output, _ = run(text)
    assert "nothing to do: all 4 trials" in output


@pytest.mark.slow
def test_budget_leaves_room_for_the_confirmation_and_a_larger_one_runs_the_rest(run):
    values = ", ".join(f"{0.01 * k:.2f}" for k in range(1, 9))
    text = SWEEP + f"parameters: {{lr: {{values: [{values}]}}}}\nconfirm: {{top: 2, seeds: [10, 11]}}\nbudget: "
    _, output, results = run(text + "{epochs: 16}\n")
    stages = [row["stage"] for row in results.trials("test").to_pylist()]
    assert (stages.count("screen"), stages.count("confirm")) == (4, 4)
    left_out = "left out, because it did not fit: 4 trials of the screening, not finished"
    assert output.rstrip().splitlines()[-1].startswith(f"budget: 16 epochs spent of 16 epochs; {left_out}")
    assert "The budget left out 4 trials of the screening, not finished" in answer_of(results, "test").sentence
    _, output, results = run(text + "{epochs: 16}\n")
    assert "nothing to do: 8 trials that the budget allows are in" in output
    _, output, results = run(text + "{device_hours: 0.1}\n")
    assert "4 trials to run, 4 already done" in output
    assert output.rstrip().splitlines()[-1].endswith("of device time spent of 6 min 00 s of device time")
    assert results.trials("test").num_rows >= 12 and "left out" not in answer_of(results, "test").sentence


def test_order_is_shuffled_by_the_recorded_seed(run):
    grid = "parameters: {lr: {values: [0.01, 0.02, 0.03, 0.04, 0.05, 0.06]}}\n"
    one_epoch = SWEEP.replace("epochs: 2", "epochs: 1")
    _, _, results = run(one_epoch + grid + "order_seed: 1\n", max_concurrent=1)
    order = results.sql("SELECT lr FROM trials ORDER BY started_at").column("lr").to_pylist()
    assert sorted(order) != order


def test_tpe_draws_as_it_goes_and_goes_on_from_the_tables(run):
    text = SWEEP.replace("epochs: 2", "epochs: 1") + (
        "method: tpe\nnum_trials: {n}\nparameters: {{lr: {{min: 0.001, max: 0.3, distribution: log_uniform_values}}}}\n"
    )
    head, tail = text.split("method:")
    run(head + ("method:" + tail).format(n=3))
    _, output, results = run(head + ("method:" + tail).format(n=5))
    assert "2 trials to run, 3 already done" in output
    assert results.trials("test").num_rows == 5


def test_tpe_draws_as_often_from_every_level_and_confirms_its_best(run):
    _, _, results = run(
        SWEEP.replace("epochs: 2", "epochs: 3")
        + "method: tpe\nnum_trials: 6\ncompare: optimizer\n"
        + "parameters:\n"
        + "  - {optimizer: {value: sgd}, lr: {min: 0.01, max: 0.3, distribution: log_uniform_values}}\n"
        + "  - {optimizer: {value: adam}, lr: {min: 0.001, max: 0.03, distribution: log_uniform_values}}\n"
        + "early_terminate: {type: halving, rungs: [{epochs: 1, keep: 1}]}\nconfirm: {top: 1, seeds: [7]}\n"
    )
    rows = [(row["stage"], row["optimizer"], row["status"]) for row in results.trials("test").to_pylist()]
    assert Counter(rows) == {
        (stage, name, status): count
        for name in ("sgd", "adam")
        for stage, status, count in (("screen", "paused", 2), ("screen", "completed", 1), ("confirm", "completed", 1))
    }
    assert sorted(row.level for row in answer_of(results, "test").rows) == ["adam", "sgd"]


def test_all_optimizers_train_in_the_precision_that_is_measured_once_and_written_to_the_plan(
    run, monkeypatch, tmp_path
):
    monkeypatch.setattr("flexres_tune.sweep.precision.MIN_MEASURED_FLOPS", 0)  # measure a sweep as short as this, too
    optimizers = "[sgd, nesterov, adam, adamw, adadelta, adagrad]"
    text = SWEEP.replace("epochs: 2", "epochs: 1") + f"parameters: {{optimizer: {{values: {optimizers}}}}}\n"
    _, output, results = run(text)
    rows = results.trials("test").to_pylist()
    assert {row["status"] for row in rows} == {"completed"} and len(rows) == 6
    ((device, precision),) = read_plan(SweepPaths(tmp_path / "results", "test")).precisions.items()
    assert {(row["device"], row["precision_used"]) for row in rows} == {(device, precision)}
    assert f"test: precision {precision} on {device} (" in output
    _, output, results = run(text + "seeds: [0, 1]\n")
    assert f"test: precision {precision} on {device}, as in its earlier trials" in output
    assert {row["precision_used"] for row in results.trials("test").to_pylist()} == {precision}


@pytest.mark.skipif(not JPEG.is_dir(), reason=f"{JPEG} is not there")
def test_real_images_are_learned(run, tmp_path):
    """2,000 training images of CIFAR-10 as JPEG, the smallest model that learns them: well above chance, 0.1."""
    import pyarrow.parquet as pq

    folder = tmp_path / "jpeg"
    folder.mkdir()
    for name, num_rows in (("train", 2_222), ("test", 500)):
        pq.write_table(pq.read_table(JPEG / f"{name}.parquet").slice(0, num_rows), folder / f"{name}.parquet")
    _, _, results = run(
        f"name: test\nbase: {{dataset: 'parquet:{folder}', model: small, epochs: 4, batch_size: 32}}\n"
        "parameters: {lr: {values: [0.05, 0.1]}}\nresources_per_trial: {cpu: 1, gpu: 0}\n"
    )
    rows = results.trials("test").to_pylist()
    assert [row["status"] for row in rows] == ["completed"] * 2
    assert max(row["best_val_accuracy"] for row in rows) > 0.25
    assert all(math.isfinite(row["test_accuracy"]) for row in rows)


def test_resources_that_no_machine_has_are_refused_before_anything_starts(run):
    from flexres_tune.errors import DeviceError

    with pytest.raises(DeviceError, match=r"resources_per_trial.gpu <= GPUs in the cluster must hold, but got 1 and 0"):
        run(SWEEP.replace("gpu: 0", "gpu: 1"))
    with pytest.raises(
        DeviceError, match=r"resources_per_trial.cpu <= CPUs in the cluster must hold, but got 64 and 2"
    ):
        run(SWEEP.replace("cpu: 1", "cpu: 64"))
