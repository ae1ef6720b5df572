"""Where the next trial comes from: a list drawn beforehand, or Optuna's TPE, asked as results come in; without ray."""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Protocol

from flexres_tune.errors import FlexResError
from flexres_tune.spec import PlannedTrial, SweepSpec
from flexres_tune.sweep.history import History

if TYPE_CHECKING:
    import optuna

MAX_REDRAWS = 200  # TPE repeats itself in small discrete spaces: so many times it is asked for something new


class TrialSearch(Protocol):
    """Hands out trials and hears how they ended."""

    def next(self) -> PlannedTrial | None:
        """The next trial, or None when there are no more."""

    def tell(self, trial: PlannedTrial, score: float | None) -> None:
        """A trial ended with this score (higher is better), or without one."""


class FixedTrials:
    """Trials drawn, checked and ordered before the run."""

    def __init__(self, trials: Iterable[PlannedTrial]):
        self._trials = deque(trials)

    def next(self) -> PlannedTrial | None:
        return self._trials.popleft() if self._trials else None

    def tell(self, trial: PlannedTrial, score: float | None) -> None:
        pass


class TpeSearch:
    """Optuna's TPE (Bergstra et al. 2011), one suggestion a configuration, one trial a seed of the sweep.

    Every seed's result is an observation of its own. Earlier rows of the tables are told first, so a sweep that
    goes on has the same memory as one that was never interrupted. Suggestions over the parameter budget, excluded or
    already run are told as failed and drawn again.
    """

    def __init__(
        self,
        spec: SweepSpec,
        make_trial: Callable[[dict[str, Any], int], PlannedTrial],
    ):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # ours is the only output
        sampler = optuna.samplers.TPESampler(seed=spec.order_seed, constant_liar=True)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._spec = spec
        self._make_trial = make_trial
        self._space = {key: _distribution(d) for key, d in spec.parameters[0].items()}
        self._queue: deque[PlannedTrial] = deque()
        self._known: set[str] = set()
        self._asked: dict[str, optuna.Trial] = {}
        self._params: dict[str, dict[str, Any]] = {}
        self.num_configs = 0
        self.drawn: list[PlannedTrial] = []

    def recall(self, memory: History) -> int:
        """Take in the trials of earlier runs of the same sweep; the number of those that need not be run.

        A trial that was interrupted is handed out again, first. Rows that the sweep file as it is now could not
        have drawn (another base, another parameter) are passed over.
        """
        num_done = 0
        for row in memory.rows.values():
            values = {key: row[key.removeprefix("model.")] for key in self._space}
            try:
                trial = self._make_trial(values, row["seed"])
            except FlexResError:
                continue
            if trial.config.trial_id != row["trial_id"] or row["seed"] not in self._spec.seeds:
                continue
            config_id = row["config_id"]
            if config_id not in self._known:
                self._known.add(config_id)
                self.num_configs += 1
            self._params[config_id] = {key: _plain(value) for key, value in values.items()}
            if memory.is_done(trial.config.trial_id):
                num_done += 1
                self._observe(config_id, memory.scores.get(trial.config.trial_id))
            else:
                self._queue.append(trial)
            self.drawn.append(trial)
        return num_done

    def next(self) -> PlannedTrial | None:
        if not self._queue and self.num_configs < self._spec.num_trials:
            self._queue.extend(self._ask())
        return self._queue.popleft() if self._queue else None

    def tell(self, trial: PlannedTrial, score: float | None) -> None:
        self._observe(trial.config.config_id, score)

    def _ask(self) -> list[PlannedTrial]:
        from optuna.trial import TrialState

        for _ in range(MAX_REDRAWS):
            asked = self._study.ask(self._space)
            try:
                drawn = [self._make_trial(_values(asked.params), seed) for seed in self._spec.seeds]
            except FlexResError:
                self._study.tell(asked, state=TrialState.FAIL)
                continue
            config_id = drawn[0].config.config_id
            if config_id in self._known:
                self._study.tell(asked, state=TrialState.FAIL)
                continue
            self._known.add(config_id)
            self._asked[config_id], self._params[config_id] = asked, dict(asked.params)
            self.num_configs += 1
            self.drawn += drawn
            return drawn
        return []  # the space holds nothing new: the sweep ends with what it has

    def _observe(self, config_id: str, score: float | None) -> None:
        from optuna.trial import TrialState, create_trial

        value = score if score is not None and math.isfinite(score) else None
        asked = self._asked.pop(config_id, None)
        if asked is not None:
            if value is None:
                self._study.tell(asked, state=TrialState.FAIL)
            else:
                self._study.tell(asked, value)
        elif value is not None and config_id in self._params:
            params = self._params[config_id]
            self._study.add_trial(create_trial(params=params, distributions=self._space, value=value))


def _distribution(d) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if d.values is not None:
        return CategoricalDistribution([_plain(value) for value in d.values])
    if d.distribution == "int_uniform":
        return IntDistribution(d.min, d.max)
    return FloatDistribution(d.min, d.max, log=d.distribution == "log_uniform_values")


def _plain(value: Any) -> Any:
    """Optuna's categories must be scalars: lists and mappings travel as JSON text."""
    return value if isinstance(value, str | int | float | bool) or value is None else "\0" + json.dumps(value)


def _values(params: dict[str, Any]) -> dict[str, Any]:
    return {k: json.loads(v[1:]) if isinstance(v, str) and v.startswith("\0") else v for k, v in params.items()}
