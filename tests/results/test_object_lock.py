"""One driver per sweep, by claims and heartbeats on object storage."""

import os
import threading

import pytest

from flexres_tune.errors import ResultsError
from flexres_tune.results import object_lock
from flexres_tune.results.holder import Holder
from flexres_tune.results.lock import find_holder, sweep_lock
from flexres_tune.results.paths import SweepPaths
from flexres_tune.storage import list_folder


@pytest.fixture
def paths(bucket):
    return SweepPaths("s3://bucket/results", "demo")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The same waits, a fiftieth as long."""
    for name in ("HEARTBEAT_S", "DEAD_AFTER_S", "POLL_PERIOD_S"):
        monkeypatch.setattr(object_lock, name, getattr(object_lock, name) / 50)


def leave(paths, **changes):
    """A claim as a driver on another machine writes it."""
    values = {"host": "elsewhere", "pid": 7, "started_at": "2026-01-01", "machine": "another", "born": 1.0} | changes
    claim = paths.lock / "0123.json"
    claim.write_bytes(Holder(**values).to_json())
    return claim


def test_second_driver_is_refused_until_the_first_releases_it(paths):
    with sweep_lock(paths):
        assert find_holder(paths).pid == os.getpid()
        with (
            pytest.raises(ResultsError, match=rf"s3://.*already run by another driver, on host .*, pid {os.getpid()}"),
            sweep_lock(paths),
        ):
            pass
        assert len(list_folder(paths.lock)) == 1
    assert find_holder(paths) is None and list(list_folder(paths.lock)) == []
    with sweep_lock(paths):
        pass


def test_claim_that_is_too_large_is_that_of_an_unknown_driver_and_deleted_if_it_does_not_change(paths):
    (paths.lock / "0123.json").write_bytes(b"x" * 20_000)
    assert find_holder(paths) == Holder()
    with sweep_lock(paths):
        assert find_holder(paths).pid == os.getpid()


def test_driver_that_died_on_this_machine_holds_nothing(paths):
    leave(paths, machine=Holder.of_this_process().machine, pid=os.getpid())  # a process that had this pid before
    assert find_holder(paths) is None
    with sweep_lock(paths):
        assert find_holder(paths).host != "elsewhere"


def test_driver_of_another_machine_without_heartbeat_is_dead_after_a_while(paths):
    leave(paths)
    assert find_holder(paths).host == "elsewhere"  # its claim is less than a minute old
    with sweep_lock(paths):
        assert len(list_folder(paths.lock)) == 1 and find_holder(paths).pid == os.getpid()


def test_driver_of_another_machine_with_a_heartbeat_is_left_alone(paths):
    claim = leave(paths)
    over = threading.Event()

    def beat():
        while not over.wait(0.05):
            claim.write_bytes(claim.read_bytes())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with (
            pytest.raises(ResultsError, match="already run by another driver, on host elsewhere, pid 7, started 2026"),
            sweep_lock(paths),
        ):
            pass
        assert list(list_folder(paths.lock)) == ["0123.json"]
    finally:
        over.set()
        thread.join()


def test_heartbeat_rewrites_the_claim_and_survives_a_server_that_does_not_answer(bucket, paths):
    with sweep_lock(paths):
        claim = paths.lock / list(list_folder(paths.lock))[0]
        first = claim.stat().st_mtime_ns
        _wait(lambda: claim.stat().st_mtime_ns > first)
        bucket.go_away()
        requests = bucket.num_requests
        _wait(lambda: bucket.num_requests > requests + 2)
        bucket.come_back()
        first = claim.stat().st_mtime_ns
        _wait(lambda: claim.stat().st_mtime_ns > first)


def test_driver_that_was_taken_for_dead_is_notified(paths):
    notified = threading.Event()
    with object_lock.hold_claim(paths.lock, paths.sweep, notified.set):
        (paths.lock / list(list_folder(paths.lock))[0]).unlink()
        assert notified.wait(5)
    assert list(list_folder(paths.lock)) == []


def test_of_drivers_that_start_at_once_one_runs(paths):
    held, refused, start = [], [], threading.Barrier(4)

    def drive():
        lock = sweep_lock(paths)
        start.wait()
        try:
            lock.__enter__()
            held.append(lock)
        except ResultsError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=drive) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for lock in held:
        lock.__exit__(None, None, None)
    assert len(held) == 1 and len(refused) == 3


def _wait(condition):
    pause = threading.Event()
    for _ in range(200):
        if condition():
            return
        pause.wait(0.05)
    raise AssertionError("not so after 10 s")
