"""`python -m flexres_tune.run` as a person types it: real processes, real signals."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from flexres_tune.results import open_results

ROOT = Path(__file__).parents[2]


def command(*args):
    return [sys.executable, "-m", "flexres_tune.run", *map(str, args)]


def run(*args, **options):
    return subprocess.run(command(*args), capture_output=True, text=True, cwd=ROOT, timeout=300, **options)


def test_dry_run_lists_the_trials_in_under_a_second_of_processor_time():
    started = os.times()
    done = run("sweeps/optim.yaml", "--profile", "none", "--dry-run")
    used = os.times()
    assert done.returncode == 0, done.stderr
    assert "18 trials" in done.stdout
    assert "4,922,826" in done.stdout
    assert "disk: at most" in done.stdout
    seconds = used.children_user + used.children_system - started.children_user - started.children_system
    assert seconds < 2, "generous: these machines are noisy; torch alone takes 2.6 s to import"


def test_trials_of_the_other_profiles_are_checked_before_anything_runs(tmp_path):
    file = tmp_path / "broken_laptop.yaml"
    file.write_text(
        "name: x\nbase: {model: tiny, dataset: digits}\nprofiles:\n  laptop:\n    base: {model: resnet10}\n"
    )
    done = run(file, "--profile", "none", "--dry-run")
    assert done.returncode == 2
    assert f"{file}:5: profiles.laptop.base.model: pool_size must fit" in done.stderr


def test_published_table_that_does_not_exist_is_named_by_the_dry_run(tmp_path):
    file = tmp_path / "typo.yaml"
    file.write_text("name: x\nreproduces: flexres/optimiser\nbase: {model: tiny, dataset: digits}\n")
    done = run(file, "--dry-run")
    assert done.returncode == 2
    assert done.stderr.startswith(f"{file}:2: reproduces: must be a published table") and done.stderr.count("\n") == 1
    assert "did you mean flexres/optimizer?" in done.stderr


def test_problems_of_the_file_are_all_named_and_the_status_is_2(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("name: bad\nmetod: grid\nbase: {model: resnet22}\nparameters: {lr: {min: 0.1, max: 0.01}}\n")
    done = run(file)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert any(line.startswith(f"{file}:2: metod: ") and "method" in line for line in lines), done.stderr
    assert any(line.startswith(f"{file}:3: base.model: ") and "resnet22_2" in line for line in lines), done.stderr
    assert any(line.startswith(f"{file}:4: parameters.lr") for line in lines), done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("no_such.yaml",),
        ("sweeps/optim.yaml", "--set", "base.lrr=1"),
        ("sweeps",),
        ("sweeps/optim.yaml", "--retry", "failed,stopped"),
    ],
)
def test_wrong_arguments_are_named_without_a_traceback(args):
    done = run(*args)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr + done.stdout
    assert done.stderr.strip()


def test_help_shows_examples_at_once():
    done = run("--help")
    assert done.returncode == 0
    assert "python -m flexres_tune.run sweeps/optim.yaml" in done.stdout


@pytest.mark.slow
def test_ctrl_c_writes_interrupted_rows_and_the_same_command_goes_on(tmp_path):
    args = (
        "sweeps/lr.yaml", "--storage", tmp_path / "results",
        "--set", "base.epochs=30", "--set", "parameters={lr: {values: [0.01, 0.02, 0.05]}}",
        "--set", "early_terminate=none", "--set", "confirm=null",
    )  # fmt: skip
    process = subprocess.Popen(
        command(*args, "--profile", "laptop"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not list((tmp_path / "results" / "lr").glob("epochs/*.parquet")):
        time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    asked = time.monotonic()
    output, _ = process.communicate(timeout=60)
    took = time.monotonic() - asked
    assert process.returncode == 130, output
    assert took < 15
    assert re.search(r"to resume: python -m flexres_tune.run sweeps/lr.yaml", output), output
    statuses = open_results(tmp_path / "results").trials("lr").column("status").to_pylist()
    assert "interrupted" in statuses

    done = run(*args, "--profile", "laptop")
    assert done.returncode == 0, done.stdout + done.stderr
    results = open_results(tmp_path / "results")
    assert set(results.trials("lr").column("status").to_pylist()) == {"completed"}
    counts = results.sql("SELECT trial_id, count(*) AS n, count(DISTINCT epoch) AS d FROM epochs GROUP BY trial_id")
    assert counts.column("n").to_pylist() == counts.column("d").to_pylist() == [30, 30, 30]
    accuracy = "avg((predicted = label)::INT)"
    found = results.sql(f"SELECT trial_id, split, {accuracy} AS accuracy FROM predictions GROUP BY ALL").to_pylist()
    expected = {(row["trial_id"], "test"): row["test_accuracy"] for row in results.trials("lr").to_pylist()}
    expected |= {(row["trial_id"], "val"): row["last_val_accuracy"] for row in results.trials("lr").to_pylist()}
    assert {(row["trial_id"], row["split"]): row["accuracy"] for row in found} == pytest.approx(expected)


def test_ctrl_c_before_the_session_handles_signals_prints_the_resume_line():
    code = (
        "import sys\nfrom flexres_tune import storage\nfrom flexres_tune.run import __main__ as command\n"
        "def interrupt(*arguments): raise KeyboardInterrupt\n"
        "sys.argv = ['run', 'x.yaml', '--retry', 'failed']\n"
        "storage.make_path = interrupt\ncommand.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 130
    assert done.stdout == "interrupted; to resume: python -m flexres_tune.run x.yaml --retry failed\n"
