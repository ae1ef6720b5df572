"""Method tpe: Optuna's TPE sampler, asked for a configuration whenever none can continue and a slot is free."""

from __future__ import annotations

import math
import statistics
from collections import deque

from flexres_tune.records import TrialStatus
from flexres_tune.search.base import DONE, WAIT, Assignment, History, Outcome, Search, Step, Workload
from flexres_tune.search.lists import move_to_front
from flexres_tune.search.tpe_draws import Drawn, Observed, TpeDraws
from flexres_tune.spec import PlannedTrial, SweepSpec
from flexres_tune.spec.levels import epochs_of, list_parts


class TpeSearch(Search):
    """TPE over trials that run to their end, unless a stopping rule ends them.

    If a rule stops trials, it judges the first seed of a configuration, and the other seeds follow if that one has run
    to its end, as in FirstSeedSearch. TPE learns the mean over the seeds that have ended.
    """

    def __init__(self, spec: SweepSpec, history: History | None = None):
        self._spec, self._draws = spec, TpeDraws(spec)
        self._first_decides = spec.early_terminate.type != "none" and len(spec.seeds) > 1
        self._scores: dict[str, list[float]] = {}  # by config_id, of the trials that have ended with one
        self._ended: set[str] = set()  # config_ids of all trials that have ended
        self._held: dict[str, list[PlannedTrial]] = {}  # further seeds, which wait for the first one
        self._queue: deque[PlannedTrial] = deque()
        self._num_running = 0
        self.work = self._recall(history or History())

    def ask(self) -> Assignment | Step:
        self._draw()
        if self._queue:
            self._num_running += 1
            return Assignment.whole(self._queue.popleft())
        return WAIT if self._held and self._num_running else DONE

    def tell(self, outcome: Outcome) -> None:
        self._num_running -= 1
        if outcome.status != TrialStatus.INTERRUPTED:
            self._queue.extend(self._end(outcome.assignment.trial, outcome.status, outcome.score))

    def prioritise(self, trial_id: str) -> bool:
        return move_to_front(self._queue, [trial for trial in self._queue if trial.config.trial_id == trial_id])

    def _draw(self) -> None:
        while not self._queue and self._draws.num_to_come():
            drawn = self._draws.draw({key: self._observe(key) for key in self._draws.known})
            if drawn is not None:
                self._queue.extend(self._begin(drawn))

    def _begin(self, drawn: Drawn) -> tuple[PlannedTrial, ...]:
        """The trials of a configuration that may start."""
        if not self._first_decides:
            return drawn.trials
        self._held[drawn.config_id] = list(drawn.trials[1:])
        return drawn.trials[:1]

    def _end(self, trial: PlannedTrial, status: TrialStatus, score: float | None) -> list[PlannedTrial]:
        """A trial has ended: remember its score; the trials that may start now."""
        config_id = trial.config.config_id
        self._ended.add(config_id)
        if score is not None and math.isfinite(score):
            self._scores.setdefault(config_id, []).append(score)
        if trial.config.seed != self._spec.seeds[0]:
            return []
        held = self._held.pop(config_id, [])
        return held if status == TrialStatus.COMPLETED else []

    def _observe(self, config_id: str) -> Observed:
        scores = self._scores.get(config_id, [])
        has_failed = not scores and config_id in self._ended
        return Observed(statistics.fmean(scores) if scores else None, has_failed=has_failed)

    def most_to_come(self) -> int:
        held = sum(map(len, self._held.values()))
        return len(self._queue) + held + self._draws.num_to_come() * len(self._spec.seeds)

    def _recall(self, history: History) -> Workload:
        """Observe what is done, and queue what is not: interrupted trials first, then those that never started."""
        trials: list[PlannedTrial] = []
        for drawn in self._draws.recall(history):
            trials += drawn.trials
            missing = deque(self._begin(drawn))
            while missing:
                trial = missing.popleft()
                past = history.trials.get(trial.config.trial_id)
                if past is not None and past.is_done:
                    missing.extend(self._end(trial, past.status, past.score))
                else:
                    self._queue.append(trial)
        self._queue = deque(sorted(self._queue, key=lambda trial: trial.config.trial_id not in history.trials))
        num_done = sum(history.is_done(trial.config.trial_id) for trial in trials)
        known = [*self._queue, *(trial for held in self._held.values() for trial in held)]
        longest = {part.level: max(epochs_of(self._spec, part)) for part in list_parts(self._spec)}
        to_draw = {level: self._draws.num_to_come(level) * len(self._spec.seeds) for level in longest}
        num_todo = len(known) + sum(to_draw.values())
        num_epochs = sum(trial.config.epochs for trial in known)
        num_epochs += sum(number * longest[level] for level, number in to_draw.items())
        return Workload(tuple(trials), tuple(self._queue), num_todo, num_done, num_epochs)
