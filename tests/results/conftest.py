"""Rows to write: a sweep's records made by hand, no training."""

from datetime import UTC, datetime

import pytest

from flexres_tune.records import Decision, EpochRecord, TrialRecord, Versions
from flexres_tune.results.paths import SweepPaths
from flexres_tune.spec import TrialConfig


@pytest.fixture
def paths(tmp_path):
    return SweepPaths(tmp_path / "results", "demo")


@pytest.fixture
def make_config():
    def make(lr=0.1, seed=0, **values):
        return TrialConfig.model_validate({"model": "tiny", "dataset": "digits", "lr": lr, "seed": seed} | values)

    return make


@pytest.fixture
def make_trial():
    def make(config, status="completed", best=0.9, sweep="demo", **values):
        ended_well = status == "completed"
        row = {
            "sweep": sweep,
            "trial_id": config.trial_id,
            "config_id": config.config_id,
            "seed": config.seed,
            "stage": "screen",
            "profile": "laptop",
            "status": status,
            "error": None,
            "attempt": 1,
            "num_parameters": 24_794,
            "best_val_accuracy": best,
            "best_epoch": 2,
            "last_val_accuracy": None if best is None else best - 0.01,
            "test_accuracy": best - 0.02 if ended_well else None,
            "epochs_run": config.epochs if ended_well else 1,
            "train_seconds": 10.0,
            "images_per_second": 1000.0,
            "peak_memory_bytes": 2**20,
            "device": "cpu",
            "precision_used": "fp32",
            "compile_used": False,
            "execution": "fp32",
            "hostname": "here",
            "node_ip": "127.0.0.1",
            "started_at": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
            "finished_at": datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC),
            "versions": Versions("0.1.0", "2.11", "2.60", "3.11"),
            "git_commit": "0123abc",
        }
        return TrialRecord(**(row | values))

    return make


@pytest.fixture
def make_epoch():
    def make(trial_id, epoch, attempt=1, val_accuracy=0.5, sweep="demo"):
        return EpochRecord(epoch, 1.5, 0.4, 1.4, val_accuracy, 0.1, 2.5, 1000.0, None, sweep, trial_id, attempt)

    return make


@pytest.fixture
def make_decision():
    def make(trial_id, epoch=1, action="stop", sweep="demo"):
        return Decision(trial_id, epoch, 0, 0.3, 0.4, action, "epochs=20", sweep)

    return make
