"""Policies of bench search: ways to screen and to confirm, each made of the real searches and stopping rules."""

from __future__ import annotations

import functools
import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from flexres_tune.bench.search.simulation import Played, Setup, play
from flexres_tune.bench.search.worlds import Draw
from flexres_tune.records import TrialStatus
from flexres_tune.search.adaptive import AdaptiveConfirmation
from flexres_tune.search.base import Assignment, History, Outcome, Search, Step
from flexres_tune.search.confirmation import best_configs
from flexres_tune.search.early_stopping import AshaRule, StoppingRule
from flexres_tune.search.ladders import Candidate, Rung, make_asha_rungs, make_brackets, make_rungs
from flexres_tune.search.lists import ListSearch
from flexres_tune.search.methods import make_search
from flexres_tune.search.rungs import RungSearch
from flexres_tune.spec import PlannedTrial, SweepSpec


@dataclass(frozen=True)
class Run:
    """What one simulated sweep found: scores of the configurations that its answer compares, and what they cost."""

    fresh: Mapping[int, Sequence[float]]  # by index of the configuration; one score of the screening if not confirmed
    counted: Mapping[int, float]  # scores of the screening that count as well, in the means only
    epochs: int
    wall_epochs: int
    screened: Mapping[int, float] = field(
        default_factory=dict
    )  # of confirmed configurations: they count in the variance


_Screen = tuple[Search, StoppingRule | None]
_ScreenFactory = Callable[[Setup, Sequence[Candidate], Draw], _Screen]


@dataclass(frozen=True)
class Screened:
    """A screening that was played to its end."""

    search: Search
    played: Played


def screen(factory: _ScreenFactory, setup: Setup, draw: Draw, order: Sequence[int]) -> Screened:
    """Play a screening; `order`: in which configurations begin."""
    search, rule = factory(setup, [setup.candidates[index] for index in order], draw)
    return Screened(search, play(search, draw, setup.slots, rule))


@dataclass(frozen=True)
class Policy:
    """A way to screen and a way to confirm.

    screen: the search, and the rule that stops its trials. pauses: whether the screening's survivors are those of its
    last rung, completed or not. top: configurations of each level that are confirmed. num_runs: fresh runs of all of
    them, divided equally, or given one by one if `adaptive`; 0: the screening alone answers. counts_screening: a
    completed run of the screening counts in the mean that names the best, and in the allocation.
    """

    screen: _ScreenFactory
    pauses: bool = False
    top: int = 1
    num_runs: int = 0
    adaptive: bool = False
    counts_screening: bool = False

    def run(self, setup: Setup, draw: Draw, order: Sequence[int]) -> Run:
        """One simulated sweep; `order`: in which configurations begin."""
        return self.confirm(setup, draw, screen(self.screen, setup, draw, order))

    def confirm(self, setup: Setup, draw: Draw, screened_by: Screened) -> Run:
        """The sweep that continues a screening, which policies with the same `screen` share."""
        search, played = screened_by.search, screened_by.played
        kept = [keys[: self.top] for keys in self._ranked(search, setup, played.history).values()]
        chosen = _interleave(kept)
        scores = _completed(played.history)
        screened = {int(key): scores[key][0] for key in chosen if key in scores}
        if not self.num_runs:
            return Run({key: [value] for key, value in screened.items()}, {}, played.epochs, played.wall_epochs)
        counted = {key: screened[int(key)] for key in chosen if self.counts_screening and int(key) in screened}
        confirmed = play(self._confirmation([setup.fresh[int(key)] for key in chosen], counted), draw, setup.slots)
        fresh = {int(key): values for key, values in _completed(confirmed.history).items()}
        counted = {int(key): score for key, score in counted.items()}
        epochs, wall_epochs = played.epochs + confirmed.epochs, played.wall_epochs + confirmed.wall_epochs
        return Run(fresh, counted, epochs, wall_epochs, screened)

    def _confirmation(self, chosen: Sequence[Candidate], screened: Mapping[str, float]) -> Search:
        if self.adaptive:
            return AdaptiveConfirmation(chosen, self.num_runs, screened=screened)
        num_seeds = self.num_runs // max(1, len(chosen))
        return ListSearch([trial for each in chosen for trial in each.trials[:num_seeds]])

    def _ranked(self, search: Search, setup: Setup, history: History) -> dict[Hashable, list[str]]:
        """config_ids of each level, best first."""
        if self.pauses:
            return {group: [each.config_id for each in kept] for group, kept in search.survivors().items()}
        levels: dict[Hashable, list[str]] = {}
        trials = [trial for each in setup.candidates for trial in each.trials]
        for key in best_configs(trials, history):
            levels.setdefault(setup.candidates[int(key)].group, []).append(key)
        return levels


def _completed(history: History) -> dict[str, list[float]]:
    """Scores of the completed trials, by config_id."""
    scores: dict[str, list[float]] = {}
    for past in history.trials.values():
        if past.status == TrialStatus.COMPLETED and past.score is not None:
            scores.setdefault(past.config_id, []).append(past.score)
    return scores


def _interleave(lists: Iterable[Sequence[str]]) -> list[str]:
    return [key for row in itertools.zip_longest(*lists) for key in row if key is not None]


def _sizes(candidates: Sequence[Candidate]) -> Counter[Hashable]:
    return Counter(each.group for each in candidates)


def _grid(setup: Setup, candidates: Sequence[Candidate], draw: Draw) -> _Screen:
    return ListSearch([trial for each in candidates for trial in each.trials]), None


def _grace(setup: Setup) -> int:
    return max(1, round(setup.epochs / 9))


def _stopping(setup: Setup, candidates: Sequence[Candidate], draw: Draw) -> _Screen:
    """ASHA, stopping form: one ladder for all levels, from epoch R / 9."""
    return _grid(setup, candidates, draw)[0], AshaRule(setup.epochs, _grace(setup), 3)


def _promotion(setup: Setup, candidates: Sequence[Candidate], draw: Draw) -> _Screen:
    """ASHA, promotion form: a ladder for each level, from epoch R / 9."""
    rungs = {group: make_asha_rungs(n, _grace(setup), 3, setup.epochs) for group, n in _sizes(candidates).items()}
    return RungSearch(candidates, rungs, setup.epochs, eager=True), None


def _hyperband(setup: Setup, candidates: Sequence[Candidate], draw: Draw) -> _Screen:
    placed, rungs = make_brackets(candidates, _grace(setup), 3, setup.epochs, 3)
    return RungSearch(placed, rungs, setup.epochs, eager=True), None


@functools.cache
def _one_epoch(kept: int) -> _ScreenFactory:
    """One epoch, keep the best: Egele et al. 2023, "Is One Epoch All You Need for Multi-Fidelity Hyperparameter
    Optimization?"."""

    def screen(setup: Setup, candidates: Sequence[Candidate], draw: Draw) -> _Screen:
        return RungSearch(candidates, {group: [Rung(1, kept)] for group in _sizes(candidates)}, setup.epochs), None

    return screen


@functools.cache
def _halving(kept: int, eager: bool = False) -> _ScreenFactory:
    """Successive halving with the computed rungs, or its promotion form; those that are left run to the end."""

    def screen(setup: Setup, candidates: Sequence[Candidate], draw: Draw) -> _Screen:
        rungs = {group: make_rungs(n, kept, setup.epochs) for group, n in _sizes(candidates).items()}
        return RungSearch(candidates, rungs, setup.epochs, eager), None

    return screen


@functools.cache
def _early_rungs(kept: int) -> _ScreenFactory:
    """Halving with seven rungs before the half; those that are left pause there, and only fresh seeds count."""

    def screen(setup: Setup, candidates: Sequence[Candidate], draw: Draw) -> _Screen:
        places = sorted({max(1, round(setup.epochs * (0.19 + 0.0433 * k))) for k in range(7)})
        rungs = {}
        for group, n in _sizes(candidates).items():
            share = (min(kept, n) / n) ** (1 / len(places))
            rungs[group] = [Rung(place, math.ceil(n * share ** (k + 1) - 1e-9)) for k, place in enumerate(places)]
        return RungSearch(candidates, rungs, None), None

    return screen


class SimulatedTpe(Search):
    """Method tpe on a surface of known truth: its trials become those of configurations that are added to the draw.

    If the candidates have several levels, they are compared: the batch size stands for what tells them apart.
    """

    def __init__(self, setup: Setup, candidates: Sequence[Candidate], draw: Draw, early_terminate: Any = "none"):
        self._setup, self._draw = setup, draw
        levels = sorted(_sizes(candidates))
        lr = {"min": 1e-3, "max": 1.0, "distribution": "log_uniform_values"}
        compared = {"batch_size": {"values": [1 + level for level in levels]}} if len(levels) > 1 else {}
        confirmed = _COUNTED_LEVELS if compared else _COUNTED
        values = {
            "name": "surface",
            "method": "tpe",
            "num_trials": len(candidates),
            "order_seed": int(draw.curves[0, 0, 0] * 1e9) % 2**31,
            "base": {"model": "tiny", "dataset": "digits", "epochs": setup.epochs},
            "parameters": [{"lr": lr, "mixup_alpha": {"min": 0.0, "max": 0.5}} | compared],
            "compare": list(compared),
            "early_terminate": early_terminate,
            "confirm": {name: confirmed[name] for name in ("top", "num_runs")},
        }
        self._search = make_search(SweepSpec.model_validate(values), (), History())
        self.work = self._search.work
        self._simulated: dict[str, PlannedTrial] = {}  # by trial_id of the search's trial
        self._asked: dict[str, Assignment] = {}  # by trial_id of the simulated trial

    def ask(self) -> Assignment | Step:
        step = self._search.ask()
        if not isinstance(step, Assignment):
            return step
        config = step.trial.config
        if config.trial_id not in self._simulated:
            level = step.trial.varied.get("batch_size", 1) - 1
            index = self._draw.add_config({"lr": config.lr, "mixup_alpha": config.mixup_alpha}, level)
            self._simulated[config.trial_id] = self._setup.candidates[index].trials[0]
        trial = self._simulated[config.trial_id]
        self._asked[trial.config.trial_id] = step
        return Assignment(trial, step.until_epoch)

    def tell(self, outcome: Outcome) -> None:
        self._search.tell(replace(outcome, assignment=self._asked[outcome.assignment.trial.config.trial_id]))


def _tpe(setup: Setup, candidates: Sequence[Candidate], draw: Draw) -> _Screen:
    return SimulatedTpe(setup, candidates, draw), None


def _stopping_tpe(setup: Setup, candidates: Sequence[Candidate], draw: Draw) -> _Screen:
    return SimulatedTpe(setup, candidates, draw), _stopping(setup, candidates, draw)[1]


def _pausing_tpe(early_terminate: Any) -> _ScreenFactory:
    """TPE with rungs, which pause what it draws."""

    def screen(setup: Setup, candidates: Sequence[Candidate], draw: Draw) -> _Screen:
        return SimulatedTpe(setup, candidates, draw, early_terminate), None

    return screen


_FIXED = {"top": 3, "num_runs": 15}
_ADAPTIVE = {"top": 5, "num_runs": 15, "adaptive": True}
_COUNTED = {"top": 6, "num_runs": 11, "adaptive": True, "counts_screening": True}
_COUNTED_LEVELS = {"top": 2, "num_runs": 17, "adaptive": True, "counts_screening": True}

POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "full grid": Policy(_grid),
        "full grid, 3 x 5": Policy(_grid, **_FIXED),
        "full grid, adaptive": Policy(_grid, **_ADAPTIVE),
        "stopping ASHA": Policy(_stopping),
        "stopping ASHA, 3 x 5": Policy(_stopping, **_FIXED),
        "stopping ASHA, adaptive": Policy(_stopping, **_ADAPTIVE),
        "one epoch, 3 x 5": Policy(_one_epoch(8), **_FIXED),
        "one epoch, adaptive": Policy(_one_epoch(8), **_ADAPTIVE),
        "promotion ASHA, 3 x 5": Policy(_promotion, **_FIXED),
        "promotion ASHA, adaptive": Policy(_promotion, **_ADAPTIVE),
        "Hyperband, 3 x 5": Policy(_hyperband, **_FIXED),
        "Hyperband, adaptive": Policy(_hyperband, **_ADAPTIVE),
        "early rungs, adaptive": Policy(_early_rungs(5), pauses=True, top=5, num_runs=16, adaptive=True),
        "halving": Policy(_halving(6)),
        "halving, 3 x 5": Policy(_halving(3), **_FIXED),
        "halving, adaptive": Policy(_halving(6), **_COUNTED),
        "halving, 5 runs": Policy(_halving(6), **_COUNTED | {"num_runs": 5}),
        "halving, top 8, 15 runs": Policy(_halving(8), **_COUNTED | {"top": 8, "num_runs": 15}),
        "eager halving, adaptive": Policy(_halving(6, eager=True), **_COUNTED),
    }
)
"""The defaults of the sweep file are those of `halving, adaptive`. With 5 runs it takes fewer epochs than stopping ASHA
with 3 x 5 on the recorded curves."""

SURFACE_POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "TPE": Policy(_tpe),
        "TPE, 3 x 5": Policy(_tpe, **_FIXED),
        "TPE, adaptive": Policy(_tpe, **_COUNTED),
        "TPE, stopping ASHA": Policy(_stopping_tpe),
        "TPE, stopping ASHA, 3 x 5": Policy(_stopping_tpe, **_FIXED),
        "TPE, stopping ASHA, adaptive": Policy(_stopping_tpe, **_COUNTED),
        "TPE, promotion ASHA, adaptive": Policy(_pausing_tpe({"type": "asha", "variant": "promotion"}), **_COUNTED),
        "TPE, halving, adaptive": Policy(_pausing_tpe("halving"), **_COUNTED),
        **{name: POLICIES[name] for name in ("full grid", "stopping ASHA, 3 x 5", "halving, adaptive")},
    }
)
"""Policies of a world in which a search can learn where to look; the last ones have configurations drawn at random."""

LEVEL_POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "full grid": Policy(_grid),
        "full grid, 1 x 4": Policy(_grid, top=1, num_runs=24),
        "stopping ASHA": Policy(_stopping),
        "stopping ASHA, 1 x 4": Policy(_stopping, top=1, num_runs=24),
        "one epoch, adaptive": Policy(_one_epoch(2), top=2, num_runs=24, adaptive=True),
        "promotion ASHA, adaptive": Policy(_promotion, top=2, num_runs=24, adaptive=True),
        "early rungs, adaptive": Policy(_early_rungs(2), pauses=True, top=2, num_runs=24, adaptive=True),
        "halving, 1 x 3": Policy(_halving(1), top=1, num_runs=18),
        "halving, adaptive": Policy(_halving(2), **_COUNTED_LEVELS),
        "halving, top 1, 12 runs": Policy(_halving(1), top=1, num_runs=12, adaptive=True, counts_screening=True),
        "halving, top 1, 8 runs": Policy(_halving(1), top=1, num_runs=8, adaptive=True, counts_screening=True),
        "eager halving, adaptive": Policy(_halving(2, eager=True), **_COUNTED_LEVELS),
    }
)
"""Policies of worlds with several levels. That of `bench headline` is `halving, top 1, 8 runs`."""

SURFACE_LEVEL_POLICIES: Mapping[str, Policy] = MappingProxyType(
    {
        "TPE": Policy(_tpe),
        "full grid": Policy(_grid),
        "TPE, halving, adaptive": Policy(_pausing_tpe("halving"), **_COUNTED_LEVELS),
        "halving, adaptive": Policy(_halving(2), **_COUNTED_LEVELS),
    }
)
"""Policies of levels in each of which a search can learn where to look; the others have configurations drawn at random."""
