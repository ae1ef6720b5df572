"""Fixtures that several test modules share."""

import dataclasses
import os
import signal
import tempfile
from datetime import UTC, datetime

import pytest

from flexres_tune.records import TrialRecord, Versions

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
    from object_storage import Bucket

    bucket = Bucket(tmp_path)
    monkeypatch.setattr("flexres_tune.places.remote.connect", lambda kind, name, query: bucket)
    return bucket
