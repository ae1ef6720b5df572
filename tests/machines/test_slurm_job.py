"""cluster/slurm.sh for real, on one node, with stand-ins for Slurm's commands: its time is up, and it resumes.

In a new process namespace, because Ray's symmetric-run ends with `ray stop`, which stops every Ray that it can see.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from helpers.driver_process import command_line
from helpers.factories import make_sweep_yaml

from flexres_tune.results import open_results

ROOT = Path(__file__).parents[2]
NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
STAND_INS = {
    "srun": '#!/bin/bash\nwhile [[ $1 == --* ]]; do shift; done\nexec "$@"\n',
    "scontrol": '#!/bin/bash\ncase $1 in show) echo "$3" ;; requeue) echo "$2" >>"$REQUEUED" ;; esac\n',
}
SWEEP = make_sweep_yaml(
    name="queue", base={"epochs": 60, "batch_size": 32}, seeds=list(range(4)), parameters={"lr": {"values": [0.05]}}
)


def why_not():
    if os.geteuid() != 0:
        return "process namespaces need root"
    probe = subprocess.run([*NAMESPACE, "true"], capture_output=True, text=True)
    return f"this machine allows no namespaces: {probe.stderr.strip()}" if probe.returncode else None


pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(why_not()), reason=str(why_not()))]


class Job:
    """One start of the job. Signals go to the processes that Slurm sends them to."""

    def __init__(self, folder: Path):
        self.output = (folder / "slurm.out").open("ab")  # --open-mode=append
        # process 1 of the namespace only waits: signals without a handler do not reach it
        command = [*NAMESPACE, "bash", "-c", 'bash "$@" & wait $!', "slurmstepd", "cluster/slurm.sh", "queue.yaml"]
        environment = {
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(folder),
            "TMPDIR": str(folder),
            "RAY_TMPDIR": os.environ["RAY_TMPDIR"],  # short: Ray's sockets have 107 characters
            "XDG_CACHE_HOME": os.environ["XDG_CACHE_HOME"],
            "REQUEUED": str(folder / "requeued"),
            "SLURM_SUBMIT_DIR": str(folder),
            "SLURM_JOB_ID": "4711",
            "SLURM_JOB_NODELIST": "here",
            "SLURM_JOB_NUM_NODES": "1",
            "SLURM_CPUS_ON_NODE": "2",
        }
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stdout=self.output, stderr=self.output)

    def processes(self):
        """All processes of the job except process 1 of the namespace, which is not part of it; the script is first."""
        return psutil.Process(self.process.pid).children(recursive=True)[1:]

    def signal_the_script(self, number):
        """As --signal=B:USR1@120 does."""
        script = next(process for process in self.processes() if "cluster/slurm.sh" in command_line(process))
        script.send_signal(number)

    def end(self):
        """As a requeued job is ended: SIGTERM to all of it, and SIGKILL half a minute later (KillWait)."""
        for number, wait_s in ((signal.SIGTERM, 30), (signal.SIGKILL, 30)):
            for process in self.processes():
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(number)
            try:
                return self.process.wait(wait_s)
            except subprocess.TimeoutExpired:
                continue
        raise AssertionError("the job does not end")

    def clean_up(self):
        self.process.kill()  # --kill-child also kills the namespace
        self.process.wait()
        self.output.close()


@pytest.fixture
def folder(tmp_path):
    """A checkout with an environment, the sweep, a token and Slurm's commands."""
    for name in ("flexres_tune", "cluster"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / ".venv").symlink_to(sys.prefix)
    (tmp_path / "queue.yaml").write_text(SWEEP)
    (tmp_path / "bin").mkdir()
    for name, text in STAND_INS.items():
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    environment = os.environ | {"HOME": str(tmp_path), "RAY_AUTH_MODE": "token"}
    subprocess.run(
        [tmp_path / ".venv/bin/ray", "get-auth-token", "--generate"], env=environment, check=True, capture_output=True
    )
    return tmp_path


@pytest.fixture
def start(folder):
    jobs = []

    def start_job():
        jobs.append(Job(folder))
        return jobs[-1]

    yield start_job
    for job in jobs:
        job.clean_up()


def wait_for(condition, job, folder, timeout_s=180):
    end = time.monotonic() + timeout_s
    while not condition():
        text = (folder / "slurm.out").read_text()
        assert job.process.poll() is None, f"the job ended with {job.process.returncode}: {text}"
        assert time.monotonic() < end, f"nothing after {timeout_s} s: {text}"
        time.sleep(0.2)


def epochs(folder):
    """(trial_id, epoch) -> attempt."""
    rows = open_results(folder / "results").epochs("queue").to_pylist()
    assert len({(row["trial_id"], row["epoch"]) for row in rows}) == len(rows), "each epoch once"
    return {(row["trial_id"], row["epoch"]): row["attempt"] for row in rows}


def is_under_way(folder):
    tables = folder / "results" / "queue" / "epochs"
    return tables.is_dir() and any(tables.glob("part-*")) and len(epochs(folder)) >= 40


def test_job_whose_time_is_up_is_requeued_and_computes_no_epoch_again(start, folder):
    job = start()
    wait_for(lambda: is_under_way(folder), job, folder)
    job.signal_the_script(signal.SIGUSR1)
    wait_for(lambda: (folder / "requeued").exists(), job, folder)
    job.end()
    assert (folder / "requeued").read_text() == "4711\n"
    before = epochs(folder)
    rows = {row["trial_id"]: row for row in open_results(folder / "results").trials("queue").to_pylist()}
    assert "interrupted" in {row["status"] for row in rows.values()}
    assert 0 < len(before) < 240

    again = start()
    assert again.process.wait(timeout=400) == 0, (folder / "slurm.out").read_text()
    after = epochs(folder)
    assert len(after) == 240
    assert {key: after[key] for key in before} == before, "no epoch was computed again"
    for row in open_results(folder / "results").trials("queue").to_pylist():
        assert row["status"] == "completed"
        if rows.get(row["trial_id"], row)["status"] == "completed":
            assert row["finished_at"] == rows.get(row["trial_id"], row)["finished_at"]
