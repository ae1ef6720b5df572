"""One precision per sweep and kind of device, whatever is measured; what a resumed sweep and a resumed trial use."""

import math

import pytest
import torch
from helpers.factories import make_config, make_planned, make_sweep, make_trial
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flexres_tune.datasets import describe_dataset, load_dataset
from flexres_tune.errors import FlexResError
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import make_plan, read_plan, write_plan
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import expand_trials
from flexres_tune.sweep import precision as rules
from flexres_tune.sweep.precision import (
    ANY_DEVICE,
    Measurement,
    decide_precisions,
    expected_precision,
    heaviest_work,
    measure_precision,
    recorded_precisions,
)
from flexres_tune.sweep.worker import TrialJob, run_job
from flexres_tune.training import Checkpointer, Execution, choose_execution, fit
from flexres_tune.training.device import device_name
from flexres_tune.training.execution import precision_in_sweep

CPU = torch.device("cpu")
OPTIMIZERS = ["sgd", "nesterov", "adam", "adamw", "adadelta", "adagrad"]
LONG = {"base": {"dataset": "digits", "model": "tiny", "epochs": 20_000}, "order_seed": 1}


@pytest.fixture
def has_bf16(monkeypatch):
    monkeypatch.setattr("flexres_tune.training.execution.has_fast_bf16", lambda device: True)


def sweep_over_optimizers(**changes):
    spec = make_sweep(**LONG, parameters={"optimizer": {"values": OPTIMIZERS}, **changes})
    return spec, expand_trials(spec, describe_dataset)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_all_trials_have_one_precision_whatever_the_measured_speeds_are(data, has_bf16, monkeypatch, tmp_path_factory):
    def time_steps(config, shape, option):  # as noisy as can be: another number at every call
        return 0.0, data.draw(st.one_of(st.floats(1e-6, 10), st.just(math.inf)))

    monkeypatch.setattr("flexres_tune.training.autotune.choose.time_steps", time_steps)

    def use_another_machine():  # no measurement of an earlier one is stored there
        monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path_factory.mktemp("data")))

    spec, trials = sweep_over_optimizers(batch_size={"values": [64, 128]}, epochs={"values": [1, 20_000]})
    use_another_machine()
    decided, _ = decide_precisions(spec, trials, lambda config: measure_precision(config.to_dict(), 1, ".", 0))
    used = set()
    for trial in data.draw(st.lists(st.sampled_from(trials), min_size=8, max_size=8, unique_by=id)):
        use_another_machine()
        used.add(choose_execution(trial.config, CPU, precision_in_sweep(decided, CPU)).precision)
    assert used == set(decided.values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_optimizer_trains_in_the_sweeps_precision_and_its_row_says_so(precision):
    for optimizer in OPTIMIZERS:
        config = make_config(optimizer=optimizer, lr=0.01, epochs=1, num_train_images=64)
        job = TrialJob(config.trial_id, config.to_dict(), None, 10.0, 1, precisions={device_name(CPU): precision})
        (report,) = run_job(job)
        assert report.facts.precision_used == precision, report.error


def test_explicit_precision_is_used_and_decides_nothing():
    config = make_config(precision="fp32", epochs=1, num_train_images=64)
    job = TrialJob(config.trial_id, config.to_dict(), None, 10.0, 1, precisions={device_name(CPU): "bf16"})
    (report,) = run_job(job)
    assert report.facts.precision_used == "fp32"
    spec, trials = sweep_over_optimizers(precision={"values": ["fp32", "bf16"]})
    assert decide_precisions(spec, trials, None) == ({}, "")
    assert expected_precision(spec, trials, {}) == "bf16, fp32, as in the sweep file"


@pytest.mark.parametrize("first", ["fp32", "bf16"])
def test_resumed_trial_keeps_the_precision_of_its_checkpoint(tmp_path, first):
    config = make_config(epochs=2, num_train_images=64)
    data = load_dataset("digits", CPU, 64)
    trial = fit(config, data, Execution(CPU, first), Checkpointer(tmp_path / "x.pt"))
    next(trial)
    trial.close()
    other = {"fp32": "bf16", "bf16": "fp32"}[first]
    checkpoint, decided = str(tmp_path / "x.pt"), {device_name(CPU): other}
    job = TrialJob(config.trial_id, config.to_dict(), checkpoint, 10.0, 1, precisions=decided)
    reports = list(run_job(job))
    assert [report.is_repeat for report in reports] == [True, False]
    assert {report.facts.precision_used for report in reports} == {first}


def test_other_kind_of_device_uses_the_first_decision_if_it_can(monkeypatch):
    monkeypatch.setattr("flexres_tune.training.execution.has_fast_bf16", lambda device: False)
    assert precision_in_sweep({"NVIDIA H100": "bf16"}, CPU) == "fp32"
    assert precision_in_sweep({"NVIDIA H100": "bf16", device_name(CPU): "bf16"}, CPU) == "bf16"
    monkeypatch.setattr("flexres_tune.training.execution.has_fast_bf16", lambda device: True)
    assert precision_in_sweep({"NVIDIA H100": "bf16"}, CPU) == "bf16"
    assert precision_in_sweep({ANY_DEVICE: "fp32"}, CPU) == "fp32"
    assert precision_in_sweep({}, CPU) is None


def test_precision_that_a_gpu_cannot_do_fails_the_trial_with_its_reason(monkeypatch):
    from flexres_tune.errors import DeviceError

    monkeypatch.setattr("flexres_tune.training.execution.has_fast_bf16", lambda device: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(DeviceError, match="precision bf16 needs a GPU .* Tesla T4 has none; use precision: fp32"):
        choose_execution(make_config(), torch.device("cuda", 0), "bf16")


def test_shape_with_most_work_is_measured_and_the_optimizer_has_no_part_in_it():
    spec, trials = sweep_over_optimizers(batch_size={"values": [64, 128]}, epochs={"values": [10, 20_000]})
    assert heaviest_work(spec, trials)[0].batch_size == 128, "of equal work, the largest batch"
    spec = make_sweep(base=LONG["base"], method="tpe", num_trials=50, parameters={"lr": {"min": 0.01, "max": 0.1}})
    config, flops = heaviest_work(spec, ())
    assert config.model.name == "tiny" and flops > 50 * 20_000 * 1e9, "a draw stands for all 50 trials"


def test_short_sweep_is_not_measured_and_a_failed_measurement_means_fp32():
    spec = make_sweep(parameters={"lr": {"values": [0.1]}})
    assert decide_precisions(spec, expand_trials(spec, describe_dataset), None) == (
        {ANY_DEVICE: "fp32"},
        "fp32 (the sweep is too short to measure bf16)",
    )

    def fail(config):
        raise FlexResError("out of memory")

    assert decide_precisions(*sweep_over_optimizers(), fail)[1] == "fp32 (bf16 could not be measured: out of memory)"


def test_decision_is_told_with_what_was_measured():
    found = Measurement("AMD EPYC", "bf16", {"fp32 channels-last": 1190.2, "bf16 channels-last": 1780.0})
    decided, text = decide_precisions(*sweep_over_optimizers(), lambda config: found)
    assert decided == {"AMD EPYC": "bf16"}
    assert text.startswith("bf16 on AMD EPYC (images/s measured in ")
    assert "fp32 channels-last: 1,190, bf16 channels-last: 1,780" in text


def write_rows(paths, *rows):
    with SweepWriter(paths) as writer:
        for seed, values in enumerate(rows):
            config = make_config(seed=seed, **values.pop("config", {}))
            writer.add_trial(make_trial(config, sweep=paths.sweep, **values), config)


def test_resumed_sweep_keeps_the_precision_of_its_plan_and_of_its_rows(tmp_path):
    paths = SweepPaths(tmp_path, "test")
    assert recorded_precisions(paths) == {}
    explicit = {"device": "CPU", "precision_used": "bf16", "config": {"precision": "bf16"}}
    mixed = [{"device": "CPU", "precision_used": precision} for precision in ("fp32", "bf16", "bf16", None)]
    write_rows(paths, *mixed, explicit, explicit | {"config": {"precision": "bf16"}})
    assert recorded_precisions(paths) == {"CPU": "bf16"}, "an older version has let trials choose: most of them count"
    spec = make_sweep()
    write_plan(paths, make_plan(spec, [make_planned()], "command", {"CPU": "fp32"}))
    write_rows(paths, *mixed, {"device": "GPU", "precision_used": "bf16"})
    assert recorded_precisions(paths) == {"CPU": "fp32", "GPU": "bf16"}, "the plan counts, then rows of other devices"
    paths.plan.write_text(paths.plan.read_text().replace('"precisions"', '"of_a_later_version"'))
    assert read_plan(paths).precisions == {}, "as in a plan that an older version wrote"
    paths.plan.write_text("{")
    assert recorded_precisions(paths) == {"CPU": "bf16", "GPU": "bf16"}


def test_dry_run_says_what_is_decided_or_will_be_measured(monkeypatch):
    spec, trials = sweep_over_optimizers()
    assert expected_precision(spec, trials, {}) == "auto: measured once before the first trial, for all trials"
    assert expected_precision(spec, trials, {"AMD EPYC": "bf16"}) == "bf16 on AMD EPYC, as in its earlier trials"
    monkeypatch.setattr(rules, "MIN_MEASURED_FLOPS", math.inf)
    assert expected_precision(spec, trials, {}) == "fp32 (the sweep is too short to measure bf16)"
