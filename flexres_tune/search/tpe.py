"""Method tpe: Optuna's TPE sampler, asked for a configuration whenever a trial may start."""

from __future__ import annotations

import json
import math
from collections import deque
from typing import TYPE_CHECKING, Any

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.errors import FlexResError
from flexres_tune.search.base import DONE, Assignment, History, Outcome, Search, Step, Workload
from flexres_tune.spec import Distribution, PlannedTrial, SweepSpec, trial_from_assignment

if TYPE_CHECKING:
    import optuna

MAX_REDRAWS = 200  # TPE repeats itself in small discrete spaces; after so many useless draws the space is exhausted


class TpeSearch(Search):
    """Optuna's TPE (Bergstra et al. 2011): one suggestion per configuration, one trial per seed of the sweep.

    Every seed's result is an observation of its own. The study is first told the trials of earlier runs, so a resumed
    sweep knows what an uninterrupted one would. A suggestion that is over the parameter budget, excluded or already run
    is told to the study as failed, and another one is drawn.
    """

    def __init__(self, spec: SweepSpec, history: History | None = None):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # the command prints its own messages
        sampler = optuna.samplers.TPESampler(seed=spec.order_seed, constant_liar=True)
        self._study = optuna.create_study(direction="maximize", sampler=sampler)
        self._spec = spec
        self._space = {key: _optuna_distribution(d) for key, d in spec.parameters[0].items()}
        self._queue: deque[PlannedTrial] = deque()
        self._known: set[str] = set()  # config_ids that were drawn
        self._asked: dict[str, optuna.Trial] = {}  # by config_id, until the first result
        self._params: dict[str, dict[str, Any]] = {}  # by config_id, as Optuna has them
        self.work = self._recall(history or History())

    def ask(self) -> Assignment | Step:
        if not self._queue and len(self._known) < self._spec.num_trials:
            self._queue.extend(self._draw())
        return Assignment.whole(self._queue.popleft()) if self._queue else DONE

    def tell(self, outcome: Outcome) -> None:
        self._observe(outcome.assignment.trial.config.config_id, outcome.score)

    def _recall(self, history: History) -> Workload:
        """Observe what is done, and queue what was interrupted, to be run first.

        Trials that the sweep file as it is now cannot draw (another base, another parameter) are ignored.
        """
        trials: list[PlannedTrial] = []
        num_done = 0
        for past in history.trials.values():
            try:
                trial = trial_from_assignment(self._spec, past.values, past.seed, describe_dataset)
            except FlexResError:
                continue
            if trial.config.trial_id != past.trial_id or past.seed not in self._spec.seeds:
                continue
            self._known.add(past.config_id)
            self._params[past.config_id] = {key: _to_scalar(past.values[key]) for key in self._space}
            trials.append(trial)
            if past.is_done:
                num_done += 1
                self._observe(past.config_id, past.score)
            else:
                self._queue.append(trial)
        num_todo = max(0, self._spec.num_trials * len(self._spec.seeds) - num_done)
        num_epochs = num_todo * self._spec.base.get("epochs", 20)
        return Workload(tuple(trials), tuple(self._queue), num_todo, num_done, num_epochs)

    def _draw(self) -> list[PlannedTrial]:
        """A configuration that was not drawn before, with each seed; [] if the space holds no new one."""
        from optuna.trial import TrialState

        for _ in range(MAX_REDRAWS):
            asked = self._study.ask(self._space)
            values = {key: _from_scalar(value) for key, value in asked.params.items()}
            try:
                trials = [
                    trial_from_assignment(self._spec, values, seed, describe_dataset) for seed in self._spec.seeds
                ]
            except FlexResError:
                self._study.tell(asked, state=TrialState.FAIL)
                continue
            config_id = trials[0].config.config_id
            if config_id in self._known:
                self._study.tell(asked, state=TrialState.FAIL)
                continue
            self._known.add(config_id)
            self._asked[config_id], self._params[config_id] = asked, dict(asked.params)
            return trials
        return []

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
