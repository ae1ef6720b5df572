"""cluster/slurm.sh: valid shell code, and the options of Slurm that its header promises."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "cluster" / "slurm.sh"


def test_bash_parses_it():
    assert subprocess.run(["bash", "-n", SCRIPT], capture_output=True, text=True).stderr == ""


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck, which .ci/run installs, is missing")
def test_shellcheck_finds_nothing():
    done = subprocess.run(["shellcheck", SCRIPT], capture_output=True, text=True)
    assert done.stdout == ""


def test_job_requeues_itself_before_its_time_limit():
    text = SCRIPT.read_text()
    for line in ("#SBATCH --requeue", "#SBATCH --signal=B:USR1@120", "#SBATCH --open-mode=append"):
        assert line in text.splitlines()
    assert "trap requeue_job USR1" in text.splitlines()


def test_error_outside_slurm_says_how_to_start_it():
    done = subprocess.run(["bash", SCRIPT], capture_output=True, text=True, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode != 0
    assert "start this file with sbatch" in done.stderr
