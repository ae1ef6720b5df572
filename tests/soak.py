"""Soak: sweeps killed at random moments and restarted until done have the tables of an undisturbed run.

Two minutes by default, `FLEXRES_TUNE_SOAK_SECONDS=1800` for half an hour: `python -m pytest tests/soak.py -m soak -s`.

Driver, trials and raylet are killed with SIGKILL, the driver's whole group also with SIGTERM and SIGINT. Equal means:
the same trials with the same statuses, accuracies and curves, to the last digit, on a CPU with one thread per trial.
Which trials ASHA stops depends on the order in which they arrive, so with it one trial runs at a time, and without it
two.
"""

import os
import random
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas
import pytest
from helpers.driver_process import Driver
from helpers.factories import make_sweep_yaml

from flexres_tune.results import open_results

SECONDS = float(os.environ.get("FLEXRES_TUNE_SOAK_SECONDS", 120))
SEED = int(os.environ.get("FLEXRES_TUNE_SOAK_SEED", 0))
SWEEP = make_sweep_yaml(
    name="soak",
    base={"epochs": 9, "batch_size": 16, "augmentation": ["crop"]},
    parameters={"lr": {"values": [0.1, 0.02, 1e-4, 0.05]}, "weight_decay": {"values": [0, 5e-4]}},
)
KINDS = {  # how a sweep is run so that undisturbed runs are equal
    "none": ("none", ()),
    "asha": ("{type: asha, grace_period: 1, reduction_factor: 2}", ("--max-concurrent", "1")),
}
TRIAL_COLUMNS = ["trial_id", "stage", "status", "epochs_run", "best_val_accuracy", "last_val_accuracy", "test_accuracy"]
EPOCH_COLUMNS = ["trial_id", "epoch", "train_loss", "val_loss", "val_accuracy", "lr"]
DECISION_COLUMNS = ["trial_id", "epoch", "rung", "value", "cutoff", "action"]


RAY_IS_LOST = (
    "Failed to register worker to Raylet",  # Ray's C++ code ends the process if Ray dies while it starts,
    "The program will terminate",  # or if the driver has not ended 60 s later
    "for the 4th time; run the same command to resume",
)


class Figures(Counter):
    """Counters that are printed at the end."""

    def __str__(self) -> str:
        return ", ".join(f"{name}: {count}" for name, count in sorted(self.items()))


def rows(folder: Path, table: str, columns: list[str]) -> list[tuple]:
    """Rows of a table, sorted, without those that a later row replaces."""
    read = getattr(open_results(folder / "results"), table)("soak").select(columns).to_pylist()
    return sorted(tuple(row.values()) for row in read)


def raw_rows(folder: Path, table: str) -> int:
    """Number of rows in the files, as other programs read them."""
    parts = folder / "results" / "soak" / table
    return len(pandas.read_parquet(parts, columns=["trial_id"])) if list(parts.glob("*.parquet")) else 0


def start(folder: Path, kind: str) -> Driver:
    rule, options = KINDS[kind]
    (folder / "soak.yaml").write_text(SWEEP + f"early_terminate: {rule}\n")
    ray = folder / "ray"
    shutil.rmtree(ray, ignore_errors=True)
    ray.mkdir()
    arguments = (folder / "soak.yaml", "--storage", folder / "results", "--profile", "none", *options)
    return Driver(*arguments, env={"RAY_TMPDIR": str(ray), "TMPDIR": str(ray)})


def undisturbed_run(kind: str) -> dict[str, list[tuple]]:
    folder = Path(tempfile.mkdtemp(prefix="soak_"))
    driver = start(folder, kind)
    try:
        assert driver.wait(600) == 0, driver.text()
        return tables(folder)
    finally:
        driver.clean_up()
        shutil.rmtree(folder)


def tables(folder: Path) -> dict[str, list[tuple]]:
    return {
        "trials": rows(folder, "trials", TRIAL_COLUMNS),
        "epochs": rows(folder, "epochs", EPOCH_COLUMNS),
        "decisions": rows(folder, "decisions", DECISION_COLUMNS),
    }


def wait(driver: Driver, condition: Callable[[], bool], seconds: float) -> None:
    """Wait until the condition holds, the driver ends, or the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and driver.process.poll() is None and not condition():
        driver.text()
        time.sleep(0.02 if seconds < 30 else 0.3)


def disturb(driver: Driver, chance: random.Random, figures: Figures) -> None:
    """Kill processes of a running driver at random times, until the driver has ended."""
    num_trials = 0
    while driver.process.poll() is None:
        if chance.random() < 0.8:  # otherwise most kills on a busy machine would happen while Ray starts
            wait(driver, lambda: len(driver.trials()) > 0, 60)
            wait(driver, lambda: False, chance.choice([chance.uniform(0, 3), chance.uniform(3, 20)]))
        else:  # not in the first second: before our handlers are installed, a signal ends any program
            wait(driver, lambda: False, chance.uniform(1.5, 10))
        if driver.process.poll() is not None:
            return
        victim = chance.choice(["driver"] * 3 + ["trial"] * 4 + ["raylet"] * 2 + ["term", "int"])
        if victim == "driver":
            driver.kill(driver.process.pid)
        elif victim in ("term", "int"):
            os.killpg(driver.process.pid, signal.SIGTERM if victim == "term" else signal.SIGINT)
        else:
            found = driver.trials() if victim == "trial" else driver.raylets()
            if not found or (num_trials == 2 and victim == "trial"):
                continue  # a trial that dies a third time in one run would be `failed`
            if not driver.kill(chance.choice(found)):
                continue
            num_trials += victim == "trial"
        figures["kills"] += 1
        figures[f"kills of {victim}"] += 1
        if victim in ("driver", "term", "int"):
            driver.wait(60)
            return


@pytest.mark.soak
def test_tables_of_a_sweep_that_is_killed_again_and_again_equal_those_of_an_undisturbed_one():
    chance, figures = random.Random(SEED), Figures()
    expected = {kind: undisturbed_run(kind) for kind in KINDS}
    assert {row[2] for row in expected["asha"]["trials"]} == {"completed", "stopped"}, "else ASHA is not tested"
    ends_at = time.monotonic() + SECONDS
    num_sweeps = 0
    while time.monotonic() < ends_at or not num_sweeps:
        kind = list(KINDS)[num_sweeps % len(KINDS)]
        num_sweeps += 1
        folder = Path(tempfile.mkdtemp(prefix="soak_"))
        text, is_done = "", False
        while not is_done:
            driver = start(folder, kind)
            figures["starts"] += 1
            try:
                if figures["starts"] - figures["sweeps"] > 1000:
                    raise AssertionError(f"no end: {text}")
                if chance.random() < 0.9:
                    disturb(driver, chance, figures)
                status = driver.wait(300)
                text = driver.text()
                assert "Traceback" not in text, text
                is_lost = any(each in text for each in RAY_IS_LOST)
                assert status in (0, 130, -signal.SIGKILL, -signal.SIGTERM) or is_lost, (status, text)
                is_done = status == 0
                figures["Ray started again"] += text.count("restarting the command")
                if (folder / "results" / "soak").is_dir():  # readable at any time
                    rows(folder, "epochs", EPOCH_COLUMNS)
            finally:
                driver.clean_up()
        figures["sweeps"] += 1
        figures["resumes"] = figures["starts"] - figures["sweeps"]
        actual = tables(folder)
        for table, wanted in expected[kind].items():
            figures[f"{table} compared"] += len(wanted)
            figures["rows lost"] += len(set(wanted) - set(actual[table]))
            figures["rows that should not be"] += len(set(actual[table]) - set(wanted))
            figures["rows twice"] += raw_rows(folder, table) - len(set(actual[table]))
        epochs = open_results(folder / "results").epochs("soak").to_pandas()
        figures["epochs computed by a later attempt"] += int((epochs["attempt"] > 1).sum())
        print(f"{kind}, {SECONDS - (ends_at - time.monotonic()):.0f} s: {figures}", flush=True)
        assert actual == expected[kind]
        assert figures["rows lost"] == figures["rows twice"] == figures["rows that should not be"] == 0
        shutil.rmtree(folder)
    assert figures["kills"] > 0
