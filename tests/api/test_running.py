"""run_sweep: the checks of the command, as exceptions; the sweep that it returns; interruption and a second run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.factories import make_sweep

import flexres_tune
from flexres_tune.api.running import caller_of, parse_options
from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.errors import FlexResError, SpecError
from flexres_tune.records import TrialStatus
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import expand_trials

ROOT = Path(__file__).parents[2]


def values(**changes):
    """A sweep of two trials, as a mapping."""
    return make_sweep(name="demo", parameters={"lr": {"values": [0.05, 0.1]}}, **changes).resolved()


def test_sweep_of_python_has_the_checks_of_a_file_with_keys_for_lines(tmp_path):
    wrong = {"name": "demo", "base": {"model": "tyni"}, "parameters": {"lr": {"values": [-1.0]}}, "seed": [1]}
    with pytest.raises(SpecError) as caught:
        flexres_tune.run_sweep(wrong, storage=tmp_path)
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["seed", "base.model", "parameters.lr.values[0]"]
    assert "did you mean seeds" in lines[0]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["mapping", "spec"])
def test_sweep_with_every_trial_in_the_tables_is_returned_without_ray(tmp_path, make_trial, paths, source):
    sweep = values() if source == "mapping" else make_sweep(**values())
    with SweepWriter(paths) as writer:
        for trial in expand_trials(make_sweep(**values()), describe_dataset):
            writer.add_trial(make_trial(trial.config, best=0.9), trial.config)
    found = flexres_tune.run_sweep(sweep, storage=paths.root, quiet=True)
    assert found.name == "demo" and found.trials().num_rows == 2
    assert "nothing" not in repr(found)


def test_wrong_options_are_exceptions_that_name_what_must_hold():
    with pytest.raises(TypeError, match="no option 'max_concurent'; did you mean max_concurrent"):
        parse_options("results", {"max_concurent": 2})
    with pytest.raises(FlexResError) as caught:
        parse_options("results", {"stage": "all of them", "max_concurrent": 0, "loggers": ["paper"]})
    assert str(caught.value).splitlines() == [
        "stage: must be all, screen or confirm, but got 'all of them'",
        "max_concurrent: must be a whole number of at least 1, or None, but got 0",
        "loggers: must be a list of tensorboard, wandb and mlflow, but got ['paper']",
    ]
    with pytest.raises(FlexResError, match="each must be one of failed, out_of_memory, diverged"):
        parse_options("results", {"retry": ["completed"]})


def test_options_are_those_of_the_command():
    options = parse_options(
        "results", {"overrides": {"base.epochs": 2, "seeds": [0, 1]}, "retry": ["failed"], "max_concurrent": 3}
    )
    assert options.overrides == ("base.epochs=2", "seeds=[0, 1]")
    assert options.retry == (TrialStatus.FAILED,)
    assert (options.max_concurrent, options.profile, options.reuse) == (3, "auto", True)


SCRIPT = """
import os, signal, sys, threading, time
from pathlib import Path
sys.path.insert(0, os.environ["ROOT"])  # as a notebook does: the processes of trials do not inherit it
import flexres_tune

def interrupt_when_a_trial_has_epochs():
    while True:
        time.sleep(0.2)
        if any(Path("results/demo/epochs").glob("*.parquet")):
            return os.kill(os.getpid(), signal.SIGINT)

base = {"model": "tiny", "dataset": "digits", "epochs": 300}
sweep = {"name": "demo", "base": base, "parameters": {"lr": {"values": [0.05]}}}
threading.Thread(target=interrupt_when_a_trial_has_epochs, daemon=True).start()
try:
    flexres_tune.run_sweep(sweep, max_concurrent=1)
except KeyboardInterrupt as error:
    print("raised", error, flush=True)
[row] = flexres_tune.open_results()["demo"].trials().to_pylist()
print(row["status"], row["epochs_run"] < 300, flush=True)
sweep["base"]["epochs"] = 1
found = flexres_tune.run_sweep(sweep, max_concurrent=1)
print(sorted(found.trials()["status"].to_pylist()), signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


@pytest.mark.slow
def test_interrupted_sweep_saves_and_raises_and_the_process_runs_another(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        env=os.environ | {"ROOT": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "raised interrupted; to resume: flexres_tune.run_sweep(sweep, storage='results', max_concurrent=1)" in lines
    assert "stopping: saving 1 trial ..." in lines
    assert "interrupted True" in lines
    assert lines[-1] == "['completed', 'interrupted'] True"


def test_messages_name_the_call_that_runs_the_sweep_again():
    caller = caller_of(Path("sweeps/optim.yaml"), "results", {"profile": "none"})
    assert caller.again == "flexres_tune.run_sweep('sweeps/optim.yaml', storage='results', profile='none')"
    assert caller.retry.endswith("profile='none', retry=['failed'])")
    assert caller_of(values(), "results", {}).again == "flexres_tune.run_sweep(sweep, storage='results')"
