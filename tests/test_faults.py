"""What happens when ...: real sweeps, real processes, real signals; the rows of docs/failures.md."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pandas
import pyarrow.parquet as pq
import pytest
from helpers.driver_process import ROOT, Driver, command_line
from helpers.factories import make_sweep_yaml
from helpers.sabotage import ALL, faults

from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import read_plan


@pytest.fixture
def sweep(tmp_path):
    """Start the sweep in tmp_path: sweep(values, epochs, *options) -> Driver; ended when the test is."""
    drivers = []

    def start(
        values="[0.1]", epochs=3, *options, name="test", folder=tmp_path, env=None, prefix=(), run=("flexres_tune.run",)
    ):
        module, *before = run
        file = folder / f"{name}.yaml"
        text = make_sweep_yaml(name=name, base={"epochs": epochs, "batch_size": 16})
        file.write_text(text + f"parameters: {{lr: {{values: {values}}}}}\n")
        arguments = (*before, file, "--profile", "none", "--storage", folder / "results", *options)
        drivers.append(Driver(*arguments, env=env, prefix=prefix, module=module))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.clean_up()


def fill(path):
    """Write a file until the disk is full."""
    with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)


def table(tmp_path, name, sweep="test"):
    return getattr(open_results(tmp_path / "results"), name)(sweep).to_pandas()


def num_epochs(tmp_path, sweep="test"):
    folder = tmp_path / "results" / sweep / "epochs"
    return len(table(tmp_path, "epochs", sweep)) if folder.is_dir() and list(folder.glob("part-*.parquet")) else 0


def num_checkpoints(tmp_path):
    return len(list((tmp_path / "results" / "test" / "checkpoints").glob("*.pt")))


def assert_whole(tmp_path, trials, epochs, sweep="test"):
    """Every trial completed, every epoch once, in our tables and in the files as other programs read them."""
    rows = table(tmp_path, "trials", sweep)
    assert sorted(rows["status"]) == ["completed"] * trials
    raw = pandas.read_parquet(tmp_path / "results" / sweep / "epochs")
    assert len(raw) == trials * epochs
    for _, curve in raw.groupby("trial_id"):
        assert sorted(curve["epoch"]) == list(range(1, epochs + 1))


@pytest.mark.slow
def test_killed_trial_resumes_from_its_checkpoint_with_each_epoch_once(sweep, tmp_path):
    driver = sweep("[0.1, 0.05]", 45, env=faults(tmp_path / "notes", slow=ALL))
    driver.wait_for(lambda: num_checkpoints(tmp_path) == 2)
    assert driver.kill(driver.trials()[0])
    assert driver.wait() == 0, driver.text()
    assert_whole(tmp_path, 2, 45)
    assert sorted(table(tmp_path, "trials")["attempt"]) == [1, 2]
    assert 1 <= (table(tmp_path, "epochs")["attempt"] == 2).sum() < 45, "it resumed"


@pytest.mark.slow
def test_killed_driver_leaves_readable_tables_and_the_same_command_resumes(sweep, tmp_path):
    driver = sweep("[0.1, 0.05]", 45, env=faults(tmp_path / "notes", slow=ALL))
    driver.wait_for(lambda: num_checkpoints(tmp_path) == 2)
    driver.kill(driver.process.pid)
    driver.wait()
    before = table(tmp_path, "epochs")
    assert len(before)
    assert sweep("[0.1, 0.05]", 45).wait() == 0
    assert_whole(tmp_path, 2, 45)
    after = table(tmp_path, "epochs")
    assert (after["attempt"] == 1).sum() > 0, "epochs that the checkpoint had were computed by the first attempt"
    assert (after["attempt"] == 2).sum() > 0
    kept = before.merge(after, on=["trial_id", "epoch"], suffixes=("", "_after"))
    assert (kept["val_accuracy"] == kept["val_accuracy_after"]).all(), "computed again or not, the same number"


@pytest.mark.slow
def test_killed_driver_of_a_sweep_with_pauses_ends_with_the_tables_of_an_undisturbed_one(sweep, tmp_path):
    """One trial at a time: with more, which configuration a promotion chooses depends on the order of arrival."""
    settings = (
        *("early_terminate={type: asha, grace_period: 2}", "confirm={top: 2, num_runs: 5}"),
        *("base.batch_size=128", "base.augmentation=[]"),
    )
    options = [text for each in settings for text in ("--set", each)]
    values, env = "[0.02, 0.1, 0.05, 0.01, 0.2]", faults(tmp_path / "notes", slow=ALL)
    (tmp_path / "calm").mkdir()
    calm = sweep(values, 5, *options, "--max-concurrent", "1", folder=tmp_path / "calm")
    assert calm.wait(400) == 0, calm.text()

    killed = sweep(values, 5, *options, "--max-concurrent", "1", env=env)
    killed.wait_for(
        lambda: num_epochs(tmp_path) and "promote" in set(table(tmp_path, "decisions")["action"]), timeout_s=400
    )
    killed.kill(killed.process.pid)
    killed.wait()
    assert "interrupted" not in set(table(tmp_path, "trials")["status"]), "it had no time to write rows"
    again = sweep(values, 5, *options, "--max-concurrent", "1")
    assert again.wait(400) == 0, again.text()

    columns = {
        "trials": ["trial_id", "stage", "status", "epochs_run", "best_val_accuracy", "test_accuracy"],
        "epochs": ["trial_id", "epoch", "val_accuracy", "train_loss"],
        "decisions": ["trial_id", "epoch", "action", "value", "cutoff", "rank", "num_compared", "until_epoch", "rung"],
    }
    for name, wanted in columns.items():
        expected, found = (
            table(folder, name)[wanted].sort_values(wanted[:3], ignore_index=True)
            for folder in (tmp_path / "calm", tmp_path)
        )
        pandas.testing.assert_frame_equal(found, expected)
    assert set(table(tmp_path, "trials")["status"]) == {"completed", "paused"}


@pytest.mark.slow
def test_export_works_and_a_signal_is_heeded_while_a_sweep_runs_beside_a_pipe_among_its_parts(sweep, tmp_path):
    driver = sweep("[0.1, 0.05, 0.02]", 12, "--max-concurrent", "1", env=faults(tmp_path / "notes", slow=ALL))
    trials = tmp_path / "results" / "test" / "trials"
    driver.wait_for(lambda: list(trials.glob("part-*")) and "completed" in list(table(tmp_path, "trials")["status"]))
    os.mkfifo(trials / "part-90000000-90000000.parquet")
    command = [sys.executable, "-m", "flexres_tune.export", "best", "--sweep", "test", "--out", tmp_path / "model"]
    exported = subprocess.run([*command, "--results", tmp_path / "results"], capture_output=True, text=True, cwd=ROOT)
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "model" / "model.safetensors").exists()
    assert driver.process.poll() is None, driver.text()
    os.killpg(driver.process.pid, signal.SIGTERM)
    asked = time.monotonic()
    assert driver.wait() == 130, driver.text()
    assert time.monotonic() - asked < 20 and "Traceback" not in driver.text()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_the_whole_group_lets_trials_save_checkpoints(sweep, tmp_path, number):
    """As a terminal, Slurm and a lost connection send it: to Ray's own processes, too."""
    driver = sweep("[0.1, 0.05]", 300)
    # one trial may have many epochs before the other's process has started, and would then have nothing to save
    driver.wait_for(lambda: num_epochs(tmp_path) and table(tmp_path, "epochs")["trial_id"].nunique() == 2)
    os.killpg(driver.process.pid, number)
    asked = time.monotonic()
    assert driver.wait() == 130, driver.text()
    assert time.monotonic() - asked < 10
    assert "to resume: python -m flexres_tune.run" in driver.text()
    assert "Traceback" not in driver.text()
    rows = table(tmp_path, "trials")
    assert list(rows["status"]) == ["interrupted"] * 2
    assert len(list((tmp_path / "results" / "test" / "checkpoints").glob("*.pt"))) == 2
    assert not list((tmp_path / "results" / "test").glob(".stop*"))


def test_second_ctrl_c_ends_the_command_at_once(sweep, tmp_path):
    driver = sweep("[0.1]", 300)
    driver.wait_for(lambda: num_epochs(tmp_path) >= 1)
    driver.process.send_signal(signal.SIGINT)
    time.sleep(0.2)
    driver.process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    assert driver.wait() == 130
    assert time.monotonic() - asked < 2
    assert "Traceback" not in driver.text()


def test_ctrl_c_while_ray_starts_ends_the_command_at_once(sweep, tmp_path):
    driver = sweep("[0.1]", 3)
    driver.wait_for(lambda: any("gcs_server" in command_line(process) for process in driver.descendants()))
    driver.process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    assert driver.wait() == 130, driver.text()
    assert time.monotonic() - asked < 10
    assert "to resume: python -m flexres_tune.run" in driver.text()
    assert "Traceback" not in driver.text()


@pytest.mark.slow
def test_dead_raylet_is_replaced_and_the_sweep_continues(sweep, tmp_path):
    driver = sweep("[0.1, 0.05]", 40)
    driver.wait_for(lambda: num_epochs(tmp_path) >= 2 and driver.raylets())
    assert driver.kill(driver.raylets()[0])
    assert driver.wait() == 0, driver.text()
    assert "restarting the command" in driver.text()
    assert_whole(tmp_path, 2, 40)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["dies_between_trials", "ends_late"])
def test_trial_that_tune_loses_between_two_trials_runs_at_its_place(sweep, tmp_path, fault):
    """Stopping rules depend on the order: a process dies, or is not free in time, before its next trial."""
    env = faults(tmp_path / "notes", **{fault: [0.02]}) | {"TUNE_FUNCTION_THREAD_TIMEOUT_S": "1"}
    driver = sweep("[0.1, 0.05, 0.02, 0.01]", 1, "--max-concurrent", "1", env=env)
    assert driver.wait() == 0, driver.text()
    planned = [row.trial_id for row in read_plan(SweepPaths(tmp_path / "results", "test")).trials]
    rows = table(tmp_path, "trials").sort_values("started_at")
    assert list(rows["status"]) == ["completed"] * 4
    assert list(rows["attempt"]) == [1] * 4
    assert rows["lr"].iloc[-1] != 0.02, "no trial follows the one with the fault"
    assert list(rows["trial_id"]) == planned


@pytest.mark.slow
def test_each_kind_of_failure_is_a_row_with_its_reason_and_frees_its_slot(sweep, tmp_path):
    values = "[0.01, 0.02, 0.03, 0.04, 1.0e+30, 0.1]"
    env = faults(tmp_path / "notes", raises=[0.01], runs_out_of_memory=[0.02], hangs=[0.03], exceeds_its_limit=[0.04])
    driver = sweep(values, 2, "--trial-timeout", "25", env=env)
    assert driver.wait(300) == 0, driver.text()
    rows = table(tmp_path, "trials").set_index("lr")
    assert rows["status"].to_dict() == {
        0.01: "failed", 0.02: "out_of_memory", 0.03: "failed", 0.04: "out_of_memory", 1e30: "diverged", 0.1: "completed",
    }  # fmt: skip
    assert "Traceback" in rows["error"][0.01] and "sabotage: this trial raises" in rows["error"][0.01]
    assert "sabotage: no memory" in rows["error"][0.02]
    assert "can't allocate memory" in rows["error"][0.04]
    assert "no report for 25 s (--trial-timeout)" in rows["error"][0.03]
    assert "loss" in rows["error"][1e30]
    again = sweep(values, 2, "--retry", "failed,out_of_memory")
    assert again.wait() == 0, again.text()
    assert "4 trials to run, 2 already done" in again.text()
    rows = table(tmp_path, "trials").set_index("lr")
    assert rows["status"].to_dict() == dict.fromkeys((0.01, 0.02, 0.03, 0.04, 0.1), "completed") | {1e30: "diverged"}
    assert rows["attempt"][0.01] == 2


@pytest.mark.slow
def test_full_disk_pauses_the_sweep_until_there_is_space(sweep, small_disk, tmp_path):
    notes = tmp_path / "notes"
    env = faults(notes, slow=[0.1])
    driver = sweep("[0.1, 0.05, 0.02]", 20, "--max-concurrent", "1", folder=small_disk, env=env)
    driver.wait_for(lambda: num_epochs(small_disk) >= 2)
    filler = small_disk / "filler"
    fill(filler)
    driver.wait_for(lambda: "No space left on device" in driver.text(), 60)
    assert "no trial starts until" in driver.text()
    driver.wait_for(lambda: "1/3  completed" in driver.text(), 60)
    time.sleep(2)  # the next trial would start in the same process, at once
    assert [note.name for note in notes.iterdir()] == ["0.1"]
    assert not list((small_disk / "results" / "test").rglob("*.tmp")), "no torn file"
    for part in (small_disk / "results" / "test").rglob("part-*.parquet"):
        pq.read_table(part)
    filler.unlink()
    assert driver.wait(300) == 0, driver.text()
    assert "the sweep continues" in driver.text()
    assert_whole(small_disk, 3, 20)


@pytest.fixture
def shared_memory(tmp_path):
    """A prefix of commands that gives them a /dev/shm of 160 MB, and a function that fills it."""
    folder = tmp_path / "shm"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("no file system can be mounted here: root only")
    bind = f"mount --bind '{folder}' /dev/shm && exec \"$@\""
    yield ("unshare", "--mount", "sh", "-c", bind, "sh"), lambda: fill(folder / "full")
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before Ray starts", "while trials run"])
def test_full_dev_shm_disturbs_nothing(sweep, shared_memory, tmp_path, when):
    """Ray has its object store on disk then; later, reports are too small for it."""
    prefix, fill_it = shared_memory
    if when == "before Ray starts":
        fill_it()
    driver = sweep("[0.05, 0.1, 0.2]", 3, env=faults(tmp_path / "notes", slow=ALL), prefix=prefix)
    if when == "while trials run":
        driver.wait_for(lambda: num_epochs(tmp_path) > 0)
        fill_it()
    assert driver.wait() == 0, driver.text()
    assert list(table(tmp_path, "trials")["status"]) == ["completed"] * 3


@pytest.mark.slow
def test_ctrl_c_on_a_full_disk_reports_lost_rows(sweep, small_disk):
    driver = sweep("[0.1]", 500, folder=small_disk)
    driver.wait_for(lambda: num_epochs(small_disk) >= 2)
    fill(small_disk / "filler")
    driver.wait_for(lambda: "no trial starts until" in driver.text(), 60)
    driver.process.send_signal(signal.SIGINT)
    assert driver.wait(15) != 0
    assert "rows are lost" in driver.text()
    assert "Traceback" not in driver.text()


def test_folder_that_is_not_writable_is_an_error_before_anything_starts(sweep, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "test").write_text("a file in its place")
    driver = sweep()
    assert driver.wait() == 2
    assert "there is a file where a folder must be" in driver.text()
    (tmp_path / "results" / "test").unlink()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", tmp_path / "results"], capture_output=True)
    if done.returncode:
        pytest.skip("no file system can be mounted here: root only")
    try:
        driver = sweep()
        assert driver.wait() == 2
        assert "Read-only file system; choose a writable folder with --storage" in driver.text()
        assert "to run" not in driver.text()
    finally:
        subprocess.run(["umount", "-l", tmp_path / "results"], check=True)


@pytest.mark.slow
def test_second_driver_is_refused_with_the_name_of_the_first(sweep, tmp_path):
    first = sweep("[0.1]", 200)
    first.wait_for(lambda: num_epochs(tmp_path) >= 1)
    second = sweep("[0.1]", 200)
    assert second.wait() == 2
    assert f"on host {socket.gethostname()}, pid {first.process.pid}, started 20" in second.text()


@pytest.mark.slow
def test_trial_that_another_sweep_completed_is_not_run_again(sweep, tmp_path):
    assert sweep("[0.1, 0.05]", 3, name="first").wait() == 0
    driver = sweep("[0.1, 0.05]", 3, name="second")
    assert driver.wait() == 0, driver.text()
    assert "reusing the rows of 2 trials of first" in driver.text()
    assert "to run;" not in driver.text(), "Ray was not started"
    rows = table(tmp_path, "trials", "second")
    assert list(rows["reused_from"]) == ["first"] * 2
    assert list(rows["sweep"]) == ["second"] * 2
    assert_whole(tmp_path, 2, 3, "second")
    assert sweep("[0.1]", 3, "--no-reuse", name="third").wait() == 0
    assert table(tmp_path, "trials", "third")["reused_from"].isna().all()


@pytest.mark.slow
def test_changed_base_keeps_the_old_rows_and_status_counts_them(sweep, tmp_path):
    assert sweep("[0.1, 0.05]", 2).wait() == 0
    assert sweep("[0.1, 0.05]", 3).wait() == 0
    rows = table(tmp_path, "trials")
    assert sorted(rows["epochs"]) == [2, 2, 3, 3]
    assert rows["config_id"].nunique() == 4
    done = _query(tmp_path, "status")
    assert "2 rows belong to an earlier version of the sweep file" in done.stdout


@pytest.mark.slow
def test_damaged_part_is_named_and_its_trials_run_again(sweep, tmp_path):
    assert sweep("[0.1]", 2).wait() == 0
    (part,) = (tmp_path / "results" / "test" / "trials").glob("part-*.parquet")
    part.write_bytes(part.read_bytes()[:1000])
    done = _query(tmp_path, "SELECT count(*) AS n FROM trials")
    assert f"{part}: skipped, damaged" in done.stderr
    driver = sweep("[0.1]", 2)
    assert driver.wait() == 0, driver.text()
    assert str(part) in driver.text()
    assert "1 trial to run" in driver.text()
    rows = table(tmp_path, "trials")
    assert list(rows["status"]) == ["completed"]


def _query(tmp_path, *what):
    command = [sys.executable, "-m", "flexres_tune.query", *what, "--results", tmp_path / "results"]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60)


@pytest.mark.slow
def test_clock_locale_odd_paths_and_long_values_work(sweep, tmp_path):
    folder = tmp_path / "Ergebnisse für Übung 1"
    folder.mkdir()
    images = folder / ("ä" * 100) / ("b" * 100)
    images.mkdir(parents=True)
    _make_images(images)
    environment = {"LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8", "TZ": "Pacific/Kiritimati"}
    dataset = f"base.dataset=parquet:{images}"
    assert len(str(images)) > 250
    first = sweep("[0.1]", 2, "--set", dataset, folder=folder, env=environment)
    assert first.wait() == 0, first.text()
    future = time.time() + 10 * 365 * 86400  # as if the clock had been set back by ten years since then
    for file in (folder / "results").rglob("*"):
        os.utime(file, (future, future))
    second = sweep("[0.1, 0.05]", 2, "--set", dataset, folder=folder, env=environment)
    assert second.wait() == 0, second.text()
    assert "1 trial to run, 1 already done" in second.text()
    assert_whole(folder, 2, 2)
    assert set(table(folder, "trials")["dataset"]) == {f"parquet:{images}"}


@pytest.mark.slow
def test_clock_that_is_set_back_in_the_middle_costs_no_row(sweep, tmp_path):
    flag = tmp_path / "set back"
    options = {
        "run": ("helpers.run_with_clock_set_back", flag),
        "env": faults(tmp_path / "notes", slow=[0.05, 0.02]),
    }
    first = sweep("[0.05, 0.02]", 20, **options)
    first.wait_for(lambda: num_epochs(tmp_path) > 0)
    flag.touch()
    first.process.send_signal(signal.SIGINT)
    assert first.wait() == 130, first.text()
    rows = table(tmp_path, "trials")
    assert (rows["finished_at"] < rows["started_at"]).any(), "the clock was set back while it ran"
    second = sweep("[0.05, 0.02, 0.1]", 20, **options)
    assert second.wait() == 0, second.text()
    assert_whole(tmp_path, 3, 20)
    assert set(table(tmp_path, "trials")["attempt"]) == {1, 2}
    again = sweep("[0.05, 0.02, 0.1]", 20, **options)
    assert again.wait() == 0, again.text()
    assert "nothing to do" in again.text()


def _make_images(folder):
    import io

    import numpy as np
    import pyarrow as pa
    from PIL import Image

    generator = np.random.default_rng(0)
    for name, count in (("train", 60), ("test", 20)):
        rows = []
        for i in range(count):
            buffer = io.BytesIO()
            Image.fromarray(generator.integers(0, 256, (8, 8, 3), np.uint8)).save(buffer, "PNG")
            rows.append({"img": {"bytes": buffer.getvalue(), "path": None}, "label": i % 2})
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{name}.parquet")


def test_damaged_data_are_an_error_before_anything_starts(sweep, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    _make_images(images)
    file = images / "train.parquet"
    content = bytearray(file.read_bytes())
    place = content.find(b"IDAT") + 8
    content[place : place + 20] = b"noise" * 4
    file.write_bytes(bytes(content))
    driver = sweep("[0.1]", 2, "--set", f"base.dataset=parquet:{images}")
    assert driver.wait() == 2, driver.text()
    assert str(file) in driver.text()
    assert "Traceback" not in driver.text() and "to run" not in driver.text()
    shutil.rmtree(images)
    driver = sweep("[0.1]", 2, "--set", f"base.dataset=parquet:{images}")
    assert driver.wait() == 2
    assert str(images) in driver.text()
