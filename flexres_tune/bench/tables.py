"""bench tables: a leaderboard over a million epochs, and all epochs as one table against Ray's own data frames."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

from flexres_tune.bench.figures import INVENTED_METRICS, Bench, Figure, ratios
from flexres_tune.records import EpochRecord, TrialRecord, Versions
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import TrialConfig

NUM_EPOCHS = 100
RAY_TRIALS = 500


def bench_tables(num_trials: int, repeats: int) -> Bench:
    """`num_trials` trials of NUM_EPOCHS epochs: the leaderboard as a command, and all epochs as one table."""
    from flexres_tune.bench.noop import read_experiment

    with tempfile.TemporaryDirectory(prefix="flexres_tune_bench_") as folder:
        root = Path(folder)
        write_sweep(root / "results", num_trials)
        command = [sys.executable, "-m", "flexres_tune.query", "leaderboard", "--results", str(root / "results")]
        whole = [_seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(repeats + 1)]
        gather = [_seconds(lambda: open_results(root / "results").epochs()) for _ in range(repeats + 1)]
        write_ray_experiment(root / "ray", RAY_TRIALS)
        ray = [_seconds(lambda: read_experiment(root / "ray")) for _ in range(repeats)]
    ours, theirs = gather[1:], [value * num_trials / RAY_TRIALS for value in ray]
    figures = (
        Figure.of("query leaderboard, whole command", "s", whole[1:]),
        Figure.of("gather all epochs", "s", ours),
        Figure.of(f"Ray's trial data frames, from {RAY_TRIALS} trials", "s", theirs),
        Figure.of("Ray / ours", "x", ratios(theirs, ours)),
    )
    note = f"{num_trials:,} trials x {NUM_EPOCHS} epochs = {num_trials * NUM_EPOCHS:,} rows, compacted"
    return Bench("tables", figures, (note,))


def write_sweep(root: Path, num_trials: int) -> None:
    """Write a finished sweep of invented trials with the real writer."""
    with SweepWriter(SweepPaths(root, "bench")) as writer:
        now = datetime.now(UTC)
        for index in range(num_trials):
            config = TrialConfig(
                model="tiny", dataset="digits", lr=1e-3 * (1 + index // 4), seed=index % 4, epochs=NUM_EPOCHS
            )
            for epoch in range(1, NUM_EPOCHS + 1):
                accuracy = 0.5 + 0.4 * epoch / NUM_EPOCHS - 0.1 * (index % 7) / 7
                writer.add_epoch(_epoch(epoch, accuracy, config.trial_id))
            writer.add_trial(_record(config, accuracy, now), config)
            if index % 500 == 499:
                writer.flush()
        writer.flush()
        writer.compact()


def _epoch(epoch: int, accuracy: float, trial_id: str = "") -> EpochRecord:
    accuracies = {"train_accuracy": accuracy, "val_accuracy": accuracy}
    return EpochRecord(epoch=epoch, sweep="bench", trial_id=trial_id, **accuracies, **INVENTED_METRICS)


def _record(config: TrialConfig, accuracy: float, now: datetime) -> TrialRecord:
    values = dict.fromkeys(TrialRecord.__dataclass_fields__)
    values |= {
        "sweep": "bench",
        "trial_id": config.trial_id,
        "config_id": config.config_id,
        "seed": config.seed,
        "stage": "screen",
        "profile": "none",
        "status": "completed",
        "attempt": 1,
        "num_parameters": 19_994,
        "best_val_accuracy": accuracy,
        "best_epoch": NUM_EPOCHS,
        "last_val_accuracy": accuracy,
        "test_accuracy": accuracy,
        "epochs_run": NUM_EPOCHS,
        "train_seconds": float(NUM_EPOCHS),
        "started_at": now,
        "finished_at": now + timedelta(seconds=1),
        "versions": Versions(),
    }
    return TrialRecord(**values)


def write_ray_experiment(folder: Path, num_trials: int) -> None:
    """Write result files as Ray Tune's JSON logger does: per trial a folder with result.json, one line per report."""
    config = TrialConfig(model="tiny", dataset="digits").columns()
    metrics = asdict(_epoch(1, 0.5))
    own = {"time_this_iter_s": 1.0, "done": False, "training_iteration": 1, "trial_id": "x", "date": "x", "pid": 1}
    line = json.dumps(metrics | own | {"hostname": "x", "node_ip": "127.0.0.1", "config": config})
    for index in range(num_trials):
        trial = folder / f"trial_{index:05d}"
        trial.mkdir(parents=True)
        (trial / "result.json").write_text("\n".join([line] * NUM_EPOCHS) + "\n")


def _seconds(call) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
