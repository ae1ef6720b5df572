"""SweepSpec -> its trials, in the order in which they start."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from types import MappingProxyType
from typing import Any

from flexres_tune.errors import FlexResError, Problem, SpecError
from flexres_tune.spec.cell import Cell, Describe, PlannedTrial, matching_exclude, plan_cell, varies_model
from flexres_tune.spec.distribution import Distribution
from flexres_tune.spec.document import Finding, show_cells, sorted_problems
from flexres_tune.spec.parameters import DataShape
from flexres_tune.spec.sweep import SweepSpec

MAX_TRIALS = 100_000
ENOUGH_FINDINGS = 500  # different ones, of a grid; a sweep of 2,000 models over the budget took 0.6 to 1.2 s to refuse
MAX_REDRAWS = 1_000  # in a row, before a random search gives up


@dataclass(frozen=True)
class KnownShape:
    """Shape of a data set that needs no looking at."""

    image_size: int
    num_classes: int


KNOWN_SHAPES: Mapping[str, DataShape] = MappingProxyType({"digits": KnownShape(8, 10), "cifar10": KnownShape(32, 10)})


def describe_known(dataset: str) -> DataShape:
    """Shape of the data sets that every installation has.

    Raises:
        FlexResError: a data set whose files would have to be read.
    """
    if dataset not in KNOWN_SHAPES:
        raise FlexResError(f"image size and classes must be known, but {dataset} must be read for them; pass describe")
    return KNOWN_SHAPES[dataset]


def count_trials(spec: SweepSpec) -> int:
    """Number of trials before exclusions, by arithmetic."""
    if spec.method != "grid":
        return (spec.num_trials or 0) * len(spec.seeds)
    cells = (math.prod(len(item.values or ()) for item in grid.values()) for grid in spec.parameters)
    return sum(cells) * len(spec.seeds)


def sample_space(spec: SweepSpec) -> dict[str, Distribution]:
    """What method tpe draws from: key -> distribution."""
    return dict(spec.parameters[0])


def expand_trials(spec: SweepSpec, describe: Describe = describe_known) -> tuple[PlannedTrial, ...]:
    """Every trial of the sweep, shuffled by `order_seed`; () for method tpe, which draws while it runs.

    grid: the product of each mapping of `parameters`, their union, times the seeds. random: `num_trials`
    configurations, each from a mapping of `parameters` chosen with equal probability, times the seeds; a draw that
    is excluded, was drawn before or is over the budget is drawn again, the last counted in `num_redrawn`.
    The file's other profiles are checked too, with one seed.

    Raises:
        SpecError: every problem of every trial.
    """
    describe = functools.cache(describe)  # each look opens the data set's files: milliseconds, but for every trial
    trials, problems = _expand(spec, describe)
    for variant in spec._variants:
        problems += check_trials(variant, describe)
    if problems:
        raise sorted_problems(problems)
    return tuple(trials)


def check_trials(spec: SweepSpec, describe: Describe = describe_known) -> list[Problem]:
    """What is wrong with the trials of a sweep that does not run now, and may name data that is not here."""
    one_seed = spec.model_copy(update={"seeds": spec.seeds[:1]})
    return _expand(one_seed, _leniently(describe))[1]


def trial_from_assignment(
    spec: SweepSpec, assignment: Mapping[str, Any], seed: int, describe: Describe = describe_known
) -> PlannedTrial:
    """The trial that a search algorithm asks for: base with the values that it drew.

    Raises:
        SpecError: the values do not agree, the model is over the budget, or the trial is excluded.
    """
    cell = Cell(0, dict(assignment))
    trial, found = plan_cell(spec, cell, describe)
    excluded = matching_exclude(spec, cell, trial.config if trial else None)
    if excluded is not None:
        found = [(("exclude", excluded), f"a trial must not be excluded, but {show_cells(cell.varied)} is; draw again")]
    if found or trial is None:
        raise SpecError([spec._document.problem(path, message) for path, message in found])
    return replace(trial, config=trial.config.model_copy(update={"seed": seed}))


def _expand(spec: SweepSpec, describe: Describe) -> tuple[list[PlannedTrial], list[Problem]]:
    num_trials = count_trials(spec)
    if num_trials > MAX_TRIALS:
        where = ("parameters",) if spec.method == "grid" else ("num_trials",)
        message = f"a sweep must have at most {MAX_TRIALS:,} trials, but has {num_trials:,}; split it or draw at random"
        return [], [spec._document.problem(where, message)]
    if spec.method == "grid":
        one_each, found = _grid(spec, describe)
    else:
        one_each, found = _draws(spec, describe)
    problems = [spec._document.problem(path, message) for path, message in found]
    trials = [
        trial
        if seed == spec.seeds[0]
        else replace(trial, config=trial.config.model_copy(update={"seed": seed}), num_redrawn=0)
        for trial in one_each
        for seed in spec.seeds
    ]
    Random(spec.order_seed).shuffle(trials)
    return trials, problems


def _grid(spec: SweepSpec, describe: Describe) -> tuple[list[PlannedTrial], list[Finding]]:
    trials: list[PlannedTrial] = []
    found = _Findings()
    excluded: set[int] = set()
    first: dict[str, Cell] = {}
    for cell in _cells(spec):
        trial, problems = plan_cell(spec, cell, describe)
        entry = matching_exclude(spec, cell, trial.config if trial else None) if spec.exclude else None
        if entry is not None:
            excluded.add(entry)
            continue
        found.add(cell, problems)
        if found.are_enough:
            return trials, found.findings()
        if trial is None:
            continue
        same = first.setdefault(trial.config.config_id, cell)
        if same is not cell:
            found.add(cell, [_duplicate(same, cell)], show=False)
            continue
        trials.append(trial)
    findings = found.findings()
    for i in range(len(spec.exclude)):
        if i not in excluded:
            message = (
                f"an entry of exclude must match a trial, but {show_cells(spec.exclude[i])} matches no trial; remove it"
            )
            findings.append((("exclude", i), message))
    if not trials and not findings:
        findings.append((("exclude",), "a sweep must have trials, but exclude leaves none; remove an entry"))
    return trials, findings


def _cells(spec: SweepSpec) -> Iterator[Cell]:
    for i, grid in enumerate(spec.parameters):
        for values in itertools.product(*(item.values or () for item in grid.values())):
            yield Cell(i, dict(zip(grid, values, strict=True)))


def _duplicate(first: Cell, second: Cell) -> Finding:
    one, other = show_cells(first.varied), show_cells(second.varied)
    if first.grid != second.grid:
        one, other = f"{one} of parameters[{first.grid}]", f"{other} of parameters[{second.grid}]"
    message = f"each trial must stand once, but {one} and {other} are the same trial; remove one of them"
    return ("parameters", second.grid), message


def _draws(spec: SweepSpec, describe: Describe) -> tuple[list[PlannedTrial], list[Finding]]:
    """`num_trials` seeded draws; for tpe a single one, thrown away, that checks what is not drawn."""
    random = Random(spec.order_seed)
    trials: list[PlannedTrial] = []
    found = _Findings()
    seen: set[str] = set()
    for _ in range(spec.num_trials if spec.method == "random" else 1):
        redraws = {"excluded": 0, "drawn before": 0, "over max_parameters": 0}
        while sum(redraws.values()) < MAX_REDRAWS:
            grid = random.randrange(len(spec.parameters))
            cell = Cell(grid, {key: item.draw(random) for key, item in spec.parameters[grid].items()})
            trial, problems = plan_cell(spec, cell, describe)
            if spec.exclude and matching_exclude(spec, cell, trial.config if trial else None) is not None:
                redraws["excluded"] += 1
            elif trial is not None and problems and varies_model(spec, cell):
                redraws["over max_parameters"] += 1
            elif trial is not None and trial.config.config_id in seen:
                redraws["drawn before"] += 1
            else:
                break
        else:
            why = ", ".join(f"{count:,} {reason}" for reason, count in redraws.items() if count)
            message = (
                f"num_trials must be within what the parameters can give, but after {len(trials)} configurations "
                f"{MAX_REDRAWS:,} draws in a row were of no use ({why}); lower num_trials or widen the parameters"
            )
            return trials, [*found.findings(), (("num_trials",), message)]
        found.add(cell, problems)
        if trial is not None and not problems:
            seen.add(trial.config.config_id)
            trials.append(replace(trial, num_redrawn=redraws["over max_parameters"]))
    return (trials if spec.method == "random" else []), found.findings()


class _Findings:
    """Findings over many cells: each once, with how many trials it concerns."""

    def __init__(self) -> None:
        self._cells: dict[Finding, tuple[Cell, int, bool]] = {}
        self._num_cells = 0

    @property
    def are_enough(self) -> bool:
        """More than anyone reads: the other cells are not looked at."""
        return len(self._cells) >= ENOUGH_FINDINGS

    def add(self, cell: Cell, findings: list[Finding], show: bool = True) -> None:
        self._num_cells += 1
        for finding in findings:
            first, count, _ = self._cells.get(finding, (cell, 0, show))
            self._cells[finding] = (first, count + 1, show)

    def findings(self) -> list[Finding]:
        result = []
        for (path, message), (cell, count, show) in self._cells.items():
            concerns = "first" if self.are_enough else f"in {count:,} of {self._num_cells:,} configurations, first"
            where = f" ({concerns} {show_cells(cell.varied)})"
            result.append((path, message + (where if show and cell.varied else "")))
        return result


def _leniently(describe: Describe) -> Describe:
    """A profile that is not chosen may name data that this machine does not have."""

    def described(dataset: str) -> DataShape | None:
        try:
            return describe(dataset)
        except FlexResError:
            return None

    return described
