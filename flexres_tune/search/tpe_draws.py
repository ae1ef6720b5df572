"""Draws of method tpe: configurations by Optuna's TPE sampler, as many from each level of `compare`, in turn."""

from __future__ import annotations

import hashlib
import itertools
import json
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.errors import FlexResError
from flexres_tune.search.base import History
from flexres_tune.spec import Distribution, PlannedTrial, SweepSpec, trial_from_assignment
from flexres_tune.spec.levels import epochs_of, list_parts, num_configs_of, share_draws, shared_value

if TYPE_CHECKING:
    import optuna

MAX_REDRAWS = 200  # TPE repeats itself in small discrete spaces; after so many useless draws the space is exhausted
MIN_OWN_DRAWS = 15  # of a part, from which on it does not draw from the evidence of others
NUM_RANDOM = 10  # configurations of a study before which it draws at random: Optuna's default
NUM_RANDOM_OF_A_PART = 5  # the same of a part that shares no evidence, because levels have few draws each
MAX_RECALLED = 1_000  # combinations of listed values that are tried to find what a row of the tables was drawn from


@dataclass(frozen=True)
class Drawn:
    """A configuration that TPE has drawn: its values as Optuna has them, and a trial per seed of the sweep."""

    config_id: str
    level: str
    params: Mapping[str, Any]  # of the parameters that are not compared
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

    Each level gets its share of `num_trials`, and the level with the fewest configurations draws next; within it, the
    mapping of `parameters` with the fewest ones. Such a part of a level draws from the evidence of all parts that have
    the same other parameters, until it has MIN_OWN_DRAWS configurations of its own, and then from these alone. Scores of
    several levels are taken relative to the mean of their level: without that, TPE would look in every level where the
    best level is good. Optuna's PartialFixedSampler, which fixes the level of a draw, ranks the scores of all levels as
    they are. `bench search --world "6 surfaces"` simulates such a sweep.

    Optuna's study is built anew for each draw, and its random numbers follow from `order_seed` and the number of
    configurations known. So a driver that was killed draws the same after a restart, and a paused configuration can
    count by what it has reached so far: Optuna ranks one that was paused at a later rung above those of earlier rungs,
    and one that ran to its end above all of them. Deviation from Optuna's loop: the study has the configurations in the
    order of their ids, because the tables do not tell that of the draws. Of more than 25, Optuna gives the first ones a
    lower weight.
    """

    def __init__(self, spec: SweepSpec):
        self._spec, self._parts, self._shares = spec, list_parts(spec), share_draws(spec)
        self._members: list[list[str]] = [[] for _ in self._parts]  # config_ids that each part has drawn
        self._sizes = [num_configs_of(spec, part) for part in self._parts]
        kinds = [(self._free(index), epochs_of(spec, part)) for index, part in enumerate(self._parts)]
        # By index of a part: indices of those that draw the same parameters.
        self._alike = [[i for i, each in enumerate(kinds) if each == kind] for kind in kinds]
        self._is_open = [True] * len(self._parts)  # whether a part may hold a further configuration
        self.known: dict[str, Drawn] = {}  # by config_id

    def num_to_come(self, level: str | None = None) -> int:
        """Configurations that are still to be drawn, of a level or of all."""
        return sum(map(self._num_left, self._shares if level is None else [level]))

    def recall(self, history: History) -> list[Drawn]:
        """Know the configurations that earlier runs have drawn, in the order of their first rows.

        Those that the sweep file as it is now cannot draw (another base, another parameter, a narrower range) are left
        out.
        """
        for past in history.trials.values():
            if past.config_id not in self.known and past.seed in self._spec.seeds and past.values:
                for index in range(len(self._parts)):
                    if (drawn := self._find(index, past.config_id, past.values)) is not None:
                        self._know(index, drawn)
                        break
        return list(self.known.values())

    def draw(self, observed: Mapping[str, Observed]) -> Drawn | None:
        """Know a further configuration, of the level whose turn it is; None if its part holds none, and is now closed.

        A suggestion that is over the parameter budget, excluded, known, or also in an earlier part is told to the study
        as failed, and another one is drawn. `observed` has the known configurations by config_id.
        """
        from optuna.trial import TrialState

        index = self._next_part()
        study, space = self._study(index, observed), self._space(index)
        for _ in range(MAX_REDRAWS):
            asked = study.ask(space)
            drawn = self._make(index, asked.params)
            if drawn is not None and drawn.config_id not in self.known and not self._is_in_earlier_part(index, drawn):
                self._know(index, drawn)
                return drawn
            study.tell(asked, state=TrialState.FAIL)
        self._is_open[index] = False
        return None

    def _know(self, index: int, drawn: Drawn) -> None:
        self.known[drawn.config_id] = drawn
        self._members[index].append(drawn.config_id)
        self._is_open[index] = len(self._members[index]) < self._sizes[index]

    def _next_part(self) -> int:
        """Index of the part that draws next."""
        able = [i for i, part in enumerate(self._parts) if self._is_open[i] and self._num_left(part.level)]
        order = list(self._shares)

        def rank(index: int) -> tuple[int, ...]:
            level = self._parts[index].level
            return self._num_known(level), order.index(level), len(self._members[index]), index

        return min(able, key=rank)

    def _num_known(self, level: str) -> int:
        return sum(len(self._members[i]) for i, part in enumerate(self._parts) if part.level == level)

    def _num_left(self, level: str) -> int:
        is_open = any(self._is_open[i] for i, part in enumerate(self._parts) if part.level == level)
        return max(0, self._shares[level] - self._num_known(level)) if is_open else 0

    def _is_in_earlier_part(self, index: int, drawn: Drawn) -> bool:
        """A row of the tables does not say which part drew it, so the first one that has it counts."""
        varied = drawn.trials[0].varied
        values = {key: varied.get(key, shared_value(self._spec, key)) for grid in self._spec.parameters for key in grid}
        return any(self._find(earlier, drawn.config_id, values) for earlier in range(index))

    def _find(self, index: int, config_id: str, values: Mapping[str, Any]) -> Drawn | None:
        """The configuration as a part draws it; None if it cannot. `values` as a row has them, by key of the sweep file.

        A row has some values in another form than the sweep file, such as the name of a model that is a mapping there. So
        if the sweep file does not list the row's value, every listed one is tried.
        """
        part, options = self._parts[index], []
        grid = self._spec.parameters[part.grid]
        for key, distribution in grid.items():
            value = _to_scalar(values.get(key))
            listed = [value] if _holds(distribution, value) else [*map(_to_scalar, distribution.values or ())]
            is_fixed = key in part.fixed
            options.append([each for each in listed if not is_fixed or each == _to_scalar(part.fixed[key])])
        for chosen in itertools.islice(itertools.product(*options), MAX_RECALLED):
            drawn = self._make(index, dict(zip(grid, chosen, strict=True)))
            if drawn is not None and drawn.config_id == config_id:
                return drawn
        return None

    def _make(self, index: int, params: Mapping[str, Any]) -> Drawn | None:
        """None if the trial cannot be: its values contradict each other, it is excluded, or its model is too large."""
        part = self._parts[index]
        grid = self._spec.parameters[part.grid]
        values = {key: part.fixed[key] if key in part.fixed else _from_scalar(params[key]) for key in grid}
        try:
            trials = [trial_from_assignment(self._spec, values, seed, describe_dataset) for seed in self._spec.seeds]
        except FlexResError:
            return None
        free = {key: value for key, value in params.items() if key not in part.fixed}
        return Drawn(trials[0].config.config_id, part.level, free, tuple(trials))

    def _free(self, index: int) -> dict[str, Distribution]:
        """What TPE draws of a part: its parameters that are not compared."""
        part = self._parts[index]
        return {key: each for key, each in self._spec.parameters[part.grid].items() if key not in part.fixed}

    def _space(self, index: int) -> dict[str, optuna.distributions.BaseDistribution]:
        return {key: _optuna_distribution(each) for key, each in self._free(index).items()}

    def _study(self, index: int, observed: Mapping[str, Observed]) -> optuna.Study:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)  # the command prints its own messages
        digest = hashlib.sha256(f"{self._spec.order_seed} {len(self.known)}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        evidence = self._evidence(index, observed)
        is_alone = len(self._parts) > 1 and len(self._alike[index]) == 1
        num_random = NUM_RANDOM_OF_A_PART if is_alone else NUM_RANDOM
        sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=num_random)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        space = self._space(index)
        study.add_trials([_freeze(self.known[key].params, space, evidence[key]) for key in sorted(evidence)])
        return study

    def _evidence(self, index: int, observed: Mapping[str, Observed]) -> dict[str, Observed]:
        """What a part draws from, by config_id."""
        alike = self._alike[index]
        if len(alike) == 1 or len(self._members[index]) >= MIN_OWN_DRAWS:
            return {key: observed[key] for key in self._members[index]}
        return {
            key: each
            for one in alike
            for key, each in _relative({key: observed[key] for key in self._members[one]}).items()
        }


def _relative(observed: Mapping[str, Observed]) -> dict[str, Observed]:
    """Scores less the mean of all that have ended, and of all that have reached the same rung."""
    ended = [each.score for each in observed.values() if each.score is not None]
    by_epoch: dict[int, list[float]] = {}
    for epoch, score in ((epoch, score) for each in observed.values() for epoch, score in each.rungs.items()):
        by_epoch.setdefault(epoch, []).append(score)
    mean = statistics.fmean(ended) if ended else 0.0
    means = {epoch: statistics.fmean(scores) for epoch, scores in by_epoch.items()}
    return {
        key: replace(
            each,
            score=None if each.score is None else each.score - mean,
            rungs={epoch: score - means[epoch] for epoch, score in each.rungs.items()},
        )
        for key, each in observed.items()
    }


def _freeze(
    params: Mapping[str, Any], space: Mapping[str, optuna.distributions.BaseDistribution], observed: Observed
) -> optuna.trial.FrozenTrial:
    from optuna.trial import TrialState, create_trial

    if observed.score is not None:
        state = TrialState.COMPLETE
    else:
        state = TrialState.PRUNED if observed.rungs or observed.has_failed else TrialState.RUNNING
    return create_trial(
        state=state,
        value=observed.score,
        params=dict(params),
        distributions=dict(space),
        # A failed one keeps no value, so that it comes after all paused ones.
        intermediate_values={} if observed.has_failed else dict(observed.rungs),
    )


def _optuna_distribution(d: Distribution) -> optuna.distributions.BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if d.values is not None:
        return CategoricalDistribution([_to_scalar(value) for value in d.values])
    if d.distribution == "int_uniform":
        return IntDistribution(d.min, d.max)
    return FloatDistribution(d.min, d.max, log=d.distribution == "log_uniform_values")


def _holds(d: Distribution, value: Any) -> bool:
    if d.values is not None:
        return any(_to_scalar(each) == value for each in d.values)
    return isinstance(value, int | float) and d.min <= value <= d.max


def _to_scalar(value: Any) -> Any:
    """Optuna's categories must be scalars: lists and mappings become JSON text, marked by a NUL character."""
    return value if isinstance(value, str | int | float | bool) or value is None else "\0" + json.dumps(value)


def _from_scalar(value: Any) -> Any:
    return json.loads(value[1:]) if isinstance(value, str) and value.startswith("\0") else value
