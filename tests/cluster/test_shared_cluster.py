"""How sweeps that run at once on one Ray cluster divide its slots."""

import pytest

from flexres_tune.cluster.shared_cluster import LOST_AFTER_S, ClusterDriver, SharedCluster, divide_slots


class Store(dict):
    """The records of a cluster, in memory."""

    def read(self):
        return dict(self)

    def write(self, name, content):
        self[name] = content

    def remove(self, name):
        self.pop(name, None)


class Search:
    def __init__(self, most_at_once):
        self.number = most_at_once

    def __call__(self):
        return self.number


@pytest.mark.parametrize(
    ("drivers", "granted"),
    [
        ([(8, 8)], [8]),
        ([(8, 8), (8, 8)], [4, 4]),
        ([(8, 8), (8, 8), (8, 8)], [3, 3, 2]),
        ([(8, 8), (8, 1)], [7, 1]),
        ([(8, 2), (8, 8), (8, 8)], [2, 3, 3]),
        ([(8, 8), (2, 2)], [4, 1]),
        ([(8, 8), (1, 1)], [8, 1]),
        ([(2, 2)] * 3, [1, 1, 1]),
        ([(4, 0), (4, 4)], [1, 4]),
    ],
)
def test_each_gets_an_equal_part_and_what_others_cannot_use(drivers, granted):
    assert divide_slots([ClusterDriver("x", *numbers) for numbers in drivers]) == granted


def make_driver(store, sweep, most_at_once=20, num_slots=8):
    messages = []
    search = Search(most_at_once)
    return SharedCluster(sweep, num_slots, search, messages.append, store), search, messages


def fill(driver, name):
    """Start as many trials as it may; returns their number."""
    number = 0
    while driver.may_start() and number < 20:
        driver.started(f"{name}{number}")
        number += 1
    return number


def test_sweep_that_has_the_cluster_alone_is_not_limited():
    driver, _, messages = make_driver(Store(), "a")
    driver.update(0)
    assert fill(driver, "a") == 20, "the limiter of Tune counts, which may grow with the cluster"
    assert (driver.num_free, messages) == (None, [])


def test_second_sweep_gets_its_half_as_trials_of_the_first_end():
    store = Store()
    first, _, messages = make_driver(store, "first")
    first.update(0)
    for n in range(8):
        assert first.may_start()
        first.started(f"f{n}")
    second, _, _ = make_driver(store, "second")
    second.update(1)
    assert fill(second, "s") == 4
    first.update(2)
    assert messages == [
        "sweep second runs on this cluster, too: 4 at once here instead of 8, and more when others need less"
    ]
    for n in range(4):
        assert not first.may_start(), "it has more than its half"
        first.ended(f"f{n}")
    assert not first.may_start()
    first.ended("f4")
    assert first.may_start()
    assert first.num_free == 1


def test_last_trials_of_a_sweep_leave_the_rest_to_the_other():
    store = Store()
    first, search, _ = make_driver(store, "first")
    second, _, _ = make_driver(store, "second")
    first.update(0)
    second.update(0)
    first.started("f0")
    search.number = 1
    first.update(1)
    second.update(1)
    assert fill(second, "s") == 7


def test_driver_that_ended_or_was_killed_gives_its_share_back():
    store = Store()
    first, _, messages = make_driver(store, "first")
    second, _, _ = make_driver(store, "second")
    second.update(0)
    first.update(0)
    assert first.num_free == 4
    second.update(1)
    first.update(LOST_AFTER_S)
    assert first.num_free == 4, "its record has changed meanwhile"
    first.update(LOST_AFTER_S * 2 + 1)
    assert first.num_free is None
    assert messages[-1] == "no other sweep runs on this cluster now: 8 at once"


def test_context_removes_its_record():
    store = Store()
    driver, _, _ = make_driver(store, "a")
    with driver:
        assert len(store) == 1
    assert not store


@pytest.mark.parametrize("content", [b"", b"{}", b"[", b'{"sweep": 1, "num_slots": "x", "num_wanted": 1, "beat": 1}'])
def test_damaged_record_is_ignored(content):
    store = Store(other=content)
    driver, _, messages = make_driver(store, "a")
    driver.update(0)
    assert (driver.num_free, messages) == (None, [])


def test_record_with_absurd_numbers_is_bounded():
    driver = ClusterDriver.from_json(b'{"sweep": "x", "num_slots": 1e300, "num_wanted": -5, "beat": 0}')
    assert (driver.num_slots, driver.num_wanted) == (10_000, 0)


def test_store_that_does_not_answer_changes_nothing():
    class Broken(Store):
        def read(self):
            raise RuntimeError("the head does not answer")

    driver, _, messages = make_driver(Broken(), "a")
    with driver:
        assert driver.may_start()
    assert messages == []
