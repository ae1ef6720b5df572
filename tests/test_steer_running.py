"""A person steers a running sweep from another process: real Ray, real processes."""

import os
import signal
import subprocess
import sys
from datetime import UTC, datetime

import pytest
from helpers.driver_process import ROOT, Driver
from helpers.factories import make_sweep_yaml
from helpers.sabotage import ALL, faults

from flexres_tune.cli import EXIT_INTERRUPTED
from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import plan_or_none
from flexres_tune.spec import expand_trials, load_sweep


class Sweep:
    """A sweep whose trials are so slow that none ends by itself, one at a time."""

    def __init__(self, folder, rates):
        self.file, self.root, self.notes = folder / "test.yaml", folder / "results", folder / "notes"
        self.write(rates)
        options = ("--profile", "none", "--storage", self.root, "--max-concurrent", "1")
        self.driver = Driver(self.file, *options, env=faults(self.notes, slow=ALL))

    def write(self, rates):
        text = make_sweep_yaml(name="test", base={"epochs": 2000, "batch_size": 16}, early_terminate="none")
        self.file.write_text(text + f"parameters: {{lr: {{values: {list(rates)}}}}}\n")
        trials = expand_trials(load_sweep(self.file, profile="none", describe=describe_dataset), describe_dataset)
        self.ids = {trial.config.lr: trial.config.trial_id for trial in trials}  # in the order of their start

    def started(self):
        """Learning rates of the trials that have started."""
        return {float(path.name) for path in self.notes.iterdir()}

    def steer(self, *words):
        command = [sys.executable, "-m", "flexres_tune.steer", "test", *words, "--results", str(self.root)]
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def planned(self):
        plan = plan_or_none(SweepPaths(self.root, "test"))
        return {row.trial_id for row in plan.trials} if plan else set()


@pytest.fixture
def sweep(tmp_path):
    sweep = Sweep(tmp_path, [0.1, 0.05, 0.02])
    yield sweep
    sweep.driver.clean_up()


@pytest.mark.slow
def test_acts_of_another_process_are_done_and_become_rows_with_time_and_who(sweep):
    began = datetime.now(UTC)
    sweep.driver.wait_for(sweep.started)
    first, second, third = sweep.ids
    assert sweep.started() == {first}
    assert "starts as soon as there is a free slot" in sweep.steer("prioritise", sweep.ids[third])
    assert "stops after its current epoch" in sweep.steer("stop", sweep.ids[first])
    sweep.driver.wait_for(lambda: third in sweep.started())
    assert second not in sweep.started(), "the trial with priority took the free slot"

    sweep.write([0.1, 0.05, 0.02, 0.2])
    assert "the driver reads the sweep file again" in sweep.steer("reload")
    sweep.driver.wait_for(lambda: sweep.ids[0.2] in sweep.planned())
    os.kill(sweep.driver.process.pid, signal.SIGINT)
    assert sweep.driver.wait() == EXIT_INTERRUPTED, sweep.driver.text()

    results = open_results(sweep.root)
    decisions = [row for row in results.decisions("test").to_pylist() if row["action"].startswith("steer ")]
    acts = [("steer prioritise", sweep.ids[third]), ("steer stop", sweep.ids[first]), ("steer reload", "")]
    assert [(row["action"], row["trial_id"]) for row in decisions] == acts
    assert all("@" in row["who"] and began <= row["decided_at"] <= datetime.now(UTC) for row in decisions)
    statuses = {row["trial_id"]: row["status"] for row in results.trials("test").to_pylist()}
    assert statuses[sweep.ids[first]] == "stopped" and statuses[sweep.ids[third]] == "interrupted"
