"""Soak: two sweeps in one results folder, disturbed at random until done, have the tables of undisturbed ones.

Two minutes by default, `FLEXRES_TUNE_SOAK_SECONDS=1800` for half an hour, `FLEXRES_TUNE_SOAK_SEED=1` for other
disturbances: `python -m pytest tests/soak.py -m soak -s`.

Driver, trials and raylet are killed or stopped for some seconds, the driver's whole group gets SIGTERM and SIGINT, the
disk is full for some seconds (root only), and the drivers' clock jumps by a day, back and forth. Meanwhile a reader
that uses nothing but pyarrow reads the tables in a loop: no epoch is there twice, and none that was there is lost. In
the end both sweeps have the same trials with the same statuses, accuracies and curves, to the last digit. Each runs one
trial at a time on one thread: which trials ASHA stops depends on the order in which they arrive.
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from helpers.driver_process import ROOT, Driver
from helpers.factories import make_sweep_yaml

from flexres_tune.results import open_results

SECONDS = float(os.environ.get("FLEXRES_TUNE_SOAK_SECONDS", 120))
SEED = int(os.environ.get("FLEXRES_TUNE_SOAK_SEED", 0))
SWEEPS = {  # name: early_terminate and seed; the seeds differ, or one sweep would copy the other's rows
    "plain": ("none", 0),
    "asha": ("{type: asha, variant: stopping, grace_period: 1, reduction_factor: 2}", 1),
}
COLUMNS = {
    "trials": ["trial_id", "stage", "status", "epochs_run", "best_val_accuracy", "last_val_accuracy", "test_accuracy"],
    "epochs": ["trial_id", "epoch", "train_loss", "val_loss", "val_accuracy", "lr"],
    "decisions": ["trial_id", "epoch", "rung", "value", "cutoff", "action"],
}
DISTURBANCES = {
    **{"kill driver": 3, "kill trial": 4, "kill raylet": 2, "term": 1, "int": 1},
    **{"stop driver": 1, "stop trial": 2, "stop raylet": 1, "full disk": 3, "clock": 2},
}
DISK_SIZE = "48m"
RAY_IS_LOST = (
    "Failed to register worker to Raylet",  # Ray's C++ code ends the process if Ray dies while it starts,
    "The program will terminate",  # or if the driver has not ended 60 s later
    "for the 4th time; run the same command to resume",
)
DISK_IS_FULL = ("No space left on device", "rows are lost")
MAX_STARTS = 100  # of one sweep

Tables = dict[str, list[tuple]]


class Figures(Counter):
    """Counters that are printed at the end."""

    def __str__(self) -> str:
        return ", ".join(f"{name}: {count}" for name, count in sorted(self.items()))


@dataclass
class Sweep:
    """One of the two sweeps, and the driver that runs it now."""

    name: str
    folder: Path
    driver: Driver | None = None
    num_starts: int = 0
    num_dead_trials: int = 0  # killed in this run of the driver; a trial that dies a third time would be `failed`
    is_done: bool = False
    events: list[str] = field(default_factory=list)  # for the message of a failure

    @property
    def clock_flag(self) -> Path:
        """While it exists, the driver's clock is a day behind."""
        return self.folder / f"{self.name}.clock"

    def start(self) -> None:
        rule, seed = SWEEPS[self.name]
        file, ray = self.folder / f"{self.name}.yaml", self.folder / f"ray_{self.name}"
        file.write_text(
            make_sweep_yaml(
                name=self.name,
                seeds=[seed],
                base={"epochs": 9, "batch_size": 16, "augmentation": ["crop"]},
                parameters={"lr": {"values": [0.1, 0.02, 1e-4]}, "weight_decay": {"values": [0, 5e-4]}},
            )
            + f"early_terminate: {rule}\n"
        )
        shutil.rmtree(ray, ignore_errors=True)
        ray.mkdir()
        self.driver = Driver(
            *(self.clock_flag, file, "--storage", self.folder / "disk" / "results"),
            *("--profile", "none", "--max-concurrent", "1"),
            module="helpers.run_with_clock_set_back",
            env={"RAY_TMPDIR": str(ray), "TMPDIR": str(ray), "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}"},
        )
        self.num_starts += 1
        self.num_dead_trials = 0

    def collect(self, figures: Figures) -> None:
        """Check how the driver has ended, if it has, and forget it."""
        if self.driver is None or self.driver.process.poll() is None:
            return
        status, text = self.driver.process.returncode, self.driver.text()
        self.driver.clean_up()
        self.driver = None
        assert "Traceback" not in text, text
        is_excused = any(sign in text for sign in (*RAY_IS_LOST, *DISK_IS_FULL))
        assert status in (0, 130, -signal.SIGKILL, -signal.SIGTERM) or is_excused, (status, text)
        figures["restarts of Ray"] += text.count("restarting the command")
        figures["pauses for the disk"] += text.count("the sweep continues")
        self.is_done = status == 0

    def end(self) -> None:
        if self.driver is not None:
            self.driver.clean_up()


@dataclass
class Reader:
    """Reads the epochs of all sweeps in a loop, in a thread, as another program does: with pyarrow alone."""

    results: Path
    num_reads: int = 0
    problems: list[str] = field(default_factory=list)
    _seen: dict[str, set] = field(default_factory=dict)
    _is_over: threading.Event = field(default_factory=threading.Event)

    def read(self, folder: Path) -> list[tuple]:
        while True:
            with contextlib.suppress(FileNotFoundError):  # a part was merged since the folder was listed
                table = pq.read_table(folder)
                return list(zip(*(table[key].to_pylist() for key in ("trial_id", "epoch")), strict=True))

    def check(self) -> None:
        for name in SWEEPS:
            folder = self.results / name / "epochs"
            if not folder.is_dir():
                continue
            keys = self.read(folder) if any(folder.glob("*.parquet")) else []
            seen = self._seen.setdefault(name, set())
            if twice := [key for key, count in Counter(keys).items() if count > 1]:
                self.problems.append(f"{name}: {len(twice)} epochs twice, such as {twice[0]}")
            if lost := seen - set(keys):
                self.problems.append(f"{name}: {len(lost)} epochs lost, such as {min(lost)}")
            seen |= set(keys)
            self.num_reads += 1

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._loop)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()

    def _loop(self) -> None:
        while not self.problems and not self._is_over.wait(0.1):
            try:
                self.check()
            except Exception as error:
                self.problems.append(f"the reader fails: {type(error).__name__}: {error}")


def tables(results: Path) -> dict[str, Tables]:
    """The final tables, by sweep; sorted rows, as the files have them."""
    opened = open_results(results)
    found = {}
    for sweep in SWEEPS:
        found[sweep] = {
            name: sorted(tuple(row.values()) for row in opened.table(name, sweep).select(columns).to_pylist())
            for name, columns in COLUMNS.items()
        }
    return found


def num_raw_rows(results: Path, sweep: str, table: str) -> int:
    """Number of rows in the files, as other programs read them."""
    return sum(pq.read_metadata(part).num_rows for part in (results / sweep / table).glob("*.parquet"))


@contextlib.contextmanager
def round_folder() -> Iterator[Path]:
    """A new folder whose `disk` is a small file system of its own, if one can be mounted."""
    folder = Path(tempfile.mkdtemp(prefix="soak_"))
    disk = folder / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_SIZE}", "tmpfs", disk]
    is_mounted = subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield folder
    finally:
        if is_mounted:
            subprocess.run(["umount", "-l", disk], check=True)
        shutil.rmtree(folder)


def wait(seconds: float, until: Callable[[], bool] = lambda: False) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not until():
        time.sleep(0.05)


def disturb(sweeps: list[Sweep], chance: random.Random, figures: Figures) -> None:
    """One disturbance of a sweep whose driver runs, after a random time."""
    sweep = chance.choice([sweep for sweep in sweeps if sweep.driver])
    driver = sweep.driver
    if chance.random() < 0.8:  # otherwise most would happen while Ray starts
        wait(60, lambda: bool(driver.trials()) or driver.process.poll() is not None)
    wait(chance.choice([chance.uniform(0, 2), chance.uniform(2, 8)]) + 1.0)  # a signal before our handlers ends it
    if driver.process.poll() is not None:
        return
    kind = chance.choices(list(DISTURBANCES), list(DISTURBANCES.values()))[0]
    action, _, victim = kind.partition(" ")
    if kind == "full disk":
        _fill_disk(sweep.folder / "disk", chance.uniform(1, 6))
    elif kind == "clock":
        if sweep.clock_flag.exists():
            sweep.clock_flag.unlink()
        else:
            sweep.clock_flag.touch()
    elif kind in ("term", "int"):
        os.killpg(driver.process.pid, signal.SIGTERM if kind == "term" else signal.SIGINT)
    else:
        found = {"driver": [driver.process.pid], "trial": driver.trials(), "raylet": driver.raylets()}[victim]
        if not found or (kind == "kill trial" and sweep.num_dead_trials == 2):
            return
        pid = chance.choice(found)
        with contextlib.suppress(ProcessLookupError):
            if action == "kill":
                os.kill(pid, signal.SIGKILL)
                sweep.num_dead_trials += victim == "trial"
            else:
                os.kill(pid, signal.SIGSTOP)
                wait(chance.uniform(1, 8))
                os.kill(pid, signal.SIGCONT)
    figures[f"disturbances: {kind}"] += 1
    sweep.events.append(f"{kind} after: {driver.text()[-300:]!r}")
    if kind in ("kill driver", "term", "int"):
        driver.wait(60)


def _fill_disk(disk: Path, seconds: float) -> None:
    """Fill the disk for some seconds, unless it is that of the machine."""
    if not os.path.ismount(disk):
        return
    filler = disk / "filler"
    with open(filler, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    wait(seconds)
    filler.unlink()


def run_round(folder: Path, disturbance: Callable[[list[Sweep]], None] | None, figures: Figures) -> dict[str, Tables]:
    """Run both sweeps at the same time until both are done; returns their tables."""
    sweeps = [Sweep(name, folder) for name in SWEEPS]
    reader = Reader(folder / "disk" / "results")
    try:
        with reader.running():
            while not all(sweep.is_done for sweep in sweeps):
                for sweep in sweeps:
                    sweep.collect(figures)
                    if sweep.driver is None and not sweep.is_done:
                        assert sweep.num_starts < MAX_STARTS, f"{sweep.name} does not end"
                        sweep.start()
                    elif sweep.driver:
                        sweep.driver.text()
                if disturbance and any(sweep.driver for sweep in sweeps):
                    disturbance(sweeps)
                else:
                    wait(0.2)
                assert not reader.problems, reader.problems
        reader.check()
        assert not reader.problems, reader.problems
        figures["reads with pyarrow"] += reader.num_reads
        figures["starts"] += sum(sweep.num_starts for sweep in sweeps)
        errors = open_results(reader.results).trials()["error"].drop_null().to_pylist()
        assert not errors, "\n".join([*errors, *(event for sweep in sweeps for event in sweep.events)])
        return tables(reader.results)
    finally:
        for sweep in sweeps:
            sweep.end()


@pytest.mark.soak
def test_two_sweeps_that_are_disturbed_again_and_again_have_the_tables_of_undisturbed_ones():
    chance, figures = random.Random(SEED), Figures()
    with round_folder() as folder:
        expected = run_round(folder, None, Figures())
    assert {row[2] for row in expected["asha"]["trials"]} == {"completed", "stopped"}, "else ASHA is not tested"
    begin = time.monotonic()
    while time.monotonic() < begin + SECONDS or not figures["rounds"]:
        with round_folder() as folder:
            actual = run_round(folder, lambda sweeps: disturb(sweeps, chance, figures), figures)
            figures["rounds"] += 1
            for sweep in SWEEPS:
                for name, wanted in expected[sweep].items():
                    figures[f"{name} compared"] += len(wanted)
                    num_raw = num_raw_rows(folder / "disk" / "results", sweep, name)
                    assert num_raw == len(wanted), f"{sweep}: {num_raw} rows of {name} in the files, not {len(wanted)}"
                    assert actual[sweep][name] == wanted
        print(f"seed {SEED}, {time.monotonic() - begin:.0f} s: {figures}", flush=True)
