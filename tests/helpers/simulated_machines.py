"""A sweep on simulated machines with one GPU each, which Ray's autoscaler starts and ends: no Ray, no training, no waiting.

The searches and the class that ends idle machines are the real ones. Tune and the autoscaler are simulated in steps of one
second, as they were measured on fake machines (tests/machines/test_autoscaling.py): a process that a search may use again
keeps its machine in use, and the autoscaler looks every five seconds.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from flexres_tune.cluster.idle_machines import NUM_LAST_LOOKS, IdleMachines, Machine
from flexres_tune.cluster.resources import NodeResources, TrialResources
from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.records import TrialStatus
from flexres_tune.results.plan import count_confirmation
from flexres_tune.search.base import Assignment, History, Outcome, PastTrial, Search
from flexres_tune.search.confirmation import make_confirmation
from flexres_tune.search.methods import make_search
from flexres_tune.spec import SweepSpec, expand_trials
from helpers.factories import make_sweep

EPOCHS = 27
GPU = NodeResources(num_gpus=1, num_cpus=1)
PROCESS_S = 5  # start of a process, which a trial that follows another one at once does not need


@dataclass(frozen=True)
class Sample:
    """A second of a cluster."""

    num_up: int  # machines that are up; each costs until the autoscaler has ended it
    num_running: int  # trials
    num_wanted: int  # trials that may still run at once, those that run included


@dataclass
class Simulated:
    """A machine that Ray's autoscaler has started."""

    up_at: float
    running: Assignment | None = None
    until: float = 0.0
    is_kept: bool = False  # a process of an ended trial waits on it
    idle_since: float | None = None
    has_stopped: bool = False  # its Ray has, and the autoscaler does not know yet


@dataclass
class Cluster:
    """A cluster that scales from 0 to `num_machines`, and what happened on it."""

    num_machines: int
    idle_timeout_s: float
    cold_start_s: float
    now: float = 0.0
    num_started: int = 0
    machines: list[Simulated] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)  # one per second

    def up(self) -> list[Simulated]:
        return [each for each in self.machines if each.up_at <= self.now and not each.has_stopped]

    def config(self) -> dict:
        """The cluster file."""
        workers = {"resources": {"CPU": 1, "GPU": 1}, "min_workers": 0, "max_workers": self.num_machines}
        types = {"head": {"resources": {}}, "gpu": workers}
        minutes = self.idle_timeout_s / 60
        return {"head_node_type": "head", "available_node_types": types, "idle_timeout_minutes": minutes}

    def scale(self, num_waiting: int) -> None:
        """One look of the autoscaler."""
        self.machines = [each for each in self.machines if not each.has_stopped and not self._is_late(each)]
        num_starting = sum(each.up_at > self.now for each in self.machines)
        for _ in range(min(num_waiting - num_starting, self.num_machines - len(self.machines))):
            self.machines.append(Simulated(self.now + self.cold_start_s))
            self.num_started += 1

    def _is_late(self, machine: Simulated) -> bool:
        return machine.idle_since is not None and self.now - machine.idle_since > self.idle_timeout_s

    def sample(self, num_wanted: int) -> None:
        for machine in self.up():
            is_idle = machine.running is None and not machine.is_kept
            machine.idle_since = (self.now if machine.idle_since is None else machine.idle_since) if is_idle else None
        there = [each for each in self.machines if each.up_at <= self.now]
        self.samples.append(Sample(len(there), sum(each.running is not None for each in there), num_wanted))

    def tail(self) -> tuple[int, int, int]:
        """GPU-seconds (without a trial to come, idle, in all) since trials ran on all machines for the last time."""
        full = [second for second, each in enumerate(self.samples) if each.num_running == self.num_machines]
        tail = self.samples[full[-1] :]
        unneeded = sum(max(0, each.num_up - max(each.num_wanted, each.num_running)) for each in tail)
        return unneeded, sum(each.num_up - each.num_running for each in tail), sum(each.num_up for each in tail)


class SimulatedAutoscaler:
    """What IdleMachines asks of a cluster's autoscaler."""

    def __init__(self, cluster: Cluster):
        self._cluster = cluster
        self.num_waiting = 0

    def machines(self) -> list[Machine]:
        if self.num_waiting:
            return []
        return [Machine(str(id(each)), "gpu", GPU, self._idle_s(each)) for each in self._cluster.up()]

    def end(self, node_id: str) -> bool:
        (machine,) = (each for each in self._cluster.up() if str(id(each)) == node_id)
        machine.has_stopped = True
        return True

    def _idle_s(self, machine: Simulated) -> float:
        return 0.0 if machine.idle_since is None else self._cluster.now - machine.idle_since


class SimulatedRun:
    """One stage of a sweep on a cluster, as Tune runs it."""

    def __init__(self, cluster: Cluster, search: Search, epoch_s: float, pauses: bool, seed: int):
        self._cluster, self._search, self._epoch_s, self._pauses = cluster, search, epoch_s, pauses
        self._rng = random.Random(seed)
        self._waiting: list[Assignment] = []
        self._reached: dict[str, int] = {}
        self._autoscaler = SimulatedAutoscaler(cluster)
        self.past: dict[str, PastTrial] = {}

    def most_at_once(self) -> int:
        num_running = sum(each.running is not None for each in self._cluster.machines)
        return num_running + len(self._waiting) + self._search.most_to_come()

    def play(self, num_later: int, ends_idle_machines: bool) -> None:
        """Until the last trial has ended, and as long afterwards as IdleMachines looks."""
        cluster, num_looks = self._cluster, 0
        trial = TrialResources(1, 1, cluster.num_machines, "")
        config, silent = cluster.config(), lambda message: None
        ender = IdleMachines(config, trial, lambda: max(self.most_at_once(), num_later), silent, self._autoscaler)
        while True:
            self._end_trials()
            self._ask()
            self._place()
            has_ended = not self._waiting and not any(each.running for each in cluster.machines)
            num_looks += has_ended
            if num_looks > NUM_LAST_LOOKS:
                return
            self._drop_processes(self._search.most_to_come() if self._pauses and not has_ended else 0)
            self._autoscaler.num_waiting = len(self._waiting)
            if ends_idle_machines:
                ender.update()
            if cluster.now % 5 == 0:
                cluster.scale(len(self._waiting))
            cluster.sample(max(self.most_at_once(), num_later))
            cluster.now += 1

    def _end_trials(self) -> None:
        for machine in self._cluster.machines:
            if machine.running is not None and machine.until <= self._cluster.now:
                step, machine.running, machine.is_kept = machine.running, None, True
                config = step.trial.config
                self._reached[config.trial_id] = step.until_epoch
                score = 1 - abs(config.lr - 0.05) * 5 + 0.02 * self._rng.random()
                status = TrialStatus.COMPLETED if step.until_epoch == EPOCHS else TrialStatus.PAUSED
                self.past[config.trial_id] = PastTrial(
                    *(config.trial_id, config.config_id, config.seed, "screen", status, 1, score, score),
                    is_done=status.is_final,
                )
                self._search.tell(Outcome(step, status, score, score, step.until_epoch, 1.0))

    def _ask(self) -> None:
        while sum(each.running is not None for each in self._cluster.machines) + len(self._waiting) < (
            self._cluster.num_machines
        ) and isinstance(step := self._search.ask(), Assignment):
            self._waiting.append(step)

    def _place(self) -> None:
        free = sorted((each for each in self._cluster.up() if each.running is None), key=lambda each: not each.is_kept)
        for machine in free[: len(self._waiting)]:
            step = self._waiting.pop(0)
            num_epochs = step.until_epoch - self._reached.get(step.trial.config.trial_id, 0)
            start_s = 0 if machine.is_kept else PROCESS_S
            machine.until = self._cluster.now + start_s + num_epochs * self._epoch_s * self._rng.uniform(0.95, 1.05)
            machine.running, machine.is_kept = step, False

    def _drop_processes(self, num_kept: int) -> None:
        """Keep as many processes as may be used again."""
        for machine in self._cluster.up():
            machine.is_kept = machine.is_kept and num_kept > 0
            num_kept -= machine.is_kept


def make_spec(early: dict, confirm: dict | None, num_configs: int) -> SweepSpec:
    rates = [0.002 * k for k in range(1, num_configs + 1)]
    keys = {"base": {"model": "tiny", "dataset": "digits", "epochs": EPOCHS}, "parameters": {"lr": {"values": rates}}}
    return make_sweep(**keys, early_terminate=early, **({} if confirm is None else {"confirm": confirm}))


def play_sweep(cluster: Cluster, spec: SweepSpec, epoch_s: float, ends_idle_machines: bool, seed: int) -> Cluster:
    """Run a sweep, its confirmation included, until its last machine has ended."""
    screen = make_search(spec, expand_trials(spec, describe_dataset), History())
    run = SimulatedRun(cluster, screen, epoch_s, spec.early_terminate.pauses, seed)
    run.play(count_confirmation(spec), ends_idle_machines)
    confirm = make_confirmation(spec, screen.work.trials, History(run.past))
    SimulatedRun(cluster, confirm, epoch_s, spec.early_terminate.pauses, seed + 1).play(0, ends_idle_machines)
    while cluster.machines:
        if cluster.now % 5 == 0:
            cluster.scale(0)
        cluster.sample(num_wanted=0)
        cluster.now += 1
    return cluster


def idle_shares(clusters: Sequence[Cluster]) -> tuple[float, float]:
    """Parts of the GPU-seconds at the ends of sweeps: idle without a trial to come, and idle in all."""
    unneeded, idle, total = (sum(each) for each in zip(*(cluster.tail() for cluster in clusters), strict=True))
    return unneeded / total, idle / total
