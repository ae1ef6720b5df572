"""Checks of what was collected on nodes: each failure comes with advice."""

from dataclasses import replace

import pytest

from flexres_tune.cluster.gpu_health import DeviceRate, GpuHealth, GpuState
from flexres_tune.cluster.probe import NodeFacts
from flexres_tune.doctor.checks import GIB, NodeReport, run_checks

FACTS = NodeFacts(
    hostname="n1",
    python="3.12.3",
    torch="2.15.0",
    ray="2.60.0",
    code="0.1.0 (5e1c0f4a)",
    num_gpus_torch=1,
    torch_problem=None,
    memory_available=32 * GIB,
    shm_free=8 * GIB,
    disk_used_fraction=0.4,
    disk_free=100 * GIB,
)


def make_report(name="10.0.0.1", clock=(0.0, 0.01), sees_all_marks=True, num_gpus_ray=1, health=GpuHealth(), **changes):
    return NodeReport(name, replace(FACTS, **changes), num_gpus_ray, clock, sees_all_marks, health=health)


def failed_checks(*reports, storage=None):
    return [check for check in run_checks(reports, storage) if not check.passed]


def test_nodes_with_equal_results_share_a_line():
    checks = run_checks([make_report("a"), make_report("b", disk_free=50 * GIB)], "results")
    assert all(check.passed for check in checks)
    assert [check.name for check in checks] == [
        "Python",
        "Ray",
        "torch",
        "flexres_tune",
        "GPUs",
        "free memory",
        "free /dev/shm",
        "free disk",
        "storage",
        "clock",
    ]
    assert {check.where for check in checks} == {"a, b"}
    assert {check.name: check.found for check in checks}["free disk"] == "50.0 GiB or more"
    assert {check.name: check.found for check in checks}["free memory"] == "32.0 GiB"


@pytest.mark.parametrize(
    ("changes", "name", "found", "advice"),
    [
        ({"python": "3.11.7"}, "Python", "3.11.7", "most nodes have 3.12.3"),
        ({"ray": "2.59.0"}, "Ray", "2.59.0", "most nodes have 2.60.0"),
        ({"torch": None}, "torch", "missing", "pip install -r requirements.txt there"),
        ({"code": "0.1.0 (00000000)"}, "flexres_tune", "0.1.0 (00000000)", "most nodes have 0.1.0 (5e1c0f4a)"),
        ({"code": None}, "flexres_tune", "missing", "put the checkout there"),
        ({"num_gpus_torch": 0}, "GPUs", "1 (Ray), 0 (torch)", "nvidia-smi"),
        ({"num_gpus_torch": 2}, "GPUs", "1 (Ray), 2 (torch)", "--num-gpus"),
        ({"num_gpus_torch": None, "torch_problem": "ImportError: x"}, "GPUs", "ImportError: x", "torch must import"),
        ({"memory_available": GIB}, "free memory", "1.0 GiB", "free memory"),
        ({"shm_free": GIB // 16}, "free /dev/shm", "0.1 GiB", "--shm-size"),
        ({"disk_used_fraction": 0.97}, "free disk", "97% used", "--temp-dir"),
        ({"data_problems": {"cifar10": "DataError: no network"}}, "data cifar10", "no network", "FLEXRES_TUNE_DATA"),
        ({"storage_problem": "/r: Permission denied"}, "storage", "Permission denied", "mount it there"),
        ({"sees_all_marks": False}, "storage", "another folder", "NFS"),
        ({"clock": (-7.5, 0.01)}, "clock", "-7.5 s", "chronyc"),
    ],
)
def test_failure_on_one_node_is_named_with_advice(changes, name, found, advice):
    (check,) = failed_checks(make_report("a"), make_report("b"), make_report("c", **changes), storage="results")
    assert (check.name, check.where) == (name, "c")
    assert found in check.found
    assert advice in check.advice


def test_slow_round_trip_is_not_a_wrong_clock():
    assert failed_checks(make_report(clock=(3.0, 2.5))) == []


def test_node_that_does_not_answer_fails_and_the_others_are_still_checked():
    checks = failed_checks(
        make_report("a"), NodeReport("b", None, problem="no answer in 180 s"), make_report("c", torch=None)
    )
    assert [(check.name, check.where) for check in checks] == [("answers", "b"), ("torch", "c")]
    assert "session_latest/logs" in checks[0].advice


def test_many_nodes_with_the_same_failure_take_one_line():
    (check,) = failed_checks(
        *[make_report(str(n)) for n in range(20)], *[make_report(str(n), shm_free=0) for n in range(20, 28)]
    )
    assert check.where == "20, 21, 22 and 5 more"


def test_node_that_may_not_write_to_object_storage_needs_credentials():
    problem = {"storage_problem": "s3://b/x/m: cannot be written: AWS refuses"}
    (check,) = failed_checks(make_report("a", **problem), storage="s3://b/x")
    assert check.name == "storage" and "give the node credentials" in check.advice


L4 = GpuState(0, "NVIDIA L4", "580.95.05", 0, 41)


def test_healthy_gpus_pass_with_driver_and_mps():
    checks = {check.name: check for check in run_checks([make_report(health=GpuHealth((L4,), has_mps=True))])}
    assert all(check.passed for check in checks.values())
    assert checks["NVIDIA driver"].found == "580.95.05"
    assert checks["MPS"].found == "can be started"
    assert checks["GPU memory"].found == "no uncorrected errors"


@pytest.mark.parametrize(
    ("change", "name", "found"),
    [
        ({"num_ecc_errors": 1}, "GPU memory", "GPU 0 (NVIDIA L4): 1 uncorrected memory error"),
        (
            {"throttling": ("too hot (hardware)",), "temperature_c": 95},
            "GPU clocks",
            "GPU 0 (NVIDIA L4): slowed down, too hot (hardware) at 95 degrees",
        ),
    ],
)
def test_damaged_and_slowed_gpus_are_named(change, name, found):
    (check,) = failed_checks(make_report("a", health=GpuHealth((replace(L4, **change),))))
    assert (check.name, check.where, check.found) == (name, "a", found)


def test_node_slower_than_its_peers_is_named_and_other_devices_are_no_peers():
    def rated(name, *rates, device="NVIDIA L4"):
        return make_report(name, health=GpuHealth(rates=tuple(DeviceRate(device, rate) for rate in rates)))

    nodes = [rated("a", 100e12), rated("b", 98e12, 101e12), rated("c", 99e12, 70e12), rated("d", 2e12, device="CPU")]
    (check,) = failed_checks(*nodes)
    assert (check.name, check.where) == ("matrix product", "c")
    assert check.found == "NVIDIA L4: 70 TFLOP/s, 71% of the others"
    assert failed_checks(*nodes[:2]) == []


def test_nvidia_smi_that_fails_is_a_problem_of_its_node():
    (check,) = failed_checks(make_report("a"), make_report("b", health=GpuHealth(problem="OSError: nvidia-smi: x")))
    assert (check.name, check.where) == ("GPU health", "b")
