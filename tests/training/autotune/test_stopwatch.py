import math
import os
import subprocess
import sys
from contextlib import contextmanager, nullcontext

import pytest
import torch

from flexres_tune.datasets import describe_dataset
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training.autotune.stopwatch import time_steps
from flexres_tune.training.execution import Execution
from flexres_tune.training.graph import CaptureError

CPU = torch.device("cpu")
CONFIG = TrialConfig(model="tiny", dataset="digits", batch_size=16)


def test_larger_batch_takes_longer():
    shape = describe_dataset("digits")
    _, small = time_steps(CONFIG, shape, Execution(CPU, "fp32"), budget_s=0.2)
    _, large = time_steps(CONFIG.model_copy(update={"batch_size": 1024}), shape, Execution(CPU, "fp32"), budget_s=0.2)
    assert 0 < small < large


@contextmanager
def others_on_this_core(num_others):
    """This thread and as many busy processes share one core."""
    mine, core = os.sched_getaffinity(0), min(os.sched_getaffinity(0))
    others = []
    os.sched_setaffinity(0, {core})
    try:
        others += [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(num_others)]
        yield
    finally:
        os.sched_setaffinity(0, mine)
        for other in others:
            other.kill()
            other.wait()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no process to a core")
def test_what_else_the_machine_does_is_not_measured():
    config, shape = CONFIG.model_copy(update={"batch_size": 256}), describe_dataset("digits")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        _, alone = time_steps(config, shape, Execution(CPU, "fp32"), budget_s=0.5)
        with others_on_this_core(7):
            _, beside = time_steps(config, shape, Execution(CPU, "fp32"), budget_s=0.5)
    finally:
        torch.set_num_threads(threads)
    assert beside < 3 * alone


def test_measuring_leaves_no_trace_in_torchs_generators():
    torch.manual_seed(7)
    before = torch.get_rng_state()
    time_steps(CONFIG, describe_dataset("digits"), Execution(CPU, "fp32"), budget_s=0.01)
    assert torch.equal(torch.get_rng_state(), before)


def test_way_that_the_device_refuses_is_infinitely_slow(monkeypatch, caplog):
    def refuse(*args):
        raise RuntimeError("no such kernel\nmore")

    monkeypatch.setattr("flexres_tune.training.step.train_step", refuse)
    assert time_steps(CONFIG, describe_dataset("digits"), Execution(CPU, "bf16")) == (math.inf, math.inf)
    assert "bf16 channels-last: not used: no such kernel" in caplog.text


def test_memory_that_is_used_up_is_no_speed(monkeypatch):
    def fail(*args):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("flexres_tune.training.step.train_step", fail)
    assert time_steps(CONFIG, describe_dataset("digits"), Execution(CPU, "bf16")) is None


def test_graph_that_cannot_be_captured_now_is_no_speed(monkeypatch):
    class Recorder:
        def eager(self):
            return nullcontext()

        def record(self, function):
            raise CaptureError("another thread")

    monkeypatch.setattr("flexres_tune.training.step.CudaRecorder", lambda device, generators: Recorder())
    assert time_steps(CONFIG, describe_dataset("digits"), Execution(CPU, "fp32", graph="step")) is None


def test_broken_device_is_no_speed_either_but_ends_the_trial(monkeypatch):
    def fail(*args):
        raise torch.AcceleratorError("CUDA error: device-side assert triggered", 710)

    monkeypatch.setattr("flexres_tune.training.step.train_step", fail)
    with pytest.raises(torch.AcceleratorError):
        time_steps(CONFIG, describe_dataset("digits"), Execution(CPU, "bf16"))
