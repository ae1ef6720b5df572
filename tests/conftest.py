"""Fixtures that several test modules share."""

import os
import shutil
import signal
import subprocess
import tempfile

import pytest
from helpers import factories

from flexres_tune.results.paths import SweepPaths

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

# A shell without job control starts background processes with Ctrl-C ignored, and the processes that a test starts and
# interrupts would inherit that.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure(config):
    """Nothing of this run is left in the temporary folder."""
    shutil.rmtree(_SCRATCH, ignore_errors=True)


def pytest_addoption(parser):
    parser.addoption(
        "--regen", action="store_true", help="rewrite golden files with what the code prints now, instead of comparing"
    )


@pytest.fixture(scope="session", autouse=True)
def fsync_returns_at_once():
    """Writing in this process does not wait for the disk: 50 ms per file if it is busy, which only a power cut could tell.

    Processes that tests start do wait.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture
def regen(request):
    """Whether golden files are rewritten."""
    return request.config.getoption("--regen")


@pytest.fixture
def bucket(tmp_path, monkeypatch):
    """Every address of object storage leads to this bucket."""
    from helpers.object_storage import Bucket

    bucket = Bucket(tmp_path)
    monkeypatch.setattr("flexres_tune.storage.object_store.open_filesystem", lambda kind, name, query: bucket)
    return bucket


@pytest.fixture
def paths(tmp_path):
    return SweepPaths(tmp_path / "results", "demo")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 6 MB, mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("no file system can be mounted here: root only")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def make_config():
    return factories.make_config


@pytest.fixture
def make_trial():
    return factories.make_trial


@pytest.fixture
def make_epoch():
    return factories.make_epoch


@pytest.fixture
def make_decision():
    return factories.make_decision
