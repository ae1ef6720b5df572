"""bench tables: a sweep of many trials written as it runs, its leaderboard, and all epochs against Ray's data frames."""

from __future__ import annotations

import contextlib
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from flexres_tune.bench.figures import INVENTED_METRICS, Bench, Figure, ratios
from flexres_tune.bench.steps import say_step
from flexres_tune.records import EpochRecord, TrialRecord, Versions
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import TrialConfig

NUM_SEEDS = 4
NUM_WORKERS = 64
NUM_GATHERED_ROWS = 2_000_000  # more are not read into one table, nor compared with Ray's data frames
RAY_TRIALS = 500
SAMPLE_PERIOD_S = 0.2


def bench_tables(num_trials: int, num_epochs: int, repeats: int) -> Bench:
    """`num_trials` trials of `num_epochs` epochs: written, ranked by a command, and gathered as one table."""
    with tempfile.TemporaryDirectory(prefix="flexres_tune_bench_") as folder:
        root = Path(folder)
        say_step(f"writing {num_trials:,} trials of {num_epochs} epochs")
        with watch(root / "results") as peak:
            seconds = _seconds(lambda: write_sweep(root / "results", num_trials, num_epochs))
        command = [sys.executable, "-m", "flexres_tune.query", "leaderboard", "--results", str(root / "results")]
        command += ["--limit", "20"]
        say_step(f"query leaderboard, {repeats + 1} times")
        whole = [_seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(repeats + 1)]
        figures = [
            Figure.of("write, as the sweep runs", "s", [seconds]),
            Figure.of("files at most", "files", [peak.num_files]),
            Figure.of("driver's memory at most", "MB", [peak.resident_bytes / 1e6]),
            Figure.of("query leaderboard, whole command", "s", whole[1:]),
        ]
        if num_trials * num_epochs <= NUM_GATHERED_ROWS:
            figures += _gather(root, num_trials, num_epochs, repeats)
    note = f"{num_trials:,} trials x {num_epochs} epochs = {num_trials * num_epochs:,} rows of {NUM_WORKERS} workers"
    return Bench("tables", tuple(figures), (note,))


def _gather(root: Path, num_trials: int, num_epochs: int, repeats: int) -> list[Figure]:
    """All epochs as one table, ours and Ray's."""
    from flexres_tune.bench.driver.noop import read_experiment

    say_step(f"reading all epochs, {repeats + 1} times")
    ours = [_seconds(lambda: open_results(root / "results").epochs()) for _ in range(repeats + 1)][1:]
    say_step(f"writing {RAY_TRIALS} trials as Ray Tune does, and reading them {repeats} times")
    write_ray_experiment(root / "ray", RAY_TRIALS, num_epochs)
    ray = [_seconds(lambda: read_experiment(root / "ray")) for _ in range(repeats)]
    theirs = [value * num_trials / RAY_TRIALS for value in ray]
    return [
        Figure.of("gather all epochs", "s", ours),
        Figure.of(f"Ray's trial data frames, from {RAY_TRIALS} trials", "s", theirs),
        Figure.of("Ray / ours", "x", ratios(theirs, ours)),
    ]


@dataclass
class Peak:
    """The most that was seen so far."""

    num_files: int = 0  # below the folder, hidden ones included
    resident_bytes: int = 0  # of this process


@contextlib.contextmanager
def watch(folder: Path) -> Iterator[Peak]:
    """Look at the folder and at this process again and again while the block runs."""
    peak, is_over, process = Peak(), threading.Event(), psutil.Process()

    def look() -> None:
        while not is_over.wait(SAMPLE_PERIOD_S):
            with contextlib.suppress(FileNotFoundError):  # deleted while it was listed
                peak.num_files = max(peak.num_files, sum(path.is_file() for path in folder.rglob("*")))
            peak.resident_bytes = max(peak.resident_bytes, process.memory_info().rss)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield peak
    finally:
        is_over.set()
        thread.join()


@dataclass
class Worker:
    """A simulated worker: the trial that it trains, and how many of its epochs are done."""

    config: TrialConfig
    trial_id: str
    epoch: int = 0


def write_sweep(root: Path, num_trials: int, num_epochs: int) -> None:
    """Write a sweep of invented trials with the real writer, which decides when to write.

    Each report is that of a random worker, as fast as this process can add them.
    """
    chance, now = random.Random(0), datetime.now(UTC)
    configs = (_config(index, num_epochs) for index in range(num_trials))
    workers = [worker for _ in range(NUM_WORKERS) if (worker := _start(configs))]
    with SweepWriter(SweepPaths(root, "bench")) as writer:
        while workers:
            index = int(chance.random() * len(workers))
            worker = workers[index]
            worker.epoch += 1
            accuracy = 0.5 + 0.4 * worker.epoch / num_epochs - 0.1 * chance.random()
            writer.add_epoch(_epoch(worker.epoch, accuracy, worker.trial_id, chance.random()))
            if worker.epoch == num_epochs:
                writer.add_trial(_record(worker, accuracy, now), worker.config)
                writer.maybe_flush(time.monotonic())
                following = _start(configs)
                workers[index : index + 1] = [following] if following else []
        writer.compact()


def _config(index: int, num_epochs: int) -> TrialConfig:
    lr = 1e-3 * (1 + index // NUM_SEEDS)
    return TrialConfig(model="tiny", dataset="digits", lr=lr, seed=index % NUM_SEEDS, epochs=num_epochs)


def _start(configs: Iterator[TrialConfig]) -> Worker | None:
    """A worker with the next trial; None if there is none."""
    config = next(configs, None)
    return None if config is None else Worker(config, config.trial_id)


def _epoch(epoch: int, accuracy: float, trial_id: str = "", noise: float = 0.0) -> EpochRecord:
    """Metrics that are as hard to compress as real ones."""
    values = {name: value * (1 + noise) for name, value in INVENTED_METRICS.items()}
    values |= {"train_accuracy": accuracy - 0.1 * noise, "val_accuracy": accuracy}
    return EpochRecord(epoch=epoch, sweep="bench", trial_id=trial_id, **values)


def _record(worker: Worker, accuracy: float, now: datetime) -> TrialRecord:
    config = worker.config
    values = dict.fromkeys(TrialRecord.__dataclass_fields__)
    values |= {
        "sweep": "bench",
        "trial_id": worker.trial_id,
        "config_id": worker.trial_id.rpartition("-")[0],
        "seed": config.seed,
        "stage": "screen",
        "profile": "none",
        "status": "completed",
        "attempt": 1,
        "num_parameters": 19_994,
        "best_val_accuracy": accuracy,
        "best_epoch": worker.epoch,
        "last_val_accuracy": accuracy,
        "test_accuracy": accuracy,
        "epochs_run": worker.epoch,
        "train_seconds": float(worker.epoch),
        "started_at": now,
        "finished_at": now + timedelta(seconds=1),
        "versions": Versions(),
    }
    return TrialRecord(**values)


def write_ray_experiment(folder: Path, num_trials: int, num_epochs: int) -> None:
    """Write result files as Ray Tune's JSON logger does: per trial a folder with result.json, one line per report."""
    config = TrialConfig(model="tiny", dataset="digits").columns()
    metrics = asdict(_epoch(1, 0.5))
    own = {"time_this_iter_s": 1.0, "done": False, "training_iteration": 1, "trial_id": "x", "date": "x", "pid": 1}
    line = json.dumps(metrics | own | {"hostname": "x", "node_ip": "127.0.0.1", "config": config})
    for index in range(num_trials):
        trial = folder / f"trial_{index:05d}"
        trial.mkdir(parents=True)
        (trial / "result.json").write_text("\n".join([line] * num_epochs) + "\n")


def _seconds(call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
