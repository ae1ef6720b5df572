"""The published result rows, and which of them a sweep's configuration reproduces."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

from flexres_tune.errors import ResultsError
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import read_plan
from flexres_tune.results.reader import Results
from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.document.document import show
from flexres_tune.spec.presets import PRESETS
from flexres_tune.text import did_you_mean


@dataclass(frozen=True)
class Report:
    """A published report on CIFAR-10 ResNets under 5,000,000 parameters."""

    title: str
    selected_on: str  # how it chose the epoch whose accuracies it prints


REPORTS: Mapping[str, Report] = MappingProxyType(
    {
        "flexres": Report("FlexRes: Flexible ResNet with Reduced Parameters", "best epoch on the test set"),
        "mini_project": Report("Mini-Project: Residual Nets", "not stated"),
        "modified_resnet": Report("Modifying ResNet on Image Classification", "best epoch on validation images"),
    }
)

SETTINGS = ("optimizer", "lr", "weight_decay", "momentum", "batch_size", "lr_schedule")
"""Columns of the file that are columns of `trials` with the same values; the report does not state empty ones."""

_STEPS = {"rotation5": "rotation"}  # our rotation is within ±5° as well
_SHAPE = tuple(name for name in Architecture.model_fields if name != "dropout")


@dataclass(frozen=True)
class PublishedRow:
    """One row of a report's table; accuracies are fractions."""

    report: str
    experiment: str
    model: str  # a preset
    settings: Mapping[str, Any]  # what the report states: column of `trials` -> value; `model`: columns of its shape
    epochs: int | None  # if `selected_on` is test, the length of the run; if it is val, the epoch that was read
    train_accuracy: float | None
    val_accuracy: float | None
    test_accuracy: float
    selected_on: str  # test | val; empty if the report does not state it
    note: str

    @property
    def reference(self) -> str:
        """Its table as `reproduces` names it: flexres/optimizer."""
        return f"{self.report}/{self.experiment}"

    @property
    def num_parameters(self) -> int:
        """Trainable parameters that the report gives."""
        return PRESETS[self.model]["num_parameters"]

    def differing(self, columns: Mapping[str, Any]) -> list[str]:
        """Names of the stated settings in which a configuration differs; `columns` are its row of `trials`."""
        ours = columns | {"model": {name: columns[name] for name in _SHAPE}}
        return [name for name, value in self.settings.items() if ours[name] != value]

    def has_other_length(self, epochs: int) -> bool:
        """Whether a run of so many epochs is not as long as stated, or ended before the epoch that was read."""
        if self.epochs is None:
            return False
        return epochs != self.epochs if self.selected_on == "test" else epochs < self.epochs


@cache
def published_rows() -> tuple[PublishedRow, ...]:
    """All rows in the order of the file; see reference/SOURCES.md for the reports and what the columns mean."""
    text = (files("flexres_tune.analysis") / "reference" / "published_results.csv").read_text("utf-8")
    cells = list(csv.DictReader(text.splitlines()))
    normalizing = {row["report"] for row in cells if "normalize" in row["augmentation"]}
    return tuple(_row(row, states_normalize=row["report"] in normalizing) for row in cells)


def references() -> tuple[str, ...]:
    """The published tables as `reproduces` names them, in the order of the file."""
    return tuple(dict.fromkeys(row.reference for row in published_rows()))


def rows_of(reference: str) -> tuple[PublishedRow, ...]:
    """The rows of one published table."""
    return tuple(row for row in published_rows() if row.reference == reference)


def varied_settings(rows: Iterable[PublishedRow]) -> tuple[str, ...]:
    """The settings that a table compares: those that its rows state with more than one value."""
    values: dict[str, list[Any]] = {}
    for name, value in (setting for row in rows for setting in row.settings.items()):
        values.setdefault(name, []).append(value)
    return tuple(name for name, stated in values.items() if any(value != stated[0] for value in stated))


def reproduces(columns: Mapping[str, Any], row: PublishedRow, varied: Sequence[str]) -> bool:
    """Whether a configuration reproduces the row: it agrees in all settings that the row's table compares (`varied`).

    It may differ in other settings, images or epochs; these must then be named next to its result.
    """
    return not set(row.differing(columns)) & set(varied)


def reference_of(results: Results, sweep: str) -> str | None:
    """The text of a sweep's `reproduces`, which may name no known table; None if the sweep has none.

    Raises:
        ResultsError: plan.json is damaged.
    """
    plan = read_plan(SweepPaths(results.root, sweep))
    return plan.spec.get("reproduces") if plan else None


def reference_problem(reference: str) -> str | None:
    """The problem of a `reproduces`: rule, value found, what to do; None if it names a published table."""
    known = references()
    if reference in known:
        return None
    hint = did_you_mean(reference, known) or f"; tables: {', '.join(known)}"
    return f"must be a published table, REPORT/EXPERIMENT, but got {show(reference)}{hint}"


def describe_reference(reference: str) -> str:
    """A line about a published table: the report's title, the table, and what its numbers were selected on."""
    name, _, experiment = reference.partition("/")
    report = REPORTS[name]
    return f'table "{experiment}" of "{report.title}" (its numbers: {report.selected_on})'


def reference_note(results: Results, sweep: str) -> str | None:
    """A line that names the published table that a sweep reproduces; None if there is none."""
    try:
        reference = reference_of(results, sweep)
    except ResultsError:  # `query status` reports the damaged plan
        return None
    if reference is None:
        return None
    if problem := reference_problem(reference):
        return f"reproduces {problem}"
    folder = "" if str(results.root) == "results" else f" --results {results.root}"
    command = f"python -m flexres_tune.query published --sweep {sweep}{folder}"
    return f"reproduces {describe_reference(reference)}; comparison: {command}"


def _row(cells: Mapping[str, str], states_normalize: bool) -> PublishedRow:
    shape = {key: value for key, value in PRESETS[cells["model"]].items() if key != "num_parameters"}
    architecture = Architecture.model_validate(shape).model_dump(mode="json")
    settings: dict[str, Any] = {"model": {name: architecture[name] for name in _SHAPE}}
    numbers = ("lr", "weight_decay", "momentum")
    for name in SETTINGS:
        if text := cells[name]:
            settings[name] = float(text) if name in numbers else int(text) if name == "batch_size" else text
    if cells["augmentation"]:
        steps = [step for step in cells["augmentation"].split("+") if step != "none"]
        if states_normalize:
            settings["normalize"] = "normalize" in steps
        settings["augmentation"] = [_STEPS.get(step, step) for step in steps if step != "normalize"]
    settings["mixup_alpha"] = float(cells["mixup"] or 0)  # a report that does not mention mixup did not use it
    num_linear = len(architecture["head"]) + 1
    num_dropouts = int(cells["num_dropouts"] or num_linear)  # before the last layers; the layers before them have none
    settings["dropout"] = [0.0] * (num_linear - num_dropouts) + [float(cells["dropout"] or 0)] * num_dropouts
    percent = {name: float(cells[name]) / 100 if cells[name] else None for name in cells if "accuracy" in name}
    return PublishedRow(
        report=cells["report"],
        experiment=cells["experiment"],
        model=cells["model"],
        settings=settings,
        epochs=int(cells["epochs"]) if cells["epochs"] else None,
        **percent,
        selected_on=cells["selected_on"],
        note=cells["note"],
    )
