import math

import pytest
import torch

from flexres_tune.errors import DeviceError
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training import execution
from flexres_tune.training.autotune.choose import choose_execution, pick_fastest
from flexres_tune.training.autotune.speeds import Speeds
from flexres_tune.training.execution import Execution, list_options

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def config(**fields):
    return TrialConfig(**{"model": "tiny", "dataset": "digits", "batch_size": 100, **fields})


def pick(seconds, num_images=1_000_000, start=10.0, speeds=None, **fields):
    """The label picked, and what was measured, if each option's step takes these seconds."""
    measured = []

    def measure(option):
        measured.append(option.label)
        return start, seconds[option.label]

    options = list_options(config(**fields), CPU)
    best = pick_fastest(options, config(**fields), num_images, speeds or Speeds(), measure)
    return best.label, measured


def test_fastest_is_picked(bf16):
    bf16(True)
    seconds = {"fp32 channels-first": 3.0, "fp32 channels-last": 2.0, "bf16 channels-last": 1.0}
    assert pick(seconds, num_images=100)[0] == "bf16 channels-last"


def test_gain_within_the_noise_does_not_justify_a_less_exact_option(bf16):
    bf16(True)
    seconds = {"fp32 channels-first": 3.0, "fp32 channels-last": 1.05, "bf16 channels-last": 1.0}
    assert pick(seconds, num_images=100)[0] == "fp32 channels-last"


def test_compiling_is_not_tried_if_it_cannot_pay(bf16):
    bf16(False)
    seconds = {"fp32 channels-first": 2.0, "fp32 channels-last": 1.0, "fp32 channels-last compiled": 0.1}
    best, measured = pick(seconds, num_images=100 * 50)  # 50 s in all
    assert (best, "fp32 channels-last compiled" in measured) == ("fp32 channels-last", False)


def test_compiling_is_used_if_it_saves_more_than_it_costs(bf16):
    bf16(False)
    seconds = {"fp32 channels-first": 2.0, "fp32 channels-last": 1.0, "fp32 channels-last compiled": 0.8}
    assert pick(seconds, num_images=100 * 1000)[0] == "fp32 channels-last compiled"  # saves 200 s, costs 10
    assert pick(seconds, num_images=100 * 200, start=50.0)[0] == "fp32 channels-last"  # saves 40 s, costs 50


def test_option_that_fails_on_the_device_is_not_picked(bf16):
    bf16(True)
    seconds = {"fp32 channels-first": 3.0, "fp32 channels-last": 2.0, "bf16 channels-last": math.inf}
    assert pick(seconds, num_images=100)[0] == "fp32 channels-last"


def test_failure_that_may_pass_is_not_remembered(bf16):
    bf16(True)
    speeds, out_of_memory = Speeds(), []

    def measure(option):
        if option.precision == "bf16" and not out_of_memory:
            out_of_memory.append(option)
            return None
        return 0.0, {"fp32": 2.0, "bf16": 1.0}[option.precision]

    def pick():
        return pick_fastest(list_options(config(), CPU), config(), 100, speeds, measure).label

    assert pick() == "fp32 channels-first"
    assert "bf16 channels-last" not in speeds.step_seconds
    assert pick() == "bf16 channels-last"


def test_known_speeds_are_not_measured_again(bf16):
    bf16(False)
    speeds = Speeds({"fp32 channels-first": 2.0, "fp32 channels-last": 1.0})
    assert pick({}, num_images=100, speeds=speeds) == ("fp32 channels-last", [])


def test_trial_shorter_than_the_measurement_is_not_measured(monkeypatch):
    monkeypatch.setattr("flexres_tune.training.autotune.choose.time_steps", None)
    assert choose_execution(config(epochs=2), CPU) == Execution(CPU, "fp32")


def test_measured_once_per_machine_and_once_per_process(monkeypatch, tmp_path):
    calls = []

    def time_steps(config, shape, option):
        calls.append(option.label)
        return 0.0, 2.0 if option.channels_last else 1.0

    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))
    monkeypatch.setattr("flexres_tune.training.autotune.choose.time_steps", time_steps)
    long = config(epochs=1000, precision="fp32", compile="off")
    assert choose_execution(long, CPU).label == "fp32 channels-first"
    assert len(calls) == 2
    assert choose_execution(long.model_copy(update={"seed": 5, "lr": 0.5}), CPU).label == "fp32 channels-first"
    assert len(calls) == 2
    assert choose_execution(long.model_copy(update={"batch_size": 64}), CPU).label == "fp32 channels-first"
    assert len(calls) == 4, "another shape is measured separately"
    for file in (tmp_path / "speeds").iterdir():
        file.write_text("damaged")
    choose_execution(long, CPU)
    assert len(calls) == 4, "the process has the speeds too"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_explicit_settings_are_obeyed(bf16, precision):
    bf16(False)
    assert choose_execution(config(precision=precision, compile="off", epochs=1), CPU).precision == precision


def test_bf16_is_refused_on_a_gpu_without_it(bf16):
    bf16(False)
    with pytest.raises(
        DeviceError, match=r"bf16 needs a GPU .* but Tesla T4 has none; use precision: fp32, or a node whose"
    ):
        choose_execution(config(precision="bf16"), CUDA)


def test_compile_on_is_obeyed_or_refused_without_a_compiler(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(DeviceError, match=r"compile: on needs a C\+\+ compiler, but none of no-such-compiler"):
        choose_execution(config(compile="on"), CPU)
    assert not choose_execution(config(compile="off"), CPU).compile
    monkeypatch.setattr(execution.shutil, "which", lambda name: "/usr/bin/" + name)
    assert choose_execution(config(compile="on", precision="bf16"), CPU).compile
