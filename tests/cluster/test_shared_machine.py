"""Two sweeps on one machine: how they divide it, and that they find each other."""

import json
import os
import shutil

import pytest

from flexres_tune.cluster import shared_machine
from flexres_tune.cluster.resources import NodeResources, TrialResources
from flexres_tune.cluster.shared_machine import LocalDriver, SharedMachine, divide


def driver(cpu=1.0, gpu=0.0, num_wanted=8, num_running=0):
    return LocalDriver("optim", 1, cpu, gpu, num_wanted, num_running)


@pytest.mark.parametrize(
    ("drivers", "num_cpus", "granted"),
    [
        ([driver()], 8, [8]),
        ([driver(), driver()], 8, [4, 4]),
        ([driver(), driver()], 3, [2, 1]),
        ([driver(), driver(), driver()], 2, [1, 1, 0]),
        ([driver(num_wanted=1), driver()], 4, [1, 3]),
        ([driver(cpu=2), driver(cpu=1)], 4, [1, 2]),
        ([driver(cpu=2), driver(cpu=1)], 2, [1, 0]),
        ([driver(cpu=1), driver(cpu=2)], 2, [2, 0]),
        ([driver(cpu=4, gpu=0.5, num_wanted=4), driver(cpu=4, gpu=1, num_wanted=2)], 64, [4, 0]),
        ([driver(cpu=4, gpu=1, num_wanted=2), driver()], 12, [2, 4]),
    ],
)
def test_cpus_are_divided_in_turn_and_gpus_belong_to_the_eldest_driver(drivers, num_cpus, granted):
    assert divide(drivers, num_cpus) == granted


@pytest.fixture
def start(monkeypatch, tmp_path):
    """Start a driver on a machine of two CPUs: (its SharedMachine, the messages that it prints)."""
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setattr(shared_machine, "REFRESH_PERIOD_S", 0.0)

    def start(sweep, cpu=1.0, node=NodeResources(0, 2)):
        messages = []
        resources = TrialResources(cpu, 0, int(2 / cpu), "")
        return SharedMachine(node, sweep, resources, messages.append).__enter__(), messages

    return start


def test_sweep_that_starts_later_waits_for_a_trial_of_the_first_and_both_share_then(start):
    (first, said_first), (second, said_second) = start("optim"), start("lr")
    first.started("a")
    first.started("b")
    assert not second.may_start()
    assert said_second == [
        f"sweep optim (process {os.getpid()}) runs on this machine, too: 1 at once here instead of 2, as soon as a "
        "trial there ends"
    ]
    first.ended("a")
    assert not first.may_start(), "it runs its share"
    assert said_first == [f"sweep lr (process {os.getpid()}) runs on this machine, too: 1 at once here instead of 2"]
    assert second.may_start()
    second.started("c")
    assert not second.may_start()
    first.__exit__()
    first.ended("b")  # the row of an interrupted trial is written at the end
    assert second.may_start()
    assert said_second[1:] == ["no other sweep runs on this machine now: 2 at once"]


def test_sweep_whose_trials_do_not_fit_beside_another_waits_and_says_so(start):
    (first, _), (second, said) = start("optim"), start("lr", cpu=2.0)
    assert first.may_start()
    assert not second.may_start()
    assert said == [
        f"sweep optim (process {os.getpid()}) runs on this machine and leaves no room: waiting until it ends; Ctrl-C "
        "stops waiting"
    ]


def test_driver_that_was_killed_is_forgotten(start, tmp_path):
    (machine, _) = start("optim")
    dead = tmp_path / shared_machine.FOLDER / "00000000000000000001-1"
    dead.write_text(json.dumps(vars(driver(num_running=2))))
    assert machine.may_start()
    assert not dead.exists()


def test_files_that_others_plant_disturb_nobody(start, tmp_path):
    (machine, messages) = start("optim")
    folder = tmp_path / shared_machine.FOLDER
    os.mkfifo(folder / "0-fifo")
    (folder / "0-link").symlink_to("/dev/zero")
    (folder / "0-folder").mkdir()
    (folder / "0-junk").write_bytes(b"\xff" * 5000)
    assert machine.may_start()
    assert messages == []


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[1]", b"[" * 2000, b'{"sweep": "x"}',
        b'{"sweep": "x", "pid": 1, "cpu": "many", "gpu": 0, "num_wanted": 1, "num_running": 0}',
        b'{"sweep": "x", "pid": 1e999, "cpu": 1, "gpu": 0, "num_wanted": 1, "num_running": 0}',
    ],
)  # fmt: skip
def test_damaged_record_is_no_driver(content):
    assert LocalDriver.from_json(content) is None


def test_numbers_of_a_strange_record_are_bounded_and_its_text_is_escaped():
    content = b'{"sweep": "\\u001b[31m", "pid": 1, "cpu": 0, "gpu": -1, "num_wanted": 1e300, "num_running": 1e18}'
    found = LocalDriver.from_json(content)
    assert str(found) == r"sweep \x1b[31m (process 1)"
    assert sum(divide([found, driver()], 8)) <= 10_008


def test_folder_that_is_removed_meanwhile_costs_only_the_sharing(start, tmp_path):
    (machine, _) = start("optim")
    shutil.rmtree(tmp_path / shared_machine.FOLDER)
    assert machine.may_start()
    machine.started("a")
    machine.ended("a")
    machine.__exit__()


def test_sweep_in_a_cluster_writes_no_file(start, tmp_path):
    (machine, _) = start("optim", node=None)
    assert machine.may_start()
    assert not (tmp_path / shared_machine.FOLDER).exists()


def test_folder_that_cannot_be_written_costs_only_the_sharing(start, monkeypatch):
    monkeypatch.setenv("RAY_TMPDIR", "/dev/null")
    (machine, _) = start("optim")
    assert machine.may_start()
    machine.__exit__()
