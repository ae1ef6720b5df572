"""What the doctor says of what it found: one way out for each thing that is wrong, and silence otherwise."""

from dataclasses import replace

import pytest

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


def patient(name="10.0.0.1", clock=(0.0, 0.01), sees_all_marks=True, num_gpus_ray=1, **changes):
    return NodeReport(name, replace(FACTS, **changes), num_gpus_ray, clock, sees_all_marks)


def wrong(*patients, storage=None):
    return [finding for finding in run_checks(patients, storage) if not finding.is_fine]


def test_healthy_nodes_share_a_line_each():
    findings = run_checks([patient("a"), patient("b", disk_free=50 * GIB)], "results")
    assert all(finding.is_fine for finding in findings)
    assert [finding.check for finding in findings] == [
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
    assert {finding.where for finding in findings} == {"a, b"}
    assert {finding.check: finding.found for finding in findings}["free disk"] == "50.0 GiB or more"
    assert {finding.check: finding.found for finding in findings}["free memory"] == "32.0 GiB"


@pytest.mark.parametrize(
    ("changes", "check", "found", "advice"),
    [
        ({"python": "3.11.7"}, "Python", "3.11.7", "most nodes have 3.12.3"),
        ({"ray": "2.59.0"}, "Ray", "2.59.0", "most nodes have 2.60.0"),
        ({"torch": None}, "torch", "missing", "pip install -r requirements.txt there"),
        ({"code": "0.1.0 (00000000)"}, "flexres_tune", "0.1.0 (00000000)", "most nodes have 0.1.0 (5e1c0f4a)"),
        ({"code": None}, "flexres_tune", "missing", "put the checkout there"),
        ({"num_gpus_torch": 0}, "GPUs", "1 (Ray), 0 (torch)", "nvidia-smi"),
        ({"num_gpus_torch": 2}, "GPUs", "1 (Ray), 2 (torch)", "--num-gpus"),
        ({"num_gpus_torch": None, "torch_problem": "ImportError: x"}, "GPUs", "ImportError: x", "torch must import"),
        ({"memory_available": GIB}, "free memory", "1.0 GiB", "free some"),
        ({"shm_free": GIB // 16}, "free /dev/shm", "0.1 GiB", "--shm-size"),
        ({"disk_used_fraction": 0.97}, "free disk", "97% used", "--temp-dir"),
        ({"data_problems": {"cifar10": "DataError: no network"}}, "data cifar10", "no network", "FLEXRES_TUNE_DATA"),
        ({"storage_problem": "/r: Permission denied"}, "storage", "Permission denied", "mount it there"),
        ({"sees_all_marks": False}, "storage", "a folder of its own", "NFS"),
        ({"clock": (-7.5, 0.01)}, "clock", "-7.5 s", "chronyc"),
    ],
)
def test_what_is_wrong_on_one_node_is_named_with_a_way_out(changes, check, found, advice):
    (finding,) = wrong(patient("a"), patient("b"), patient("c", **changes), storage="results")
    assert (finding.check, finding.where) == (check, "c")
    assert found in finding.found
    assert advice in finding.advice


def test_slow_answer_is_not_taken_for_a_wrong_clock():
    assert wrong(patient(clock=(3.0, 2.5))) == []


def test_node_that_does_not_answer_is_wrong_and_the_others_are_still_judged():
    findings = wrong(patient("a"), NodeReport("b", None, problem="no answer in 180 s"), patient("c", torch=None))
    assert [(finding.check, finding.where) for finding in findings] == [("answers", "b"), ("torch", "c")]
    assert "session_latest/logs" in findings[0].advice


def test_many_nodes_with_the_same_trouble_take_one_line():
    (finding,) = wrong(*[patient(str(n)) for n in range(20)], *[patient(str(n), shm_free=0) for n in range(20, 28)])
    assert finding.where == "20, 21, 22 and 5 more"


def test_node_that_may_not_write_to_object_storage_needs_credentials():
    problem = {"storage_problem": "s3://b/x/m: cannot be written: AWS refuses"}
    (finding,) = wrong(patient("a", **problem), storage="s3://b/x")
    assert finding.check == "storage" and "give the node credentials" in finding.advice
