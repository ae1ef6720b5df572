"""Fixtures that several test modules share."""

import dataclasses
import os
import signal
import tempfile
from datetime import UTC, datetime

import pytest

from flexres_tune.records import Decision, EpochRecord, TrialRecord, Versions
from flexres_tune.results.paths import SweepPaths
from flexres_tune.spec import TrialConfig

# Set before any test imports ray: a session of its own, which leaves nothing in the user's home or /tmp/ray.
_SCRATCH = tempfile.mkdtemp(prefix="fx_")
os.environ.update(
    {
        "HOME": _SCRATCH,
        "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", os.path.expanduser("~/.cache")),
        "RAY_TMPDIR": _SCRATCH,
        "RAY_AUTH_MODE": "disabled",
    }
)

# A shell without job control starts what runs in its background deaf to Ctrl-C, and every process that a test starts
# and interrupts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption(
        "--regen", action="store_true", help="rewrite golden files with what the code prints now, instead of comparing"
    )


@pytest.fixture
def regen(request):
    """Whether golden files are rewritten."""
    return request.config.getoption("--regen")


@pytest.fixture
def make_record():
    """A TrialRecord of a TrialConfig, plausible where nothing else is asked."""

    def make(config, **changes):
        now = datetime(2026, 1, 1, tzinfo=UTC)
        values = {field.name: None for field in dataclasses.fields(TrialRecord)}
        values |= {
            "sweep": "test",
            "trial_id": config.trial_id,
            "config_id": config.config_id,
            "seed": config.seed,
            "stage": "screen",
            "profile": "none",
            "status": "completed",
            "attempt": 1,
            "num_parameters": 24_794,
            "epochs_run": config.epochs,
            "train_seconds": 1.0,
            "started_at": now,
            "finished_at": now,
            "versions": Versions("0.1.0", "2.11", "2.60", "3.11"),
        }
        return TrialRecord(**(values | changes))

    return make


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Every address of object storage leads to this bucket."""
    from helpers.object_storage import Bucket

    bucket = Bucket(tmp_path)
    monkeypatch.setattr("flexres_tune.storage.object_store.connect", lambda kind, name, query: bucket)
    return bucket


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
