"""`python -m flexres_tune.bench` prints what it measured; how fast it is, is not asserted."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def bench(*args):
    command = [sys.executable, "-m", "flexres_tune.bench", *args]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=600)


def figures(*args):
    done = bench(*args, "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert "torch" in result["machine"]
    return {figure["name"]: figure["median"] for figure in result["figures"]}


def test_unknown_model_is_named():
    done = bench("train", "--model", "resnet22")
    assert done.returncode == 2
    assert done.stderr.startswith("--model: must be a preset's name") and done.stderr.count("\n") == 1
    assert "did you mean resnet22_2" in done.stderr


@pytest.mark.slow
def test_tables():
    found = figures("tables", "--trials", "50", "--table-epochs", "20", "--repeats", "1")
    assert found["query leaderboard, whole command"] > 0
    assert 0 < found["files at most"] < 1000 and 0 < found["driver's memory at most"] < 2000
    assert found["Ray / ours"] > 1


@pytest.mark.slow
def test_sweep():
    found = figures("sweep", "--trials", "6", "--growth", "2", "--repeats", "1")
    assert found["ours, 6 trials"] > 0
    assert found["time for 2 times the trials"] > 0
    assert -1 < found["a pause and a continuation, small"] < 60


@pytest.mark.slow
def test_scale():
    found = figures("scale", "--slots", "3", "--trials", "6", "--growth", "2", "--epoch-seconds", "0.05")
    assert found["first 6: driver's CPU per trial"] > 0
    assert found["last 6 of 12: reports"] > 0
    assert found["driver's memory grows by"] < 10_000, "kB"


@pytest.mark.slow
def test_train():
    found = figures("train", "--model", "small", "--batch-size", "32", "--repeats", "1")
    assert found["fit"] > 0
    assert 0 < found["achieved / peak"] < 200
