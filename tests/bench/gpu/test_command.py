"""bench gpu: one failure hides no other check; what a CPU can run; the list of what was not run."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from flexres_tune.bench.gpu.command import CheckProcess, Outcome, write_report

ROOT = Path(__file__).parents[3]


def serve(dataset, connection):
    """Check 1 passes, 2 fails, 3 ends its process, 4 hangs."""
    while (number := connection.recv()) is not None:
        if number == 3:
            os._exit(7)
        if number == 4:
            time.sleep(60)
        connection.send((number == 1, dataset))


def test_failure_takes_no_other_check_with_it():
    with CheckProcess("digits", serve) as process:
        outcomes = [process.run(number, "check", 1.0 if number == 4 else 60.0) for number in (1, 2, 3, 4, 1)]
    assert [outcome.status for outcome in outcomes] == ["pass", "fail", "fail", "fail", "pass"]
    assert [outcome.figure for outcome in outcomes] == [
        *("digits", "digits", "its process died with status 7", "took longer than 1 s", "digits")
    ]


def test_report_lists_the_checks_by_number(tmp_path):
    write_report(tmp_path / "x.json", "a machine", [Outcome(2, "b", "pass", "1 s"), Outcome(1, "a", "fail", "2 s")])
    report = json.loads((tmp_path / "x.json").read_text())
    assert report["machine"] == "a machine"
    assert [check["number"] for check in report["checks"]] == [1, 2]


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")
def test_command_runs_what_a_cpu_can_and_lists_the_rest(tmp_path):
    report = tmp_path / "checks.json"
    command = [sys.executable, "-m", "flexres_tune.bench", "gpu", "--checks-file", str(report)]
    numbers = [argument for number in (2, 7, 16, 20) for argument in ("--check", str(number))]
    done = subprocess.run([*command, *numbers], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no GPU here" in done.stdout and "3 passed, 0 failed, 1 not run" in done.stdout
    statuses = {check["number"]: check["status"] for check in json.loads(report.read_text())["checks"]}
    assert statuses == {2: "not run", 7: "pass", 16: "pass", 20: "pass"}
