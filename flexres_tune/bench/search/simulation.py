"""The simulation of bench search: plays the real searches and stopping rules on curves that are known.

Nothing is trained. Slots are simulated by events, and an epoch takes one unit of time.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexres_tune.bench.search.worlds import Draw
from flexres_tune.records import TrialStatus
from flexres_tune.search.base import WAIT, Assignment, History, Outcome, PastTrial, Search
from flexres_tune.search.early_stopping import StoppingRule
from flexres_tune.search.ladders import Candidate
from flexres_tune.spec import PlannedTrial


@dataclass(frozen=True)
class SimulatedConfig:
    """What searches read of a trial's configuration, without the cost of hashing one."""

    config_id: str  # index of the configuration
    trial_id: str
    seed: int
    epochs: int


@dataclass(frozen=True)
class Setup:
    """The trials of a world: those of the screening as candidates, and the fresh runs of each configuration."""

    candidates: tuple[Candidate, ...]
    fresh: tuple[Candidate, ...]
    epochs: int
    slots: int

    @classmethod
    def of(cls, levels: Sequence[int], num_fresh: int, epochs: int, slots: int) -> Setup:
        """One seed for the screening, `num_fresh` others for the confirmation."""

        def candidate(index: int, seeds: Sequence[int]) -> Candidate:
            configs = [SimulatedConfig(f"{index:04d}", f"{index:04d}-{seed}", seed, epochs) for seed in seeds]
            trials = tuple(PlannedTrial(config, {}, 0) for config in configs)
            return Candidate(configs[0].config_id, trials, int(levels[index]))

        indices = range(len(levels))
        screened = tuple(candidate(index, range(1)) for index in indices)
        fresh = tuple(candidate(index, range(1, 1 + num_fresh)) for index in indices)
        return cls(screened, fresh, epochs, slots)


@dataclass
class Played:
    """What a simulated search did."""

    history: History
    epochs: int
    wall_epochs: int  # until the last trial has ended, in units of an epoch


def play(search: Search, draw: Draw, slots: int, rule: StoppingRule | None = None) -> Played:
    """Run a search to its end on `slots` slots."""
    past: dict[str, PastTrial] = {}
    running: list[tuple[int, int, int, Assignment]] = []  # (time of the next event, order, epoch then, assignment)
    reached: dict[str, int] = {}  # epochs that a trial has trained
    order, now, step = itertools.count(), 0, WAIT
    while True:
        while len(running) < slots and isinstance(step := search.ask(), Assignment):
            start = reached.get(step.trial.config.trial_id, 0)
            epoch = start + 1 if rule else _end(_values(draw, step), step.until_epoch)
            heapq.heappush(running, (now + epoch - start, next(order), epoch, step))
        if not running:
            return Played(History(past), sum(reached.values()), now)
        now, _, epoch, step = heapq.heappop(running)
        trial_id, values = step.trial.config.trial_id, _values(draw, step)
        reached[trial_id] = epoch
        status = _status(values, epoch, step, rule)
        if status is None:
            heapq.heappush(running, (now + 1, next(order), epoch + 1, step))
            continue
        past[trial_id] = _past(step.trial, status, values[:epoch])
        search.tell(Outcome(step, status, past[trial_id].score, float(values[epoch - 1])))


def _values(draw: Draw, step: Assignment) -> np.ndarray:
    """The curve of a trial, (epochs,)."""
    return draw.curves[int(step.trial.config.config_id), step.trial.config.seed]


def _end(values: np.ndarray, until_epoch: int) -> int:
    """The epoch at which an assignment ends: its last one, or the first whose value is not finite."""
    if math.isfinite(values[until_epoch - 1]):
        return until_epoch
    return int(np.argmin(np.isfinite(values))) + 1


def _status(values: np.ndarray, epoch: int, step: Assignment, rule: StoppingRule | None) -> TrialStatus | None:
    """How the assignment has ended at this epoch; None: it has not."""
    if not math.isfinite(values[epoch - 1]):
        return TrialStatus.DIVERGED
    if epoch == step.trial.config.epochs:
        return TrialStatus.COMPLETED
    if rule is not None:
        verdict = rule.judge(step.trial.config.trial_id, epoch, float(values[epoch - 1]))
        if verdict is not None and verdict.stop:
            return TrialStatus.STOPPED
    return TrialStatus.PAUSED if epoch == step.until_epoch else None


def _past(trial: PlannedTrial, status: TrialStatus, values: np.ndarray) -> PastTrial:
    config = trial.config
    score = None if status == TrialStatus.DIVERGED else float(values.max())
    return PastTrial(
        *(config.trial_id, config.config_id, config.seed, "screen", status, 1),
        val_accuracy=score,
        score=score,
        is_done=status.is_final,
    )
