"""What `auto` of a sweep file stands for: measured in a worker, said once, and as in the sweep's earlier trials."""

import contextlib

import pytest
from helpers.factories import make_config, make_planned, make_sweep

from flexres_tune.cluster.resources import ClusterResources, NodeResources
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.run.auto_values import AutoValues
from flexres_tune.training.device import device_name, pick_device

CLUSTER = ClusterResources((NodeResources(0, 2),), num_alive=1, is_local=True)
TRIALS = [make_planned(make_config(epochs=1))]


@pytest.fixture
def find(paths, monkeypatch, tmp_path):
    """AutoValues of a sweep, the lines that it says, and the steps that it names; a worker is this process."""
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))
    monkeypatch.setattr("flexres_tune.sweep.precision.MIN_MEASURED_FLOPS", 0)  # measure a sweep as short as this, too
    monkeypatch.setattr("flexres_tune.cluster.nodes.call_with_resources", lambda cpu, gpu, call, *args: call(*args))
    lines, steps = [], []

    def step(name):
        steps.append(name)
        return contextlib.nullcontext()

    return AutoValues(make_sweep(name="demo"), paths, None, lines.append, step), lines, steps


def test_precision_is_measured_and_said_with_its_reason(find):
    values, lines, steps = find
    [(device, precision)] = values.precisions(TRIALS, CLUSTER).items()
    assert device == device_name(pick_device()) and steps == ["measuring which precision is faster"]
    [line] = lines
    assert line.startswith(f"demo: precision {precision} on {device} (")


def test_precision_of_earlier_trials_stays_and_nothing_is_measured(find, paths):
    values, lines, steps = find
    write_plan(paths, make_plan(values.spec, [], "the command", {"a CPU": "bf16"}))
    assert values.precisions(TRIALS, CLUSTER) == {"a CPU": "bf16"} and steps == []
    assert lines == ["demo: precision bf16 on a CPU, as in its earlier trials"]


def test_resources_that_the_file_names_are_those_of_the_trials(find):
    values, _, steps = find
    found, reason = values.resources(TRIALS, CLUSTER, {})
    assert (found.cpu, found.gpu, found.num_concurrent) == (1, 0, 2) and reason == found.reason
    assert steps == ["measuring how many trials share a device best"]
