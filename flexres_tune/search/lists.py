"""Grid and random search: a list of trials that was drawn, checked and ordered before the run."""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flexres_tune.records import TrialStatus
from flexres_tune.search.base import DONE, WAIT, Assignment, History, Outcome, Search, Step, Workload
from flexres_tune.spec import PlannedTrial


class ListSearch(Search):
    """The trials of a list that are not done, in its order. What it is told changes nothing."""

    def __init__(
        self,
        trials: Iterable[PlannedTrial],
        history: History | None = None,
        until_epochs: Mapping[str, int | None] | None = None,
    ):
        """`history`: trials that it has as done are skipped. `until_epochs`: by trial_id; absent or None: the last epoch."""
        trials = tuple(trials)
        missing = (history or History()).missing(trials)
        num_epochs = sum(trial.config.epochs for trial in missing)
        self.work = Workload(trials, missing, len(missing), len(trials) - len(missing), num_epochs)
        self._queue = deque(missing)
        self._until_epochs = until_epochs or {}

    def ask(self) -> Assignment | Step:
        if not self._queue:
            return DONE
        trial = self._queue.popleft()
        return Assignment(trial, self._until_epochs.get(trial.config.trial_id) or trial.config.epochs)

    def tell(self, outcome: Outcome) -> None:
        pass

    def most_to_come(self) -> int:
        return len(self._queue)

    def prioritise(self, trial_id: str) -> bool:
        return move_to_front(self._queue, [trial for trial in self._queue if trial.config.trial_id == trial_id])


class FirstSeedSearch(Search):
    """The first seed of every configuration; the other seeds of those whose first seed has run to its end.

    A stopping rule judges the first seeds only. So it decides about configurations: none has a seed that was stopped
    and another one that ran to its end.
    """

    def __init__(self, trials: Iterable[PlannedTrial], first_seed: int, history: History | None = None):
        """`history`: trials that it has as done are skipped."""
        history = history or History()
        self._trials, self._first_seed = tuple(trials), first_seed
        self._is_missing = [not history.is_done(trial.config.trial_id) for trial in self._trials]
        self._others: dict[str, list[int]] = {}  # config_id -> positions of its further seeds in `trials`
        self._firsts: deque[int] = deque()
        self._released: list[int] = []  # a heap, so that the order does not depend on which first seed ended first
        self._num_running = 0
        for position, trial in enumerate(self._trials):
            if trial.config.seed != first_seed:
                self._others.setdefault(trial.config.config_id, []).append(position)
            elif self._is_missing[position]:
                self._firsts.append(position)
        for position, trial in enumerate(self._trials):
            past = history.trials.get(trial.config.trial_id)
            is_first_and_done = trial.config.seed == first_seed and not self._is_missing[position]
            if is_first_and_done and past is not None and past.status == TrialStatus.COMPLETED:
                self._release(trial.config.config_id)
        self.work = self._count()

    def ask(self) -> Assignment | Step:
        if self._firsts:
            position = self._firsts.popleft()
        elif self._released:
            position = heapq.heappop(self._released)
        else:
            return WAIT if self._num_running else DONE
        self._num_running += 1
        return Assignment.whole(self._trials[position])

    def tell(self, outcome: Outcome) -> None:
        self._num_running -= 1
        config = outcome.assignment.trial.config
        if config.seed == self._first_seed and outcome.status == TrialStatus.COMPLETED:
            self._release(config.config_id)

    def most_to_come(self) -> int:
        return len(self._firsts) + len(self._released) + sum(map(len, self._others.values()))

    def prioritise(self, trial_id: str) -> bool:
        return move_to_front(self._firsts, [i for i in self._firsts if self._trials[i].config.trial_id == trial_id])

    def _release(self, config_id: str) -> None:
        for position in self._others.pop(config_id, ()):
            if self._is_missing[position]:
                heapq.heappush(self._released, position)

    def _count(self) -> Workload:
        """`missing` are the trials that are certain to run; `num_todo` counts those as well that may follow."""
        certain = sorted([*self._firsts, *self._released])
        following = [
            position
            for first in self._firsts
            for position in self._others.get(self._trials[first].config.config_id, ())
            if self._is_missing[position]
        ]
        num_epochs = sum(self._trials[position].config.epochs for position in (*certain, *following))
        missing = tuple(self._trials[position] for position in certain)
        num_done = len(self._trials) - sum(self._is_missing)
        return Workload(self._trials, missing, len(certain) + len(following), num_done, num_epochs)


def move_to_front(queue: deque[Any], found: Sequence[Any]) -> bool:
    """Move the entries found in a queue to its front; whether there are any."""
    for each in found:
        queue.remove(each)
    queue.extendleft(reversed(found))
    return bool(found)
