"""Calls that must not outlive Ray, and the end of all descendants of a process."""

import subprocess
import sys
import threading
import time

import psutil
import pytest

from flexres_tune.cluster import ray_processes
from flexres_tune.cluster.ray_processes import RayLostError, call_unless_ray_died

STARTS_GRANDCHILDREN = """
import subprocess, time, psutil
from flexres_tune.cluster.ray_processes import kill_children
subprocess.Popen(["sh", "-c", "sleep 100 & sleep 100"])
while len(found := psutil.Process().children(recursive=True)) < 3:
    time.sleep(0.01)
kill_children()
print(*(process.pid for process in found))
"""


def test_result_and_error_of_a_call_are_passed_on():
    assert call_unless_ray_died(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        call_unless_ray_died(lambda: 1 / 0)


def test_call_that_never_returns_is_abandoned_when_ray_dies(monkeypatch):
    answers = iter([[], [], ["raylet"], ["raylet"]])
    monkeypatch.setattr(ray_processes, "dead_ray_processes", lambda: next(answers))
    with pytest.raises(RayLostError, match=r"Ray's own processes \(raylet\) died"):
        call_unless_ray_died(threading.Event().wait)


def test_children_and_their_children_are_killed():
    done = subprocess.run([sys.executable, "-c", STARTS_GRANDCHILDREN], capture_output=True, text=True, check=True)
    pids = [int(pid) for pid in done.stdout.split()]
    assert len(pids) == 3
    deadline = time.monotonic() + 10
    while not all(map(has_ended, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def has_ended(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
