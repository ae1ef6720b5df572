"""Trials that only report: through plain Ray Tune, which `bench sweep` compares with, and through our own driver."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from ray import tune

from flexres_tune.bench.figures import INVENTED_METRICS
from flexres_tune.raytune.trainable import REPORT_KEY
from flexres_tune.records import EpochMetrics, TrialStatus
from flexres_tune.sweep.worker import TrialReport

NUM_REPORTS = 5
TUNED = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",  # no CSV, JSON and TensorBoard files
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # snapshots rare
}


def no_op(config: dict) -> None:
    """A trial that only reports."""
    for epoch in range(1, NUM_REPORTS + 1):
        tune.report({"epoch": epoch, "val_accuracy": 0.5})


def report_only(config: dict) -> None:
    """The same for our driver: reports that look like a real trial's."""
    _report(0.0)


def sleep_and_report(epoch_s: float, num_at_once: int, folder: Path) -> Callable[[dict[str, Any]], None]:
    """A trial for our driver whose epochs take `epoch_s` and no CPU time, as those of a trial on a GPU.

    No trial begins before `num_at_once` have started, so that no process starts while the driver is measured.

    Args:
        folder: on this machine; it gets one file per trial.
    """

    def trial(config: dict[str, Any]) -> None:
        (folder / config["trial_id"]).touch()
        while len(os.listdir(folder)) < num_at_once:
            time.sleep(0.2)
        _report(epoch_s)

    return trial


def _report(epoch_s: float) -> None:
    for epoch in range(1, NUM_REPORTS + 1):
        time.sleep(epoch_s)
        metrics = EpochMetrics(epoch=epoch, train_accuracy=0.5, val_accuracy=0.5, **INVENTED_METRICS)
        status = TrialStatus.COMPLETED if epoch == NUM_REPORTS else None
        tune.report({REPORT_KEY: TrialReport(metrics, status=status), "done": status is not None})


def time_plain(num_trials: int, tuned: bool) -> float:
    """Seconds that tune.Tuner takes for `num_trials` trials that only report, on the connected cluster.

    Args:
        tuned: loggers off, actors reused, snapshots rare; otherwise Ray's defaults.
    """
    folder = tempfile.mkdtemp(prefix="flexres_tune_bench_")
    try:
        with mock.patch.dict(os.environ):
            for name in TUNED:
                os.environ.pop(name, None)
            os.environ.update(TUNED if tuned else {})
            tuner = tune.Tuner(
                tune.with_resources(no_op, {"cpu": 1}),
                param_space={"index": tune.grid_search(list(range(num_trials)))},
                tune_config=tune.TuneConfig(reuse_actors=tuned),
                run_config=tune.RunConfig(name="plain", storage_path=folder, verbose=0),
            )
            started = time.perf_counter()
            tuner.fit()
            return time.perf_counter() - started
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_experiment(folder: Path) -> int:
    """Number of rows of an experiment, read as Ray does: every trial's Result.metrics_dataframe, concatenated."""
    import pandas
    from ray.tune import Result

    frames = [Result.from_path(str(trial)).metrics_dataframe for trial in sorted(folder.iterdir())]
    return len(pandas.concat(frames))
