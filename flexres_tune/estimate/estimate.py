"""Estimate: how many epochs, how much device time and how much time a sweep will take, before it runs.

The search itself is run on drawn curves, in an event-driven simulation of the slots, a few times with other luck: its
rungs, early stops and waiting slots are those that the sweep will have. Seconds per epoch are those of earlier trials
of the same shape, or those that `--measure` has measured.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.estimate.speeds import Speed, SpeedBook, shape_of
from flexres_tune.records import LeftOut, TrialStatus
from flexres_tune.search.base import Assignment, History, Outcome, PastTrial, Search
from flexres_tune.search.budget import Spent, make_budgeted_searches
from flexres_tune.search.confirmation import make_confirmation
from flexres_tune.search.early_stopping import StoppingRule, make_rule
from flexres_tune.search.final import final_trial, make_final
from flexres_tune.search.methods import make_search
from flexres_tune.search.tpe_draws import TpeDraws
from flexres_tune.spec import PlannedTrial, SweepSpec
from flexres_tune.spec.expand import baseline_trial, example_trials
from flexres_tune.spec.levels import level_of
from flexres_tune.spec.trial import NO_SPLIT
from flexres_tune.text import format_duration, join_words, plural

NUM_DRAWS = 4  # simulated runs of the search
MAX_SIMULATED_EPOCHS = 6_000  # of a sweep, more take too long for a dry run
SPEED_ERROR = 0.15  # by which seconds per epoch differ from one hour to the next on a machine
RAY_START_S = 8.0  # from Enter until Ray runs
NOISE = 0.05  # standard deviation of a drawn curve, in units of the spread of the configurations


@dataclass(frozen=True)
class Simulated:
    """One simulated run of a sweep."""

    num_epochs: int
    trial_seconds: float  # of training, sum over the trials, as the tables have it: without what starts a trial
    wall_seconds: float
    left_out: LeftOut = field(default_factory=LeftOut)


@dataclass(frozen=True)
class _Config:
    """What searches read of a configuration, without the cost of hashing one."""

    config_id: str
    seed: int
    epochs: int
    model: Hashable = None
    images: str = ""
    num_train_images: int | None = None
    batch_size: int = 0
    augmentation: tuple[str, ...] = ()
    val_split: str = ""  # of the final run alone, which has the config_id of the winner here

    @property
    def trial_id(self) -> str:
        return f"{self.config_id}-{self.seed}{self.val_split}"

    def model_copy(self, update: Mapping[str, Any]) -> _Config:
        return replace(self, **update)


class Simulation:
    """The trials of a sweep with drawn curves, on a number of slots.

    Args:
        sweep: what is simulated is what the command would still run of it.
        speeds: None for one second per epoch.
        device_share: the part of a device that a trial holds.
    """

    def __init__(
        self,
        spec: SweepSpec,
        sweep: EstimatedSweep,
        num_slots: int,
        speeds: SpeedBook | None,
        device_share: float = 1.0,
    ):
        self._spec, self._num_slots = spec, num_slots
        self._device_share, self._spent = device_share, dict(sweep.spent)
        self._trials = [
            *(replace(trial, config=_light(trial)) for trial in sweep.trials),
            # each of the stand-ins is to be a configuration with all its seeds
            *(_number(replace(each, config=_light(each)), k, spec.seeds) for k, each in enumerate(sweep.stand_ins)),
        ]
        self._past = dict(sweep.history.trials) | _past_final_runs(spec, sweep)
        self._speeds: dict[str, Speed] = {}  # by config_id
        baseline = baseline_trial(spec, describe_dataset)
        extra = [] if baseline is None else [(baseline, baseline)]
        for trial, light in [*extra, *zip(sweep.all, self._trials, strict=True)]:
            found = speeds.of(shape_of(trial.config)) if speeds else None
            self._speeds[light.config.config_id] = found or Speed(1.0, 0.0)

    def run(self, seed: int) -> Simulated:
        """Screening and confirmation, with the luck of `seed`."""
        rng = random.Random(seed)
        quality: dict[str, float] = {}

        def score(config: _Config, epoch: int) -> float:
            final = quality.setdefault(config.config_id, rng.random())
            return (final + NOISE * rng.gauss(0, 1)) * epoch / (epoch + 2)

        spec, screened = self._spec, dict(self._past)
        listed = spec.model_copy(update={"method": "grid"}) if spec.method == "tpe" else spec
        rules: dict[int, StoppingRule] = {}

        def rule(epochs: int) -> StoppingRule:
            if epochs not in rules:
                rules[epochs] = make_rule(spec.early_terminate, epochs)
            return rules[epochs]

        screen, _, _, _ = self._searches(listed, screened)
        screening = self._play(screen, score, rule, screened)
        _, confirm, _, _ = self._searches(listed, screened)
        confirmation = self._play(confirm, score, None, confirmed := dict(screened))
        _, _, final, left_out = self._searches(listed, confirmed)
        stages = [screening, confirmation, self._play(final, score, None, confirmed)]
        return Simulated(
            sum(stage.num_epochs for stage in stages),
            sum(stage.trial_seconds for stage in stages),
            sum(stage.wall_seconds for stage in stages),
            left_out,
        )

    def _searches(self, spec: SweepSpec, past: Mapping[str, PastTrial]) -> tuple[Search, Search, Search, LeftOut]:
        """(screening, confirmation, final run, what does not fit) of a sweep that has reached `past`."""
        history = History(past)
        if spec.budget is None:
            screen = make_search(spec, self._trials, history)
            confirm = make_confirmation(spec, screen.work.trials, history)
            return screen, confirm, make_final(spec, [screen.work, confirm.work], history), LeftOut()
        spent = dict(self._spent)
        for trial_id, each in past.items():
            if each is not self._past.get(trial_id):
                epochs = len(each.scores)
                spent[trial_id] = Spent(epochs, epochs * self._speeds[each.config_id].epoch_s)
        found = make_budgeted_searches(spec, self._trials, history, spent, self._device_share)
        return found.screen, found.confirm, found.final, found.left_out

    def _play(
        self,
        search: Search,
        score: Callable[[_Config, int], float],
        rule: Callable[[int], StoppingRule] | None,
        past: dict[str, PastTrial],
    ) -> Simulated:
        """Run one search to its end, and add what its trials reached to `past`."""
        running: list[tuple[float, int, int, Assignment]] = []  # (time of the epoch's end, order, epoch, assignment)
        reached: dict[str, dict[int, float]] = {}
        order, now, trial_seconds, num_epochs = itertools.count(), 0.0, 0.0, 0
        while True:
            while len(running) < self._num_slots and isinstance(step := search.ask(), Assignment):
                config = step.trial.config
                if config.trial_id not in reached:
                    reached[config.trial_id] = dict(past[config.trial_id].scores) if config.trial_id in past else {}
                epoch = max(reached[config.trial_id], default=0)
                speed = self._speeds[config.config_id]
                ends_at = now + speed.overhead_s + speed.of_epoch(epoch + 1, config.epochs)
                heapq.heappush(running, (ends_at, next(order), epoch + 1, step))
            if not running:
                return Simulated(num_epochs, trial_seconds, now)
            now, _, epoch, step = heapq.heappop(running)
            config = step.trial.config
            speed = self._speeds[config.config_id]
            scores, epoch_s = reached[config.trial_id], speed.epoch_s
            scores[epoch] = score(config, epoch)
            trial_seconds += epoch_s
            num_epochs += 1
            is_judged = rule is not None and config.seed == self._spec.seeds[0]
            verdict = rule(config.epochs).judge(config.trial_id, epoch, scores[epoch]) if is_judged else None
            if epoch == config.epochs:
                status = TrialStatus.COMPLETED
            elif verdict is not None and verdict.stop:
                status = TrialStatus.STOPPED
            elif epoch == step.until_epoch:
                status = TrialStatus.PAUSED
            else:
                ends_at = now + speed.of_epoch(epoch + 1, config.epochs)
                heapq.heappush(running, (ends_at, next(order), epoch + 1, step))
                continue
            ranked_by = self._spec.metric.reached(scores)
            past[config.trial_id] = _past(step.trial, status, scores, ranked_by)
            taken = (len(scores), len(scores) * epoch_s)
            search.tell(Outcome(step, status, ranked_by, scores[epoch], *taken))


def _light(trial: PlannedTrial) -> Any:
    names = ("config_id", "seed", "epochs", "model", "images", "num_train_images", "batch_size", "augmentation")
    return _Config(*(getattr(trial.config, name) for name in names))


def _number(trial: PlannedTrial, position: int, seeds: Sequence[int]) -> PlannedTrial:
    """The trial at a position of a list of configurations with several seeds each."""
    number, place = divmod(position, len(seeds))
    return replace(trial, config=replace(trial.config, config_id=f"{number:06d}", seed=seeds[place]))


def _past(trial: PlannedTrial, status: TrialStatus, scores: Mapping[int, float], ranked_by: float | None) -> PastTrial:
    config = trial.config
    return PastTrial(
        *(config.trial_id, config.config_id, config.seed, trial.stage, status, 1),
        val_accuracy=ranked_by,
        score=ranked_by,
        is_done=status.is_final,
        scores=scores,
    )


@dataclass(frozen=True)
class Estimate:
    """What a sweep will take: the lowest and the highest of each."""

    num_epochs: tuple[int, int]
    device_seconds: tuple[float, float] | None = None  # None: no speed is known
    wall_seconds: tuple[float, float] | None = None
    left_out: tuple[LeftOut, ...] = ()  # of each simulated run


def estimate(
    spec: SweepSpec, sweep: EstimatedSweep, num_slots: int, device_share: float, speeds: SpeedBook
) -> Estimate:
    """What is missing of a sweep will take, with its confirmation; `device_share`: the part of a device of a trial."""
    missing = sweep.missing
    known = all(speeds.of(shape) is not None for shape in {shape_of(trial.config) for trial in missing})
    simulation = Simulation(spec, sweep, num_slots, speeds if known else None, device_share)
    total = sum(trial.config.epochs for trial in missing)
    draws = range(NUM_DRAWS if total <= MAX_SIMULATED_EPOCHS else 1)
    runs = [simulation.run(seed) for seed in draws]
    epochs = _range([run.num_epochs for run in runs])
    left_out = tuple(run.left_out for run in runs)
    if not known:
        return Estimate(epochs, left_out=left_out)
    device = _range([run.trial_seconds * device_share for run in runs], SPEED_ERROR)
    start_of_stage_s = max((speeds.of(shape_of(trial.config)).start_s for trial in missing), default=0.0)
    start_s = RAY_START_S + start_of_stage_s * (1 if spec.confirm is None else 2)
    wall = _range([run.wall_seconds + start_s for run in runs], SPEED_ERROR)
    return Estimate(epochs, device, wall, left_out)


def _range(values: Sequence[float], error: float = 0.0) -> tuple[Any, Any]:
    return min(values) / (1 + error) if error else min(values), max(values) * (1 + error) if error else max(values)


@dataclass(frozen=True)
class EstimatedSweep:
    """The trials of a sweep, and what earlier runs of it reached.

    `stand_ins` are those that a method which draws while it runs has not drawn yet: of each level, all with one
    configuration.
    """

    trials: tuple[PlannedTrial, ...]
    history: History = field(default_factory=History)
    stand_ins: tuple[PlannedTrial, ...] = ()
    spent: Mapping[str, Spent] = field(default_factory=dict)  # of the sweep's budget, by trial_id

    @property
    def all(self) -> tuple[PlannedTrial, ...]:
        return (*self.trials, *self.stand_ins)

    @property
    def missing(self) -> tuple[PlannedTrial, ...]:
        """Those that are not done. Paused ones may stay so, which only the search knows."""
        return (*self.history.missing(self.trials), *self.stand_ins)


def sweep_to_estimate(
    spec: SweepSpec,
    trials: Sequence[PlannedTrial],
    history: History | None = None,
    spent: Mapping[str, Spent] | None = None,
) -> EstimatedSweep:
    """The trials that the sweep file lists, or, of method tpe, those that it has drawn and stand-ins for the others."""
    history, spent = history or History(), spent or {}
    if spec.method != "tpe":
        return EstimatedSweep(tuple(trials), history, (), spent)
    draws = TpeDraws(spec)
    drawn = draws.recall(history)
    examples = {level_of(spec, each.varied): each for each in example_trials(spec, describe_dataset)}
    to_come = {level: draws.num_to_come(level) for level in examples}
    in_turn = (examples[level] for turn in range(max(to_come.values())) for level in examples if turn < to_come[level])
    each_seed = enumerate(example for example in in_turn for _ in spec.seeds)
    stand_ins = (replace(each, config=each.config.model_copy(update={"seed": seed})) for seed, each in each_seed)
    return EstimatedSweep(tuple(trial for each in drawn for trial in each.trials), history, tuple(stand_ins), spent)


def _past_final_runs(spec: SweepSpec, sweep: EstimatedSweep) -> dict[str, PastTrial]:
    """The final runs of earlier runs, by the trial_id that they have in the simulation."""
    if spec.confirm is None or spec.confirm.final is None:
        return {}
    found = {}
    for trial in sweep.trials:
        past = sweep.history.trials.get(final_trial(trial, spec.seeds[0]).config.trial_id)
        if past is not None:
            light = replace(_light(trial), seed=spec.seeds[0], val_split=NO_SPLIT)
            found[light.trial_id] = past
    return found


def describe_estimate(found: Estimate, num_slots: int, speeds: SpeedBook, missing: Sequence[PlannedTrial]) -> str:
    """A line of the dry run."""
    epochs = _show_range(found.num_epochs, lambda value: f"{value:,.0f}")
    epochs += " epoch" if found.num_epochs == (1, 1) else " epochs"
    if found.device_seconds is None or found.wall_seconds is None:
        shapes: dict[Hashable, PlannedTrial] = {shape_of(trial.config): trial for trial in missing}
        unknown = sum(speeds.of(shape) is None for shape in shapes)
        which = "this model" if len(shapes) == 1 else f"{unknown} of the {len(shapes)} models"
        return (
            f"estimate: {epochs}; how long they take is not known, because no trial of {which}, data and batch size "
            "has run here: add --measure to measure it"
        )
    device = _show_range(found.device_seconds, format_duration)
    wall = _show_range(found.wall_seconds, format_duration)
    return (
        f"estimate: {epochs}, device time {device}, wall-clock time {wall} with {plural(num_slots, 'trial')} at once "
        f"({speeds.describe({shape_of(trial.config) for trial in missing})})"
    )


def describe_left_out(found: Estimate) -> str:
    """What does not fit into the budget, "" if everything does."""
    words = {
        "configurations": "configuration of the screening (not begun)",
        "trials": "trial of the screening",
        "runs": "run of the confirmation",
    }
    parts = []
    for name, word in words.items():
        numbers = [getattr(each, name) for each in found.left_out]
        if any(numbers):
            first, _, rest = word.partition(" ")
            number = _show_range((min(numbers), max(numbers)), lambda value: f"{value:,}")
            parts.append(f"{number} {first}{'' if number == '1' else 's'} {rest}")
    return join_words(parts, "and") if parts else ""


def _show_range(values: tuple[float, float], show: Callable[[float], str]) -> str:
    low, high = map(show, values)
    return low if low == high else f"{low} to {high}"
