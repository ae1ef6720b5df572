"""nvidia-smi's text, after its manual, and the rate of matrix products on this machine."""

import os

import pytest

from flexres_tune.cluster import gpu_health
from flexres_tune.cluster.gpu_health import GpuState, examine_gpus, measure_rates, parse_states

HEALTHY = "0, NVIDIA L4, 580.95.05, 0, 41, 0x0000000000000001\n"
OLD = "0, Tesla V100-SXM2-16GB, 450.80.02, 0, 35, 0x0000000000000000\n"
GAMING = "0, NVIDIA GeForce RTX 3090, 535.183.01, [N/A], 52, 0x0000000000000004\n"
HOT = "1, NVIDIA H100 80GB HBM3, 550.54.15, 2, 91, 0x0000000000000068\n"
SMI = """#!/bin/bash
case "$*" in
*clocks_event_reasons*) {newer} ;;
*) echo '{line}' ;;
esac
"""


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (HEALTHY, GpuState(0, "NVIDIA L4", "580.95.05", 0, 41)),
        (OLD, GpuState(0, "Tesla V100-SXM2-16GB", "450.80.02", 0, 35)),
        (GAMING, GpuState(0, "NVIDIA GeForce RTX 3090", "535.183.01", None, 52)),
        (
            HOT,
            GpuState(
                1,
                "NVIDIA H100 80GB HBM3",
                "550.54.15",
                2,
                91,
                ("hardware slowdown", "too hot (software)", "too hot (hardware)"),
            ),
        ),
    ],
)
def test_line_is_read(text, state):
    assert parse_states(text) == [state]


def test_several_gpus_and_none():
    assert [state.index for state in parse_states(HEALTHY + HOT)] == [0, 1]
    assert parse_states("") == []


@pytest.mark.parametrize("text", ["No devices were found\n", "0, NVIDIA L4\n", "x, a, b, 0, 1, 0x0\n"])
def test_other_text_is_an_error(text):
    with pytest.raises(ValueError):
        parse_states(text)


@pytest.fixture
def smi(tmp_path, monkeypatch):
    def install(newer, line=""):
        (tmp_path / "nvidia-smi").write_text(SMI.format(newer=newer, line=line))
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return install


def test_older_driver_is_asked_by_the_older_name(smi):
    smi("echo 'Field \"clocks_event_reasons.active\" is not a valid field to query.'; exit 2", OLD.strip())
    assert examine_gpus().states == tuple(parse_states(OLD))


def test_driver_that_does_not_answer_is_a_problem_of_the_node(smi):
    smi("echo 'Failed to initialize NVML: Driver/library version mismatch'; exit 18", "No devices were found")
    health = examine_gpus()
    assert health.states == ()
    assert "No devices were found" in health.problem


def test_machine_without_gpus_measures_its_cpu():
    (rate,) = measure_rates(0.2)
    assert rate.name == "CPU"
    assert 1e8 < rate.flops < 1e14


def test_device_that_never_answers_is_a_problem_of_the_node(tmp_path, monkeypatch):
    (tmp_path / "torch.py").write_text("import time; time.sleep(600)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(gpu_health, "START_TIMEOUT_S", 0.5)
    assert "torch did not answer within 1.14 s" in examine_gpus(measure_s=0.01).problem
