"""bench search: how often each search policy answers right, and what that costs, on curves whose truth is known."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from flexres_tune.bench.search.policies import (
    LEVEL_POLICIES,
    POLICIES,
    SURFACE_LEVEL_POLICIES,
    SURFACE_POLICIES,
    Policy,
    Run,
    screen,
)
from flexres_tune.bench.search.simulation import Setup
from flexres_tune.bench.search.worlds import WORLDS, Draw, RecordedWorld, SurfaceWorld, World
from flexres_tune.errors import FlexResError
from flexres_tune.text import did_you_mean
from flexres_tune.uncertainty.comparisons import compare_with_leader
from flexres_tune.uncertainty.intervals import half_width

WITHIN = 0.001  # a level's best counts as found if it is at most 0.1 points below the true one
ALPHA = 0.05
CHUNK = 25  # sweeps that one process simulates at a time


@dataclass(frozen=True)
class Verdict:
    """One simulated sweep, judged: shares are fractions, and None means that the policy or the world has none."""

    best: float | None  # whether the named configuration is the best one; None: any might be
    points_lost: float | None  # by which it is worse than the best one; None: none is named, because all diverged
    epochs: float
    wall_epochs: float  # until the last trial has ended, in units of an epoch
    called_different: float | None  # whether any configuration, or level, is called different from the leading one
    wrongly_ordered: float | None  # share of compared pairs that are called different, but are equal or the other way
    covered: float | None  # share of the 95 % intervals of confirmed configurations that hold the expected score
    level: float | None  # whether the best level is named
    within: float | None  # share of levels whose configuration is at most 0.1 points worse than their best one
    order: float | None  # whether all levels are in the right order


@dataclass(frozen=True)
class Estimate:
    """Mean over simulated sweeps, and its standard error."""

    mean: float
    error: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        return cls(statistics.fmean(values), sd / math.sqrt(len(values)))


@dataclass(frozen=True)
class PolicyRow:
    """One policy in one world."""

    world: str
    policy: str
    num_draws: int
    figures: Mapping[str, Estimate]  # by field of Verdict, without those that are None


@dataclass(frozen=True)
class SearchBench:
    """The outcome of one call of bench search, from which its table and its block in docs are made."""

    command: str
    num_draws: int
    seed: int
    rows: tuple[PolicyRow, ...]
    date: str = field(default_factory=lambda: date.today().isoformat())

    def to_json(self) -> dict[str, Any]:
        """Its values as JSON's types."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> SearchBench:
        """The inverse of to_json()."""
        rows = [
            PolicyRow(**row | {"figures": {key: Estimate(**value) for key, value in row["figures"].items()}})
            for row in values["rows"]
        ]
        return cls(**{**values, "rows": tuple(rows)})


def choose_worlds(names: Sequence[str], curves: Path | None, level: str | None) -> dict[str, World | RecordedWorld]:
    """Worlds by name; of no names: all. A file of recorded curves adds one for each question that it can answer.

    Raises:
        FlexResError: there is no world of that name, or the file does not fit.
    """
    known: dict[str, World | RecordedWorld] = dict(WORLDS)
    if curves is not None:
        known["recorded"] = RecordedWorld.load(curves)
        if level is not None:
            known[f"recorded, {level} compared"] = RecordedWorld.load(curves, level)
    _check("--world", names, known)
    return {name: known[name] for name in names or known}


def bench_search(
    worlds: Mapping[str, World | RecordedWorld],
    policies: Sequence[str],
    num_draws: int,
    seed: int,
    num_processes: int | None = None,
) -> tuple[PolicyRow, ...]:
    """Simulate `num_draws` sweeps of each policy in each world. All policies of a world have the same draws.

    policies: names; empty: all. The rows do not depend on the number of processes.

    Raises:
        FlexResError: there is no policy of that name.
    """
    _check("--policy", policies, POLICIES | SURFACE_POLICIES | LEVEL_POLICIES | SURFACE_LEVEL_POLICIES)
    tasks = [
        _Task(name, world, tuple(policies), min(CHUNK, num_draws - start), (seed, *name.encode(), start))
        for name, world in worlds.items()
        for start in range(0, num_draws, CHUNK)
    ]
    verdicts: dict[tuple[str, str], list[Verdict]] = {}
    with ProcessPoolExecutor(num_processes or os.cpu_count()) as pool:
        for task, found in zip(tasks, pool.map(_simulate, tasks), strict=True):
            for policy, each in found.items():
                verdicts.setdefault((task.name, policy), []).extend(each)
    return tuple(_row(world, policy, each) for (world, policy), each in verdicts.items())


def _check(option: str, names: Sequence[str], known: Mapping[str, Any]) -> None:
    for name in names:
        if name not in known:
            options = ", ".join(map(repr, known))
            raise FlexResError(f"{option}: must be one of {options}, but got {name!r}{did_you_mean(name, known)}")


def policies_of(world: World | RecordedWorld) -> Mapping[str, Policy]:
    """The policies that answer the question of a world."""
    if isinstance(world, SurfaceWorld):
        return SURFACE_LEVEL_POLICIES if world.num_levels > 1 else SURFACE_POLICIES
    return LEVEL_POLICIES if world.num_levels > 1 else POLICIES


@dataclass(frozen=True)
class _Task:
    """Some sweeps of one world, for one process."""

    name: str
    world: World | RecordedWorld
    policies: tuple[str, ...]
    num_draws: int
    seed: tuple[int, ...]


def _simulate(task: _Task) -> dict[str, list[Verdict]]:
    """Some sweeps of each policy in one world."""
    world, rng = task.world, np.random.default_rng(task.seed)
    setup = Setup.of(world.levels, world.num_fresh, world.epochs, world.slots)
    chosen = {key: each for key, each in policies_of(world).items() if key in (task.policies or (key,))}
    found: dict[str, list[Verdict]] = {key: [] for key in chosen}
    by_screen: dict[Any, list[str]] = {}
    for key, policy in chosen.items():
        by_screen.setdefault(policy.screen, []).append(key)
    for _ in range(task.num_draws):
        seed, order = rng.integers(2**63), rng.permutation(world.num_listed)
        draw = world.draw(np.random.default_rng(seed))
        for factory, keys in by_screen.items():
            if draw.add_config is not None:
                draw = world.draw(np.random.default_rng(seed))  # without what the last search has added
            screened = screen(factory, setup, draw, order)
            for key in keys:
                found[key].append(judge(chosen[key].confirm(setup, draw, screened), draw, world.levels))
    return found


def judge(run: Run, draw: Draw, levels: np.ndarray) -> Verdict:
    """Compare the answer of a simulated sweep with the truth.

    The configuration with the best mean is named, as the leaderboard does; what differs from it, and the intervals, are
    the leaderboard's as well.
    """
    means = {index: _mean(run, index) for index in run.fresh.keys() | run.counted.keys()}
    if not means:
        return Verdict(0.0, None, run.epochs, run.wall_epochs, None, None, None, None, None, None)
    named = max(means, key=lambda index: (means[index], -index))
    best = draw.finals.max() if draw.optima is None else draw.optima.max()
    comparisons = _called_different(run, means, levels)
    wrong = [is_different and draw.finals[one] <= draw.finals[other] for is_different, one, other in comparisons]
    level = within = order = None
    num_levels = int(levels.max()) + 1
    if num_levels > 1:
        leaders = _leaders(means, levels)
        true = [draw.finals[levels == each].max() for each in range(num_levels)]
        true = true if draw.optima is None else draw.optima
        level = float(levels[named] == np.argmax(true))
        within = sum(draw.finals[index] >= true[each] - WITHIN for each, index in leaders.items()) / num_levels
        ranked = sorted(leaders, key=lambda each: -means[leaders[each]])
        order = float(ranked == sorted(range(num_levels), key=lambda each: -true[each]))
    return Verdict(
        *(
            None if draw.optima is not None else float(draw.finals[named] == best),
            100 * (best - draw.finals[named]),
            run.epochs,
            run.wall_epochs,
        ),
        called_different=float(any(each[0] for each in comparisons)) if comparisons else None,
        wrongly_ordered=statistics.fmean(wrong) if comparisons else None,
        covered=_share_covered(run, draw),
        level=level,
        within=within,
        order=order,
    )


def _mean(run: Run, index: int) -> float:
    """Of a configuration's fresh scores, and of that of the screening if it counts."""
    counted = [run.counted[index]] if index in run.counted else []
    return statistics.fmean([*run.fresh.get(index, ()), *counted])


def _leaders(means: Mapping[int, float], levels: np.ndarray) -> dict[int, int]:
    """The best configuration of each level that has one."""
    leaders: dict[int, int] = {}
    for index in sorted(means, key=lambda index: (-means[index], index)):
        leaders.setdefault(int(levels[index]), index)
    return leaders


def _called_different(run: Run, means: Mapping[int, float], levels: np.ndarray) -> list[tuple[bool, int, int]]:
    """(whether the leaderboard calls them different, leader, other) of each comparison that has enough runs.

    The others are all that were confirmed; of levels, the leaders of the other levels.
    """
    compared = _leaders(means, levels).values() if levels.max() > 0 else sorted(means, key=lambda i: (-means[i], i))
    leader, *others = [index for index in compared if run.fresh.get(index)] or [None]
    scores = {index: dict(enumerate(run.fresh[index])) for index in (leader, *others) if index is not None}
    screened = [[run.screened[i]] if i in run.screened else [] for i in scores]
    found = compare_with_leader(scores[leader], [scores[i] for i in others], screened) if others else []
    return [
        (each.p_value < ALPHA and each.difference > 0, leader, other)
        for each, other in zip(found, others, strict=True)
        if each.p_value is not None
    ]


def _share_covered(run: Run, draw: Draw) -> float | None:
    """Share of the leaderboard's intervals that hold the truth; None: no configuration has two seeds."""
    is_right = [
        abs(statistics.fmean(scores) - draw.expected_score(index)) <= half_width(statistics.stdev(scores), len(scores))
        for index, scores in run.fresh.items()
        if len(scores) > 1
    ]
    return statistics.fmean(is_right) if is_right else None


def _row(world: str, policy: str, verdicts: Sequence[Verdict]) -> PolicyRow:
    figures = {}
    for each in fields(Verdict):
        values = [value for verdict in verdicts if (value := getattr(verdict, each.name)) is not None]
        if values:
            figures[each.name] = Estimate.of(values)
    return PolicyRow(world, policy, len(verdicts), figures)
