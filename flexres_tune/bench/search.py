"""bench search: how often each search policy answers right, and what that costs, on curves whose truth is known.

Curves are drawn, or recorded ones are replayed; nothing is trained. The searches and stopping rules are the real ones,
in an event-driven simulation of slots in which an epoch takes one unit of time.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from flexres_tune.records import TrialStatus
from flexres_tune.search.adaptive import AdaptiveConfirmation
from flexres_tune.search.base import WAIT, Assignment, History, Outcome, PastTrial, Search
from flexres_tune.search.confirmation import best_configs
from flexres_tune.search.early_stopping import AshaRule, StoppingRule
from flexres_tune.search.lists import ListSearch
from flexres_tune.search.rungs import Candidate, Rung, RungSearch, make_asha_rungs, make_brackets, make_rungs
from flexres_tune.spec import PlannedTrial

NUM_FRESH = 15  # fresh seeds that a configuration can be confirmed on
WITHIN = 0.001  # a level's best counts as found if it is at most 0.1 points below the true one


@dataclass(frozen=True)
class SimulatedConfig:
    """What searches read of a trial's configuration, without the cost of hashing one."""

    config_id: str
    trial_id: str
    seed: int
    epochs: int


@dataclass(frozen=True)
class Draw:
    """One sweep's truth and the curves that its trials would have.

    curves: (configurations, seeds, epochs), accuracy as a fraction; NaN from the epoch at which a trial diverges. The
    first `num_seeds` seeds are those of the screening, the others are fresh.
    """

    finals: np.ndarray  # (configurations,) expected score of a full run
    curves: np.ndarray
    levels: np.ndarray  # (configurations,)


@dataclass(frozen=True)
class World:
    """How curves are drawn: accuracy(e) = 0.1 + (final + luck - 0.1) (1 - exp(-(e - delay) / pace)) + noise.

    Accuracies are fractions, and "points" hundredths of them.
    """

    name: str
    num_configs: int = 27  # of each level
    num_levels: int = 1
    epochs: int = 27
    slots: int = 4
    spread: float = 0.01  # standard deviation of the configurations' finals, within a level
    level_spread: float = 0.004
    seed_sd: float = 0.005  # of a trial's luck; an epoch's noise has half of it
    crossing: float = 0.0  # paces differ by up to this share, so slow curves overtake fast ones late
    shrinking: bool = False  # luck and noise in proportion to the error that remains
    plateaus: float = 0.0  # share of configurations that learn nothing for up to a sixth of the epochs
    diverging: float = 0.0  # share of configurations that diverge
    neighbours: float = 0.0  # distance over which the finals of configurations in a row are correlated

    def draw(self, rng: np.random.Generator) -> Draw:
        """One sweep."""
        n, at = self.num_configs * self.num_levels, np.arange(1, self.epochs + 1)
        levels = np.repeat(np.arange(self.num_levels), self.num_configs)
        offsets = self.level_spread * rng.standard_normal(self.num_levels) if self.num_levels > 1 else np.zeros(1)
        finals = 0.9 + offsets[levels] + self.spread * self._standard(n, rng)
        pace = 0.1 * self.epochs * (1 + self.crossing * rng.uniform(-1, 1, n))
        delay = np.where(rng.random(n) < self.plateaus, rng.uniform(0, self.epochs / 6, n), 0.0)
        sd = self.seed_sd * ((1 - finals) / 0.1 if self.shrinking else np.ones(n))
        luck = sd[:, None] * rng.standard_normal((n, 1 + NUM_FRESH))
        rise = 1 - np.exp(-np.maximum(0, at - delay[:, None]) / pace[:, None])  # (n, epochs)
        curves = 0.1 + (finals[:, None] - 0.1 + luck)[..., None] * rise[:, None]
        curves += sd[:, None, None] / 2 * rng.standard_normal(curves.shape)
        for index in np.flatnonzero(rng.random(n) < self.diverging):
            curves[index, :, rng.integers(0, self.epochs) :] = np.nan
            finals[index] = -np.inf
        return Draw(finals, curves, levels)

    def _standard(self, n: int, rng: np.random.Generator) -> np.ndarray:
        if not self.neighbours:
            return rng.standard_normal(n)
        distance = np.subtract.outer(np.arange(n), np.arange(n)) / self.neighbours
        return np.linalg.cholesky(np.exp(-(distance**2)) + 1e-6 * np.eye(n)) @ rng.standard_normal(n)


@dataclass(frozen=True)
class Setup:
    """The trials of a world: those of the screening as candidates, and the fresh runs of each configuration."""

    candidates: tuple[Candidate, ...]
    fresh: tuple[Candidate, ...]
    epochs: int
    slots: int

    @classmethod
    def of(cls, levels: Sequence[int], epochs: int, slots: int) -> Setup:
        """One seed for the screening, NUM_FRESH fresh ones."""

        def candidate(index: int, seeds: Sequence[int]) -> Candidate:
            configs = [SimulatedConfig(f"{index:04d}", f"{index:04d}-{seed}", seed, epochs) for seed in seeds]
            trials = tuple(PlannedTrial(config, {}, 0) for config in configs)
            return Candidate(configs[0].config_id, trials, int(levels[index]))

        indices = range(len(levels))
        screened = tuple(candidate(index, range(1)) for index in indices)
        fresh = tuple(candidate(index, range(1, 1 + NUM_FRESH)) for index in indices)
        return cls(screened, fresh, epochs, slots)

    def curves(self, draw: Draw) -> dict[str, np.ndarray]:
        """The curve of each trial, by trial_id."""
        return {
            trial.config.trial_id: draw.curves[index, trial.config.seed]
            for index in range(len(self.candidates))
            for trial in (*self.candidates[index].trials, *self.fresh[index].trials)
        }

    @property
    def group_sizes(self) -> Counter[Hashable]:
        return Counter(each.group for each in self.candidates)


@dataclass
class Played:
    """What a simulated search did."""

    history: History
    epochs: int
    wall_epochs: int  # until the last trial has ended, in units of an epoch


def play(search: Search, curves: Mapping[str, np.ndarray], slots: int, rule: StoppingRule | None = None) -> Played:
    """Run a search to its end on `slots` slots; `curves` by trial_id, (epochs,)."""
    past: dict[str, PastTrial] = {}
    running: list[tuple[int, int, int, Assignment]] = []  # (time of the next event, order, epoch then, assignment)
    reached: dict[str, int] = {}  # epochs that a trial has trained
    order, now, step = itertools.count(), 0, WAIT
    while True:
        while len(running) < slots and isinstance(step := search.ask(), Assignment):
            start = reached.get(step.trial.config.trial_id, 0)
            epoch = start + 1 if rule else _end(curves[step.trial.config.trial_id], step.until_epoch)
            heapq.heappush(running, (now + epoch - start, next(order), epoch, step))
        if not running:
            return Played(History(past), sum(reached.values()), now)
        now, _, epoch, step = heapq.heappop(running)
        trial_id = step.trial.config.trial_id
        values = curves[trial_id]
        reached[trial_id] = epoch
        status = _status(values, epoch, step, rule)
        if status is None:
            heapq.heappush(running, (now + 1, next(order), epoch + 1, step))
            continue
        past[trial_id] = _past(step.trial, status, values[:epoch])
        search.tell(Outcome(step, status, past[trial_id].score, float(values[epoch - 1])))


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
        best_val_accuracy=score,
        score=score,
        is_done=status.is_final,
    )


@dataclass(frozen=True)
class Policy:
    """A way to screen and a way to confirm.

    screen: the search, and the rule that stops its trials. pauses: whether the screening ends with survivors instead of
    completed trials. top: configurations of each level that are confirmed. num_runs: fresh runs of all of them, divided
    equally, or given one by one if `adaptive`; 0: the screening alone answers.
    """

    name: str
    screen: Callable[[Setup, Sequence[Candidate]], tuple[Search, StoppingRule | None]]
    pauses: bool = False
    top: int = 1
    num_runs: int = 0
    adaptive: bool = False

    def run(self, setup: Setup, curves: Mapping[str, np.ndarray], order: Sequence[int]) -> Run:
        """One simulated sweep; `order`: in which configurations begin."""
        candidates = [setup.candidates[index] for index in order]
        search, rule = self.screen(setup, candidates)
        played = play(search, curves, setup.slots, rule)
        ranked = self._ranked(search, setup, candidates, played.history)
        if not self.num_runs:
            scores = {
                int(key): [played.history.trials[f"{key}-0"].score] for keys in ranked.values() for key in keys[:1]
            }
            return Run(scores, played.epochs, played.wall_epochs)
        kept = [keys[: self.top] for keys in ranked.values()]
        chosen = [setup.fresh[int(key)] for key in _interleave(kept)]
        if self.adaptive:
            confirmation = AdaptiveConfirmation(chosen, max(self.num_runs, len(chosen)))
        else:
            num_seeds = self.num_runs // max(1, len(chosen))
            confirmation = ListSearch([trial for each in chosen for trial in each.trials[:num_seeds]])
        confirmed = play(confirmation, curves, setup.slots)
        scores = {}
        for past in confirmed.history.trials.values():
            if past.score is not None:
                scores.setdefault(int(past.config_id), []).append(past.score)
        return Run(scores, played.epochs + confirmed.epochs, played.wall_epochs + confirmed.wall_epochs)

    def _ranked(
        self, search: Search, setup: Setup, candidates: Sequence[Candidate], history: History
    ) -> dict[Hashable, list[str]]:
        """config_ids of each level, best first."""
        if self.pauses:
            return {group: [each.config_id for each in kept] for group, kept in search.survivors().items()}
        levels: dict[Hashable, list[str]] = {}
        for key in best_configs([trial for each in candidates for trial in each.trials], history):
            levels.setdefault(setup.candidates[int(key)].group, []).append(key)
        return levels


def _interleave(lists: Iterable[Sequence[str]]) -> list[str]:
    return [key for row in itertools.zip_longest(*lists) for key in row if key is not None]


@dataclass(frozen=True)
class Run:
    """What one simulated sweep found: scores of the configurations that its answer compares, and what they cost."""

    scores: Mapping[int, Sequence[float]]  # by index of the configuration
    epochs: int
    wall_epochs: int


def _grid(setup: Setup, candidates: Sequence[Candidate]) -> tuple[Search, StoppingRule | None]:
    return ListSearch([trial for each in candidates for trial in each.trials]), None


def _stopping_asha(setup: Setup, candidates: Sequence[Candidate]) -> tuple[Search, StoppingRule | None]:
    """One ladder for all levels, from epoch R / 9."""
    return _grid(setup, candidates)[0], AshaRule(setup.epochs, max(1, round(setup.epochs / 9)), 3)


def _promotion_asha(setup: Setup, candidates: Sequence[Candidate]) -> tuple[Search, StoppingRule | None]:
    grace = max(1, round(setup.epochs / 9))
    rungs = {group: make_asha_rungs(n, grace, 3, setup.epochs) for group, n in setup.group_sizes.items()}
    return RungSearch(candidates, rungs, setup.epochs, eager=True), None


def _hyperband(setup: Setup, candidates: Sequence[Candidate]) -> tuple[Search, StoppingRule | None]:
    placed, rungs = make_brackets(candidates, max(1, round(setup.epochs / 9)), 3, setup.epochs, 3)
    return RungSearch(placed, rungs, setup.epochs, eager=True), None


def _one_epoch(kept: int) -> Callable[[Setup, Sequence[Candidate]], tuple[Search, StoppingRule | None]]:
    """Egele et al. 2023: one epoch, keep the best."""

    def screen(setup: Setup, candidates: Sequence[Candidate]) -> tuple[Search, StoppingRule | None]:
        return RungSearch(candidates, {group: [Rung(1, kept)] for group in setup.group_sizes}, setup.epochs), None

    return screen


def _rungs(
    kept: int, eager: bool = False, places: Sequence[tuple[int, int]] = (), finish: bool = False
) -> Callable[[Setup, Sequence[Candidate]], tuple[Search, StoppingRule | None]]:
    """Halving or promotion with the computed rungs, or with `places` (epochs, keep)."""

    def screen(setup: Setup, candidates: Sequence[Candidate]) -> tuple[Search, StoppingRule | None]:
        rungs = {
            group: [Rung(*place) for place in places] or make_rungs(n, kept, setup.epochs)
            for group, n in setup.group_sizes.items()
        }
        return RungSearch(candidates, rungs, setup.epochs if finish else None, eager), None

    return screen
