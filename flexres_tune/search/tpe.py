"""Method tpe: Optuna's TPE sampler, asked for a configuration whenever none can continue and a slot is free."""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.errors import FlexResError
from flexres_tune.records import TrialStatus
from flexres_tune.search.base import DONE, WAIT, Assignment, History, Outcome, Search, Step, Workload
from flexres_tune.search.lists import move_to_front
from flexres_tune.spec import Distribution, PlannedTrial, SweepSpec, trial_from_assignment

if TYPE_CHECKING:
    import optuna

MAX_REDRAWS = 200  # TPE repeats itself in small discrete spaces; after so many useless draws the space is exhausted


@dataclass(frozen=True)
class Drawn:
    """A configuration that TPE has drawn: its values as Optuna has them, and a trial per seed of the sweep."""

    config_id: str
    params: Mapping[str, Any]
    trials: tuple[PlannedTrial, ...]


@dataclass(frozen=True)
class Observed:
    """What TPE knows of a configuration: means over its seeds, higher is better.

    A configuration without any score, which has not failed, is running: TPE then assumes that it is bad, so that the
    next draw goes elsewhere (`constant_liar`).
    """

    score: float | None = None  # of trials that have ended
    rungs: Mapping[int, float] = field(default_factory=dict)  # of paused trials, by epoch
    has_failed: bool = False  # it counts as the worst one


class TpeDraws:
    """Draws configurations by TPE (Bergstra et al. 2011) as a function of what was observed, and of nothing else.

    Optuna's study is built anew for each draw, and its random numbers follow from `order_seed` and the number of
    configurations known. So a driver that was killed draws the same after a restart, and a paused configuration can
    count by what it has reached so far: Optuna ranks one that was paused at a later rung above those of earlier rungs,
    and one that ran to its end above all of them. Deviation from Optuna's loop: the study has the configurations in the
    order of their ids, because the tables do not tell that of the draws. Of more than 25, Optuna gives the first ones a
    lower weight.
    """

    def __init__(self, spec: SweepSpec):
        self._spec = spec
        self._space = {key: _optuna_distribution(d) for key, d in spec.parameters[0].items()}

    def recall(self, history: History) -> list[Drawn]:
        """The configurations that earlier runs have drawn, in the order of their first rows.

        Those that the sweep file as it is now cannot draw (another base, another parameter, a narrower range) are left
        out.
        """
        found: dict[str, Drawn] = {}
        for past in history.trials.values():
            if past.config_id in found or past.seed not in self._spec.seeds or not past.values:
                continue
            try:
                drawn = self._make({key: _to_scalar(past.values[key]) for key in self._space})
            except FlexResError:
                continue
            if drawn.config_id == past.config_id and self._is_in_space(drawn.params):
                found[past.config_id] = drawn
        return list(found.values())

    def draw(self, known: Mapping[str, Drawn], observed: Mapping[str, Observed]) -> Drawn | None:
        """A configuration that is not known yet; None if the space holds no further one.

        A suggestion that is over the parameter budget, excluded or known is told to the study as failed, and another
        one is drawn. `observed` has the known configurations by config_id.
        """
        from optuna.trial import TrialState

        study = self._study(known, observed)
        for _ in range(MAX_REDRAWS):
            asked = study.ask(self._space)
            try:
                drawn = self._make(asked.params)
            except FlexResError:
                drawn = None
            if drawn is not None and drawn.config_id not in known:
                return drawn
            study.tell(asked, state=TrialState.FAIL)
        return None

    def _is_in_space(self, params: Mapping[str, Any]) -> bool:
        try:
            self._freeze(params, Observed())
        except ValueError:
            return False
        return True

    def _make(self, params: Mapping[str, Any]) -> Drawn:
        values = {key: _from_scalar(value) for key, value in params.items()}
        trials = [trial_from_assignment(self._spec, values, seed, describe_dataset) for seed in self._spec.seeds]
        return Drawn(trials[0].config.config_id, dict(params), tuple(trials))

    def _study(self, known: Mapping[str, Drawn], observed: Mapping[str, Observed]) -> optuna.Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # the command prints its own messages
        digest = hashlib.sha256(f"{self._spec.order_seed} {len(known)}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials([self._freeze(known[key].params, observed[key]) for key in sorted(known)])
        return study

    def _freeze(self, params: Mapping[str, Any], observed: Observed) -> optuna.trial.FrozenTrial:
        from optuna.trial import TrialState, create_trial

        if observed.score is not None:
            state = TrialState.COMPLETE
        else:
            state = TrialState.PRUNED if observed.rungs or observed.has_failed else TrialState.RUNNING
        return create_trial(
            state=state,
            value=observed.score,
            params=dict(params),
            distributions=self._space,
            # A failed one keeps no value, so that it comes after all paused ones.
            intermediate_values={} if observed.has_failed else dict(observed.rungs),
        )


class TpeSearch(Search):
    """TPE over trials that run to their end, unless a stopping rule ends them.

    If a rule stops trials, it judges the first seed of a configuration, and the other seeds follow if that one has run
    to its end, as in FirstSeedSearch. TPE learns the mean over the seeds that have ended.
    """

    def __init__(self, spec: SweepSpec, history: History | None = None):
        self._spec, self._draws = spec, TpeDraws(spec)
        self._first_decides = spec.early_terminate.type != "none" and len(spec.seeds) > 1
        self._known: dict[str, Drawn] = {}
        self._scores: dict[str, list[float]] = {}  # by config_id, of the trials that have ended with one
        self._ended: set[str] = set()  # config_ids of all trials that have ended
        self._held: dict[str, list[PlannedTrial]] = {}  # further seeds, which wait for the first one
        self._queue: deque[PlannedTrial] = deque()
        self._num_running = 0
        self._is_exhausted = False
        self.work = self._recall(history or History())

    def ask(self) -> Assignment | Step:
        if not self._queue:
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
        if self._is_exhausted or len(self._known) >= self._spec.num_trials:
            return
        drawn = self._draws.draw(self._known, {key: self._observe(key) for key in self._known})
        if drawn is None:
            self._is_exhausted = True
            return
        self._queue.extend(self._begin(drawn))

    def _begin(self, drawn: Drawn) -> tuple[PlannedTrial, ...]:
        """The trials of a configuration that may start."""
        self._known[drawn.config_id] = drawn
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
        num_more = 0 if self._is_exhausted else max(0, self._spec.num_trials - len(self._known))
        held = sum(map(len, self._held.values()))
        return len(self._queue) + held + num_more * len(self._spec.seeds)

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
        num_to_draw = max(0, self._spec.num_trials - len(self._known)) * len(self._spec.seeds)
        num_todo = len(self._queue) + sum(map(len, self._held.values())) + num_to_draw
        num_epochs = num_todo * self._spec.base.get("epochs", 20)
        return Workload(tuple(trials), tuple(self._queue), num_todo, num_done, num_epochs)


def _optuna_distribution(d: Distribution) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if d.values is not None:
        return CategoricalDistribution([_to_scalar(value) for value in d.values])
    if d.distribution == "int_uniform":
        return IntDistribution(d.min, d.max)
    return FloatDistribution(d.min, d.max, log=d.distribution == "log_uniform_values")


def _to_scalar(value: Any) -> Any:
    """Optuna's categories must be scalars: lists and mappings become JSON text, marked by a NUL character."""
    return value if isinstance(value, str | int | float | bool) or value is None else "\0" + json.dumps(value)


def _from_scalar(value: Any) -> Any:
    return json.loads(value[1:]) if isinstance(value, str) and value.startswith("\0") else value
