"""Which idle machines are ended before Ray's idle timeout, and how much that saves on simulated machines."""

import time

import pytest
from helpers.simulated_machines import Cluster, idle_shares, make_spec, play_sweep
from ray.core.generated.autoscaler_pb2 import DRAINING, IDLE, RUNNING, ClusterResourceState

from flexres_tune.cluster import idle_machines
from flexres_tune.cluster.idle_machines import IdleMachines, Machine, machines_of, read_min_workers, unneeded_machines
from flexres_tune.cluster.resources import NodeResources, TrialResources

TRIAL = TrialResources(cpu=4, gpu=0.25, num_concurrent=12, reason="")  # four of them share a GPU
MIN_WORKERS = {"gpu": 0}
EARLY = {
    "promotion": {"type": "asha", "variant": "promotion", "grace_period": 3},
    "halving": {"type": "halving", "rungs": [{"epochs": 3, "keep": 9}, {"epochs": 9, "keep": 3}]},
    "none": {"type": "none"},
}


def make_machine(name, idle_s=0.0, node_type="gpu", num_cpus=16, num_gpus=1):
    return Machine(name, node_type, NodeResources(num_gpus, num_cpus), idle_s)


def unneeded(machines, num_trials, min_workers=MIN_WORKERS):
    return [each.node_id for each in unneeded_machines(machines, num_trials, TRIAL, min_workers)]


def make_config(idle_timeout_minutes=0.5, **types):
    """A cluster file; `types`: min_workers by worker type."""
    workers = {name: {"min_workers": number} for name, number in types.items()}
    node_types = {"head": {"min_workers": 0}} | workers
    return {
        "idle_timeout_minutes": idle_timeout_minutes,
        "head_node_type": "head",
        "available_node_types": node_types,
    }


def test_longest_idle_machines_are_ended_as_long_as_the_others_hold_all_trials():
    machines = [make_machine("a"), make_machine("b", idle_s=3), make_machine("c", idle_s=9)]
    assert unneeded(machines, num_trials=9) == []
    assert unneeded(machines, num_trials=8) == ["c"]
    assert unneeded(machines, num_trials=4) == ["c", "b"]
    assert unneeded(machines, num_trials=0) == ["c", "b"], "something runs on the other one"


def test_slots_of_the_head_count_and_it_stays():
    machines = [make_machine("head", idle_s=9, node_type=None), make_machine("a", idle_s=3), make_machine("b")]
    assert unneeded(machines, num_trials=8) == ["a"]
    assert unneeded([make_machine("head", idle_s=9, node_type=None)], num_trials=0) == []


def test_machine_on_which_no_trial_fits_is_not_the_sweeps_to_end():
    assert unneeded([make_machine("a", idle_s=9, num_gpus=0), make_machine("b")], num_trials=1) == []


def test_least_number_of_each_type_stays():
    """The autoscaler would start another one."""
    machines = [make_machine(name, idle_s=9) for name in "abc"] + [make_machine("d", idle_s=9, node_type="spot")]
    assert unneeded(machines, 0, {"gpu": 2, "spot": 1}) == ["a"]
    assert unneeded(machines, 0, {"gpu": 3, "spot": 0}) == ["d"]


def test_type_that_the_cluster_file_does_not_have_stays():
    assert unneeded([make_machine("a", idle_s=9, node_type="cpu"), make_machine("b")], num_trials=1) == []


@pytest.mark.parametrize(
    ("config", "min_workers"),
    [
        (None, {}),
        ({"provider": {"type": "local"}}, {}),
        (make_config(gpu=0, spot=2), {"gpu": 0, "spot": 2}),
        (make_config(5, gpu=0), {"gpu": 0}),
        (make_config(30, gpu=0), {}),
    ],
    ids=["no file", "no types", "two types", "Ray's default", "machines are kept for the next command"],
)
def test_cluster_file_says_how_many_machines_stay(config, min_workers):
    assert read_min_workers(config) == min_workers


def make_state(*nodes, **waiting):
    """Ray's state of a cluster with nodes of (name, status, type, instance)."""
    state = ClusterResourceState(**waiting)
    for name, status, node_type, instance in nodes:
        node = state.node_states.add(node_id=name.encode(), status=status, instance_id=instance)
        node.ray_node_type_name, node.idle_duration_ms = node_type, 4000 * (status == IDLE)
        node.total_resources.update({"CPU": 16, "GPU": 1} | ({"node:__internal_head__": 1} if name == "head" else {}))
    return state


def test_machines_are_those_that_the_autoscaler_started_and_that_take_trials():
    nodes = [("head", IDLE, "gpu", "i-1"), ("a", IDLE, "gpu", "i-2"), ("b", RUNNING, "gpu", "i-3")]
    state = make_state(*nodes, ("c", DRAINING, "gpu", "i-4"), ("d", IDLE, "", ""))
    found = {bytes.fromhex(each.node_id).decode(): (each.node_type, each.idle_s) for each in machines_of(state)}
    assert found == {"head": (None, 4.0), "a": ("gpu", 4.0), "b": ("gpu", 0.0), "d": (None, 4.0)}, "d: started by hand"


@pytest.mark.parametrize(
    "name", ["pending_resource_requests", "pending_gang_resource_requests", "cluster_resource_constraints"]
)
def test_no_machine_is_ended_while_something_waits_for_one_or_requests_it(name):
    state = make_state(("a", IDLE, "gpu", "i-1"))
    assert machines_of(state)
    each = getattr(state, name).add()
    if name == "cluster_resource_constraints":
        assert machines_of(state), "a request of nothing, which takes back an earlier one"
        each.resource_requests.add(count=1)
    assert machines_of(state) == []


class FakeAutoscaler:
    def __init__(self, *machines):
        self.found, self.ended = list(machines), []

    def machines(self):
        return self.found

    def end(self, node_id):
        self.ended.append(node_id)
        return node_id != "busy"


def make_ender(autoscaler, most_at_once, config=None):
    messages = []
    config = make_config(gpu=0) if config is None else config
    return IdleMachines(config, TRIAL, lambda: most_at_once, messages.append, autoscaler), messages


def test_only_machines_that_accept_it_count_as_ended():
    autoscaler = FakeAutoscaler(*(make_machine(name, idle_s=9) for name in ("a", "b", "busy")))
    ender, messages = make_ender(autoscaler, most_at_once=0)
    ender.update()
    assert autoscaler.ended == ["a", "b", "busy"]
    assert messages == ["ending 2 idle machines, for which no trial will come"]


def test_cluster_is_not_asked_while_the_search_can_use_all_of_it():
    ender, messages = make_ender(autoscaler=None, most_at_once=12)
    ender.update()
    assert messages == []


@pytest.fixture
def short_period(monkeypatch):
    monkeypatch.setattr(idle_machines, "PERIOD_S", 0.01)


@pytest.mark.parametrize(("most_at_once", "ended"), [(0, {"a"}), (4, set())], ids=["done", "interrupted"])
def test_machines_of_the_last_trials_end_with_the_search_unless_trials_are_left(short_period, most_at_once, ended):
    autoscaler = FakeAutoscaler(make_machine("a", idle_s=1))
    ender, _ = make_ender(autoscaler, most_at_once)
    with ender:
        pass
    assert set(autoscaler.ended) == ended


def test_head_that_does_not_answer_is_reported_once_and_the_timeout_is_left(short_period):
    ender, messages = make_ender(autoscaler=object(), most_at_once=0)
    with ender:
        while not messages:
            time.sleep(0.01)
        time.sleep(0.05)
    assert messages == ["could not end idle machines (AttributeError): they end after the cluster's idle timeout"]


def test_nothing_is_asked_without_a_cluster_file_of_the_autoscaler(short_period):
    autoscaler = FakeAutoscaler(make_machine("a", idle_s=1))
    with make_ender(autoscaler, most_at_once=0, config={})[0]:
        time.sleep(0.05)
    assert autoscaler.ended == []


@pytest.mark.parametrize("trial_min", [1, 5])
@pytest.mark.parametrize("confirm", [None, {"top": 2, "num_runs": 3}, {"top": 3, "num_runs": 12}], ids=str)
@pytest.mark.parametrize("name", EARLY)
def test_machines_of_short_trials_hardly_wait_without_a_trial_to_come(name, confirm, trial_min):
    """What is idle apart from that waits for trials: a search for its rung, the confirmation for the screening."""

    def play(ends_idle_machines):
        cluster = Cluster(num_machines=8, idle_timeout_s=30, cold_start_s=180)
        return play_sweep(cluster, make_spec(EARLY[name], confirm, 27), trial_min * 60 / 27, ends_idle_machines, seed=0)

    with_timeout, at_once = play(ends_idle_machines=False), play(ends_idle_machines=True)
    (unneeded_before, before), (unneeded, idle) = idle_shares([with_timeout]), idle_shares([at_once])
    print(f"{name}, {confirm}, {trial_min} min: idle without a trial to come {unneeded_before:.1%}, now {unneeded:.1%}")
    print(f"    idle in all {before:.1%}, now {idle:.1%}; machines started {with_timeout.num_started}")
    assert unneeded < (0.15 if trial_min == 1 else 0.05)
    assert unneeded < 0.5 * unneeded_before
    assert idle < before
    assert at_once.num_started <= with_timeout.num_started, "none is ended and started in turn"
