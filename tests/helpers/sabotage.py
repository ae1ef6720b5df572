"""Faults in the trials of a sweep that runs as a process, through FLEXRES_TUNE_TRIAL_HOOK (sweep/worker.py).

A test chooses faults by learning rate: `Driver(..., env=faults(tmp_path, slow=[0.1], raises=[0.2]))`.
"""

import ctypes
import json
import os
import resource
import signal
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
ALL = "all"  # in place of learning rates: every trial


def faults(notes: Path, **rates: list[float] | str) -> dict[str, str]:
    """The environment of a driver whose trials have these faults.

    Args:
        notes: folder in which every trial that starts creates a file, named as its learning rate.
        rates: by name of a function below, learning rates of the trials that it replaces.
    """
    notes.mkdir(exist_ok=True)
    return {
        "FLEXRES_TUNE_TRIAL_HOOK": "helpers.sabotage:apply",
        "PYTHONPATH": f"{ROOT / 'tests'}{os.pathsep}{ROOT}",
        "SABOTAGE": json.dumps({"notes": str(notes), "rates": rates}),
    }


def apply(job, reports):
    """The hook: the trial's reports, with its fault if it has one."""
    settings, lr = json.loads(os.environ["SABOTAGE"]), job.config["lr"]
    (Path(settings["notes"]) / f"{lr:g}").touch()
    for name, rates in settings["rates"].items():
        if rates == ALL or lr in rates:
            reports = FAULTS[name](reports)
    yield from reports


def slow(reports):
    """An epoch takes so long that a checkpoint is written before the last one, 10 s after the first."""
    for report in reports:
        yield report
        time.sleep(0.3)


def waits_for_start_signal(reports):
    """No trial ends before the file `go` is in the folder of notes."""
    folder = Path(json.loads(os.environ["SABOTAGE"])["notes"])
    for report in reports:
        yield report
        while not (folder / "go").exists():
            time.sleep(0.1)


def raises(reports):
    raise RuntimeError("sabotage: this trial raises")


def runs_out_of_memory(reports):
    raise MemoryError("sabotage: no memory")


def exceeds_its_limit(reports):
    """An allocation by torch fails, as under `ulimit -v`. The next trial in this process has no limit."""
    import torch

    limits = resource.getrlimit(resource.RLIMIT_AS)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 10_000_000, limits[1]))
    try:
        torch.empty(2**28)
        yield from reports
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def hangs(reports):
    """In C, with the interpreter's lock held: no Python can run in this process."""
    ctypes.PyDLL(None).sleep(1000)
    return reports


def dies_between_trials(reports):
    """The process dies after the trial's last report, when Tune hands it the next trial."""
    try:
        yield from reports
    finally:
        os.kill(os.getpid(), signal.SIGKILL)


def ends_late(reports):
    """The thread of the trial outlives its last report by more than Tune waits for it before the next trial."""
    try:
        yield from reports
    finally:
        time.sleep(2 * float(os.environ["TUNE_FUNCTION_THREAD_TIMEOUT_S"]))


FAULTS = {
    function.__name__: function
    for function in (
        slow,
        waits_for_start_signal,
        raises,
        runs_out_of_memory,
        exceeds_its_limit,
        hangs,
        dies_between_trials,
        ends_late,
    )
}
