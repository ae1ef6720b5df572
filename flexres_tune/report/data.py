"""ReportData: the data that a report shows of one sweep, read once from the tables; every plot is a function of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.leaderboard import Board, BoardRow, distinguishing_columns, leaderboards
from flexres_tune.analysis.summary import configuration_name, sentence_of
from flexres_tune.display.format import format_value
from flexres_tune.errors import ResultsError
from flexres_tune.records import Stage, TrialStatus
from flexres_tune.results.lock import find_holder
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import Plan, read_plan
from flexres_tune.results.reader import Results
from flexres_tune.text import join_words, plural, shorten

_COLUMNS = (
    "trial_id", "config_id", "seed", "stage", "status", "error", "best_val_accuracy", "epochs_run", "train_seconds",
    "device", "hostname", "started_at", "finished_at", "git_commit", "versions",
)  # fmt: skip
_EXTENT = ["dataset", "model", "status", "epochs", "epochs_run"]
_LABEL_WIDTH = 60  # characters of a configuration's label


@dataclass(frozen=True)
class Trial:
    """One row of `trials`, with the columns that a report needs."""

    trial_id: str
    config_id: str
    seed: int
    stage: str
    status: str
    error: str | None
    best_val_accuracy: float | None  # fraction; None if it is not finite
    epochs_run: int
    train_seconds: float
    device: str | None
    hostname: str | None
    started_at: datetime
    finished_at: datetime
    git_commit: str | None
    versions: dict[str, str] | None
    parameters: dict[str, Any]  # only those that vary in the sweep

    @property
    def is_full(self) -> bool:
        """Whether it ran all its epochs and has an accuracy to compare."""
        return self.status == TrialStatus.COMPLETED and self.best_val_accuracy is not None

    @property
    def is_confirm(self) -> bool:
        return self.stage == Stage.CONFIRM


@dataclass(frozen=True)
class ReportData:
    """One sweep on the data set that it used last, because accuracies on different data sets are not comparable."""

    results: Results  # for the statistics that some plots compute
    sweep: str
    dataset: str | None
    others: dict[str, int]  # other data sets of the sweep -> number of trials that the report leaves out
    plan: Plan | None
    is_running: bool
    trials: tuple[Trial, ...]  # in the order they finished
    curves: dict[str, list[tuple[int, float]]]  # trial_id -> (epoch, val_accuracy), finite

    board: Board
    parameters: tuple[str, ...]  # names of the parameters that vary
    answer: str  # one sentence
    extent: str  # models, data sets, epochs and number of trials: see extent_of()

    @cached_property
    def full(self) -> tuple[Trial, ...]:
        """Trials that ran all their epochs."""
        return tuple(trial for trial in self.trials if trial.is_full)

    @cached_property
    def ranked(self) -> tuple[BoardRow, ...]:
        """Rows of the leaderboard with a rank, best first."""
        return self.board.ranked

    @cached_property
    def by_config(self) -> dict[str, list[Trial]]:
        groups: dict[str, list[Trial]] = {}
        for trial in self.trials:
            groups.setdefault(trial.config_id, []).append(trial)
        return groups

    @property
    def device_hours(self) -> float:
        return sum(trial.train_seconds for trial in self.trials) / 3600

    @property
    def description(self) -> str:
        return self.plan.description if self.plan else ""

    def counted(self, config_id: str) -> list[Trial]:
        """The trials whose mean ranks a configuration: its full confirm trials if there are any, else all full ones."""
        full = [trial for trial in self.by_config.get(config_id, []) if trial.is_full]
        return [trial for trial in full if trial.is_confirm] or full

    def label(self, config_id: str) -> str:
        """A configuration's varying parameters in the form of the answer: `sgd lr=0.1`. Not escaped for HTML."""
        trials = self.by_config.get(config_id)
        return _cut(configuration_name(trials[0].parameters if trials else {}, config_id))


def read_data(results: Results, sweep: str) -> ReportData:
    """Read everything that a report shows of one sweep.

    Raises:
        ResultsError: no such sweep.
    """
    paths = SweepPaths(results.root, sweep)
    whole = results.trials(sweep)
    table, others = _last_used(whole)
    board = leaderboards(results, sweep)[0]  # of the data set used last
    dataset = table["dataset"][0].as_py() if table.num_rows else None
    parameters = tuple(distinguishing_columns(table)) if table.num_rows else ()
    epochs = results.epochs(sweep)
    if others:
        epochs = epochs.filter(pc.is_in(epochs["trial_id"], table["trial_id"].combine_chunks()))
    return ReportData(
        results=results,
        sweep=sweep,
        dataset=dataset,
        others=others,
        plan=plan_or_none(paths),
        is_running=find_holder(paths) is not None,
        trials=tuple(_trials(table, parameters)),
        curves=_curves(epochs),
        board=board,
        parameters=parameters,
        answer=sentence_of(board),
        extent=extent_of(table),
    )


def extent_of(trials: pa.Table) -> str:
    """Summary of the trials that ran: "tiny on digits, 12 epochs, 18 trials", per data set; "" without trials.

    A report needs it because the sweep's description may describe another profile of the file. The epochs are those of
    the completed trials, or the largest number that any trial has run if none is completed.
    """
    parts = []
    all_rows = trials.select(_EXTENT).to_pylist()
    for dataset in dict.fromkeys(row["dataset"] for row in all_rows):
        rows = [row for row in all_rows if row["dataset"] == dataset]
        models = sorted({row["model"] for row in rows})
        model = join_words(map(str, models), "and") if len(models) <= 3 else f"{len(models)} models"
        lengths = sorted({row["epochs"] for row in rows if row["status"] == TrialStatus.COMPLETED})
        if not lengths:
            epochs = f"at most {plural(max(row['epochs_run'] for row in rows), 'epoch')}"
        elif len(lengths) == 1:
            epochs = plural(lengths[0], "epoch")
        else:
            epochs = f"{lengths[0]} to {lengths[-1]} epochs"
        parts.append(f"{model} on {dataset or 'unknown data'}, {epochs}, {plural(len(rows), 'trial')}")
    return "; ".join(parts)


def value_text(name: str, value: Any) -> str:
    """A parameter's value as the label of an axis."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list):
        return "+".join(map(str, value)) if value else "none"
    return shorten(format_value(value), 32)


def spaced(name: str) -> str:
    """weight_decay -> weight decay."""
    return name.replace("_", " ")


def percent(value: float, digits: int = 1) -> str:
    """0.9731 -> "97.3 %"."""
    return f"{100 * value:.{digits}f} %"


def plan_or_none(paths: SweepPaths) -> Plan | None:
    """The plan of a sweep, or None if it has none or a damaged one, which `query status` reports."""
    try:
        return read_plan(paths)
    except ResultsError:
        return None


def _cut(label: str) -> str:
    """As many whole words as fit into _LABEL_WIDTH characters, because a part of a number would be misleading."""
    if len(label) <= _LABEL_WIDTH:
        return label
    kept = label[: _LABEL_WIDTH - 1].rpartition(" ")[0]
    return f"{kept} …" if kept else shorten(label, _LABEL_WIDTH)


def _last_used(trials: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """The trials on the data set that was used last, and the number of trials on each other data set."""
    names = trials["dataset"].unique().to_pylist()
    if len(names) < 2:
        return trials, {}
    groups = {name: trials.filter(pc.equal(trials["dataset"], pa.scalar(name, pa.string()))) for name in names if name}
    last = max(groups, key=lambda name: pc.max(groups[name]["finished_at"]).as_py())
    return groups[last], {name: group.num_rows for name, group in groups.items() if name != last}


def _trials(table: pa.Table, parameters: Sequence[str]) -> list[Trial]:
    trials = []
    for row in table.select(list(dict.fromkeys([*_COLUMNS, *parameters]))).to_pylist():
        values = {name: row[name] for name in _COLUMNS}
        if not math.isfinite(values["best_val_accuracy"] or 0.0):
            values["best_val_accuracy"] = None
        values["train_seconds"] = values["train_seconds"] or 0.0
        trials.append(Trial(**values, parameters={name: row[name] for name in parameters}))
    return sorted(trials, key=lambda trial: (trial.finished_at, trial.trial_id))


def _curves(epochs: pa.Table) -> dict[str, list[tuple[int, float]]]:
    epochs = epochs.sort_by([("trial_id", "ascending"), ("epoch", "ascending")])
    curves: dict[str, list[tuple[int, float]]] = {}
    columns = (epochs[name].to_pylist() for name in ("trial_id", "epoch", "val_accuracy"))
    for trial_id, epoch, value in zip(*columns, strict=True):
        if value is not None and math.isfinite(value):
            curves.setdefault(trial_id, []).append((epoch, value))
    return curves
