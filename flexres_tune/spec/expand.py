"""SweepSpec -> its trials, in the order in which they start.

A sweep is expanded into cells: one cell is one choice of values for everything in `parameters`. A cell becomes a
configuration, is checked, and runs once with each seed.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any

from flexres_tune.errors import FlexResError, Problem, SpecError
from flexres_tune.records import Stage
from flexres_tune.spec.document.document import Finding, KeyPath, show_values, sorted_problems
from flexres_tune.spec.levels import LevelPart, list_parts
from flexres_tune.spec.own_code.references import check_code
from flexres_tune.spec.parameters import InputShape, check_budget
from flexres_tune.spec.sweep import SweepSpec
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.spec.trial_values import apply_values, build_config, parse_model
from flexres_tune.spec.width import apply_width

MAX_TRIALS = 100_000
MAX_FINDINGS = 500  # different ones, of a grid; a sweep of 2,000 models over the budget took 0.6 to 1.2 s to refuse
MAX_REJECTED_DRAWS = 1_000  # in a row, before a random search gives up

Describe = Callable[[str], InputShape | None]  # None: the shape is not known, so the model is not checked against it


@dataclass(frozen=True)
class PlannedTrial:
    """A trial that a sweep contains."""

    config: TrialConfig
    varied: Mapping[str, Any]  # the parameters' values as written
    num_parameters: int
    stage: Stage = Stage.SCREEN
    num_redrawn: int = 0  # random: models over the budget that were drawn before this one


def count_trials(spec: SweepSpec) -> int:
    """Number of trials before exclusions, by arithmetic."""
    if spec.method != "grid":
        return (spec.num_trials or 0) * len(spec.seeds)
    cells = (math.prod(len(item.values or ()) for item in grid.values()) for grid in spec.parameters)
    return sum(cells) * len(spec.seeds)


def expand_trials(spec: SweepSpec, describe: Describe) -> tuple[PlannedTrial, ...]:
    """Every trial of the sweep, shuffled by `order_seed`; () for method tpe, which draws while it runs.

    grid: the product of each mapping of `parameters`, their union, times the seeds. random: `num_trials`
    configurations, each from a mapping of `parameters` chosen with equal probability, times the seeds; a draw that
    is excluded, repeated or over the budget is drawn again, and `num_redrawn` counts those over the budget.

    Args:
        spec: the sweep.
        describe: image size and number of classes of a data set; called once per data set.

    Raises:
        SpecError: every problem of every trial.
    """
    trials, problems = _expand(spec, describe)
    if problems:
        raise sorted_problems(problems)
    return tuple(trials)


def example_trials(spec: SweepSpec, describe: Describe) -> tuple[PlannedTrial, ...]:
    """Of method tpe, which lists no trial before it runs: a trial that stands for those of each LevelPart, in their order.

    Raises:
        SpecError: there is a part from which nothing can be drawn.
    """
    examples, found = _examples(spec, functools.cache(describe))
    if found:
        raise sorted_problems([spec.document.problem(path, message) for path, message in found])
    return tuple(examples)


def check_trials(spec: SweepSpec, describe: Describe) -> list[Problem]:
    """Problems in the trials of a sweep that does not run now; its data set may be missing on this machine."""

    def describe_if_present(dataset: str) -> InputShape | None:
        try:
            return describe(dataset)
        except FlexResError:
            return None

    one_seed = spec.model_copy(update={"seeds": spec.seeds[:1]})
    return _expand(one_seed, describe_if_present)[1]


def trial_from_assignment(
    spec: SweepSpec, assignment: Mapping[str, Any], seed: int, describe: Describe
) -> PlannedTrial:
    """The trial that a search algorithm asks for: base with the values that it drew.

    Raises:
        SpecError: the values contradict each other, the model is over the budget, or the trial is excluded.
    """
    cell = _Cell(0, dict(assignment))
    trial, found = _plan(spec, cell, describe)
    excluded = _matching_exclude(spec, cell, trial.config if trial else None)
    if excluded is not None:
        message = f"a trial must not be excluded, but {show_values(cell.varied)} is; draw again"
        found = [(("exclude", excluded), message)]
    if found or trial is None:
        raise SpecError([spec.document.problem(path, message) for path, message in found])
    return replace(trial, config=trial.config.model_copy(update={"seed": seed}))


def baseline_trial(spec: SweepSpec, describe: Describe) -> PlannedTrial | None:
    """The configuration of `baseline`: base with its values; None without a baseline.

    Raises:
        SpecError: the values contradict each other, the model is over the budget, or the trial is excluded.
    """
    if spec.baseline is None:
        return None
    try:
        return trial_from_assignment(spec, spec.baseline, spec.seeds[0], describe)
    except SpecError as error:
        raise SpecError([spec.document.problem(("baseline",), each.message) for each in error.problems]) from None


@dataclass(frozen=True)
class _Cell:
    """One configuration before it is checked: the index of its grid in `parameters`, and its values there."""

    grid: int
    varied: Mapping[str, Any]


def _expand(spec: SweepSpec, describe: Describe) -> tuple[list[PlannedTrial], list[Problem]]:
    describe = functools.cache(describe)  # it opens the data set's files: milliseconds, but for every trial
    num_trials = count_trials(spec)
    if num_trials > MAX_TRIALS:
        where = ("parameters",) if spec.method == "grid" else ("num_trials",)
        message = f"a sweep must have at most {MAX_TRIALS:,} trials, but has {num_trials:,}; split it or draw at random"
        return [], [spec.document.problem(where, message)]
    if spec.method == "tpe":  # an example of each part checks base; the draws are made while the sweep runs
        one_each, found = [], _examples(spec, describe)[1]
    else:
        one_each, found = _grid(spec, describe) if spec.method == "grid" else _draws(spec, describe)
    problems = [spec.document.problem(path, message) for path, message in found]
    try:
        baseline_trial(spec, describe)
    except SpecError as error:
        problems += error.problems
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
    first: dict[str, _Cell] = {}
    for cell in _cells(spec):
        trial, problems = _plan(spec, cell, describe)
        entry = _matching_exclude(spec, cell, trial.config if trial else None) if spec.exclude else None
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
            message = f"an entry of exclude must match a trial, but {show_values(spec.exclude[i])} matches no trial; remove it"
            findings.append((("exclude", i), message))
    if not trials and not findings:
        findings.append((("exclude",), "a sweep must have trials, but exclude leaves none; remove an entry"))
    return trials, findings


def _cells(spec: SweepSpec) -> Iterator[_Cell]:
    for i, grid in enumerate(spec.parameters):
        for values in itertools.product(*(item.values or () for item in grid.values())):
            yield _Cell(i, dict(zip(grid, values, strict=True)))


def _duplicate(first: _Cell, second: _Cell) -> Finding:
    one, other = show_values(first.varied), show_values(second.varied)
    if first.grid != second.grid:
        one, other = f"{one} of parameters[{first.grid}]", f"{other} of parameters[{second.grid}]"
    message = f"trials must be distinct, but {one} and {other} are the same trial; remove one of them"
    return ("parameters", second.grid), message


def _draws(spec: SweepSpec, describe: Describe) -> tuple[list[PlannedTrial], list[Finding]]:
    """`num_trials` seeded draws of method random."""
    random = Random(spec.order_seed)
    trials: list[PlannedTrial] = []
    found = _Findings()
    seen: set[str] = set()
    for _ in range(spec.num_trials or 0):
        drawn = _draw(spec, describe, lambda: _random_cell(spec, random), seen)
        if drawn.rejected:
            message = (
                f"num_trials must not exceed the number of configurations that can be drawn, but after {len(trials)} the "
                f"search gave up: {drawn.rejected}; lower num_trials or widen the parameters"
            )
            return trials, [*found.findings(), (("num_trials",), message)]
        found.add(drawn.cell, drawn.problems)
        if drawn.trial is not None and not drawn.problems:
            seen.add(drawn.trial.config.config_id)
            trials.append(drawn.trial)
    return trials, found.findings()


def _examples(spec: SweepSpec, describe: Describe) -> tuple[list[PlannedTrial], list[Finding]]:
    """A draw from each LevelPart of a sweep of method tpe."""
    random = Random(spec.order_seed)
    trials: list[PlannedTrial] = []
    found = _Findings()
    parts = list_parts(spec)
    for part in parts:
        drawn = _draw(spec, describe, lambda part=part: _cell_of(spec, part, random), set())
        if drawn.rejected:
            level, way_out = (f" with {part.level}", ", or exclude the level") if part.level else ("", "")
            message = (
                f"must have a configuration{level} that can be drawn, but has none: {drawn.rejected}; widen the "
                f"parameters{way_out}"
            )
            return trials, [*found.findings(), (("parameters", part.grid), message)]
        found.add(drawn.cell, drawn.problems)
        if drawn.trial is not None and not drawn.problems:
            trials.append(drawn.trial)
    findings = found.findings()
    if not parts:
        findings.append((("exclude",), "a sweep must have trials, but exclude leaves none; remove an entry"))
    return trials, findings


def _random_cell(spec: SweepSpec, random: Random) -> _Cell:
    grid = random.randrange(len(spec.parameters))
    return _Cell(grid, {key: item.draw(random) for key, item in spec.parameters[grid].items()})


def _cell_of(spec: SweepSpec, part: LevelPart, random: Random) -> _Cell:
    grid = spec.parameters[part.grid]
    varied = {key: part.fixed[key] if key in part.fixed else item.draw(random) for key, item in grid.items()}
    return _Cell(part.grid, varied)


@dataclass(frozen=True)
class _Drawn:
    """A cell that was drawn, its trial and problems; or why no cell could be accepted, in `rejected`."""

    cell: _Cell
    trial: PlannedTrial | None = None
    problems: list[Finding] = field(default_factory=list)
    rejected: str = ""


def _draw(spec: SweepSpec, describe: Describe, next_cell: Callable[[], _Cell], seen: Collection[str]) -> _Drawn:
    """The first cell that is neither excluded, nor drawn before (its config_id is in `seen`), nor over the budget."""
    rejected = {"excluded": 0, "drawn before": 0, "over max_parameters": 0}
    while sum(rejected.values()) < MAX_REJECTED_DRAWS:
        cell = next_cell()
        trial, problems = _plan(spec, cell, describe)
        if spec.exclude and _matching_exclude(spec, cell, trial.config if trial else None) is not None:
            rejected["excluded"] += 1
        elif trial is not None and problems and _varies_model(spec, cell):
            rejected["over max_parameters"] += 1
        elif trial is not None and trial.config.config_id in seen:
            rejected["drawn before"] += 1
        else:
            trial = trial and replace(trial, num_redrawn=rejected["over max_parameters"])
            return _Drawn(cell, trial, problems)
    why = ", ".join(f"{count:,} {reason}" for reason, count in rejected.items() if count)
    return _Drawn(cell, rejected=f"{MAX_REJECTED_DRAWS:,} consecutive draws were rejected ({why})")


class _Findings:
    """Findings of many cells: each once, with the number of cells that have it and the first of them."""

    def __init__(self) -> None:
        self._cells: dict[Finding, tuple[_Cell, int, bool]] = {}
        self._num_cells = 0

    @property
    def are_enough(self) -> bool:
        """Whether there are more than anyone reads; the remaining cells are then not checked."""
        return len(self._cells) >= MAX_FINDINGS

    def add(self, cell: _Cell, findings: list[Finding], show: bool = True) -> None:
        self._num_cells += 1
        for finding in findings:
            first, count, _ = self._cells.get(finding, (cell, 0, show))
            self._cells[finding] = (first, count + 1, show)

    def findings(self) -> list[Finding]:
        result = []
        for (path, message), (cell, count, show) in self._cells.items():
            concerns = "first" if self.are_enough else f"in {count:,} of {self._num_cells:,} configurations, first"
            where = f" ({concerns} {show_values(cell.varied)})"
            result.append((path, message + (where if show and cell.varied else "")))
        return result


def _plan(spec: SweepSpec, cell: _Cell, describe: Describe) -> tuple[PlannedTrial | None, list[Finding]]:
    """The cell's trial with the sweep's first seed, and the problems in it.

    A model over the budget gives a trial as well as a finding, because a random search draws it again.
    """
    written = apply_values(spec.base, cell.varied)
    values, problems = apply_width(written, describe, spec.max_parameters, spec.code)
    if problems:
        return None, [(_locate(spec, cell, path), message) for path, message in problems]
    config, problems = build_config(values, spec.seeds[0], spec.code)
    problems += check_code(config) if config else []
    if config is None or problems:
        return None, [(_locate(spec, cell, path), message) for path, message in problems]
    try:
        shape = describe(config.images)
    except FlexResError as error:
        return None, [(_locate(spec, cell, ("dataset",)), str(error))]
    if shape is None:
        return PlannedTrial(config, cell.varied, 0), []
    count, problems = check_budget(config.model, config.images, shape, spec.max_parameters)
    trial = PlannedTrial(config, cell.varied, count) if count else None
    return trial, [(_locate(spec, cell, path), message) for path, message in problems]


def _matching_exclude(spec: SweepSpec, cell: _Cell, config: TrialConfig | None) -> int | None:
    """Index of the first entry of `exclude` whose values are all the trial's; None if there is none.

    Values are compared as written and, if the configuration could be built, with its values: an entry may name a
    default, or spell out a model that the parameters name as a preset.
    """
    values = apply_values(spec.base, cell.varied)
    for i, entry in enumerate(spec.exclude):
        if all(_has(key, value, values, config) for key, value in entry.items()):
            return i
    return None


def _varies_model(spec: SweepSpec, cell: _Cell) -> bool:
    """Whether the cell's model was drawn, so that another draw may give another model."""
    grid = spec.parameters[cell.grid]
    return any(
        (key == "model" or key.startswith("model.")) and (item.is_range or len(item.values) > 1)
        for key, item in grid.items()
    )


def _has(key: str, value: Any, values: Mapping[str, Any], config: TrialConfig | None) -> bool:
    if key in values and values[key] == value:
        return True
    if config is None:
        return False
    if key == "model" or key.startswith("model."):
        return parse_model(apply_values(values, {key: value}), config.code)[0] == config.model
    if key.startswith("optimizer."):
        return config.own_values.get(key) == value
    if isinstance(value, list):
        value = tuple(value)
    if key == "compile" and isinstance(value, bool):
        value = "on" if value else "off"
    return getattr(config, key) == value


def _locate(spec: SweepSpec, cell: _Cell, path: KeyPath) -> KeyPath:
    """Key path of the wrong value: in the cell's grid if it is written there, else in base."""
    key = str(path[0])
    grid = spec.parameters[cell.grid]
    of_model = [name for name in grid if name.startswith("model")] if key.startswith("model") else []
    dotted = f"model.{path[1]}" if key == "model" and len(path) > 1 else key
    for name in (dotted, key, *reversed(of_model)):
        if name in grid:
            return ("parameters", cell.grid, name)
    if dotted in spec.base:
        return ("base", dotted)
    return ("base", *path)
