"""ReportData: the data that a report shows of one sweep, read once from the tables; every plot is a function of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.answer import Answer, answer_of
from flexres_tune.analysis.leaderboard import Board, leaderboards
from flexres_tune.analysis.ranked_trials import by_dataset, trials_with_metric
from flexres_tune.analysis.summary import configuration_name
from flexres_tune.display.format import format_value
from flexres_tune.records import Stage, TrialStatus
from flexres_tune.results.lock import find_holder
from flexres_tune.results.own_values import with_metric
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import Plan, plan_or_none
from flexres_tune.results.reader import Results
from flexres_tune.text import escape_html, join_words, plural, shorten

if TYPE_CHECKING:
    from flexres_tune.predictions.behind_leader import BehindLeader

_LABEL_WIDTH = 60  # characters of a configuration's label


@dataclass(frozen=True)
class Trial:
    """One row of `trials`, with the columns that a report needs."""

    trial_id: str
    config_id: str
    seed: int
    stage: str
    status: str
    attempt: int
    error: str | None
    metric: float | None  # value of the sweep's metric that ranks the trial; None if it is not finite
    test_accuracy: float | None
    num_train_images: int | None  # None: all
    epochs_run: int
    train_seconds: float
    device: str | None
    precision_used: str | None
    hostname: str | None
    started_at: datetime
    finished_at: datetime
    git_commit: str | None
    versions: dict[str, str] | None
    parameters: dict[str, Any]  # only those that vary in the sweep

    @property
    def is_completed(self) -> bool:
        """Whether it ran all its epochs and has a value to compare."""
        return self.status == TrialStatus.COMPLETED and self.metric is not None

    @property
    def is_confirm(self) -> bool:
        return self.stage == Stage.CONFIRM


@dataclass(frozen=True)
class ReportData:
    """One sweep on the data set that it used last, because accuracies on different data sets are not comparable."""

    results: Results  # for the statistics that some plots compute
    sweep: str
    others: dict[str, int]  # other data sets of the sweep -> number of trials that the report leaves out
    plan: Plan | None
    is_running: bool
    trials: tuple[Trial, ...]  # in the order they finished
    curves: dict[str, list[tuple[int, float]]]  # trial_id -> (epoch, the metric), finite
    board: Board
    extent: str  # models, data sets, epochs and number of trials: see extent_of()

    @cached_property
    def completed(self) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.trials if trial.is_completed)

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
        return self.plan.description.strip() if self.plan else ""

    @cached_property
    def answer(self) -> Answer:
        """The answer to the sweep's question."""
        return answer_of(self.results, self.sweep, [self.board])

    @cached_property
    def behind(self) -> list[BehindLeader]:
        """How far others are behind the leader on images that all predict; none while the sweep runs, to be quick."""
        from flexres_tune.predictions.behind_leader import behind_leader

        return [] if self.is_running else behind_leader(self.results, self.answer)

    def shown(self, value: float) -> float:
        """A value of the metric as plots show it: an accuracy in percent."""
        return self.board.metric.factor * value

    def counted(self, config_id: str) -> list[Trial]:
        """The trials whose mean ranks a configuration: its completed confirm trials if any, else all completed ones."""
        completed = [trial for trial in self.by_config.get(config_id, []) if trial.is_completed]
        return [trial for trial in completed if trial.is_confirm] or completed

    def label(self, config_id: str) -> str:
        """A configuration's varying parameters in the form of the answer: `sgd lr=0.1`. Not escaped for HTML.

        Whole words only, because a part of a number would be misleading.
        """
        trials = self.by_config.get(config_id)
        label = configuration_name(trials[0].parameters if trials else {}, config_id)
        if len(label) <= _LABEL_WIDTH:
            return label
        kept = label[: _LABEL_WIDTH - 1].rpartition(" ")[0]
        return f"{kept} …" if kept else shorten(label, _LABEL_WIDTH)

    def label_of_trial(self, trial: Trial) -> str:
        """The text of a plot for one trial, escaped for HTML."""
        return escape_html(f"{self.label(trial.config_id)}, seed {trial.seed}")


def read_data(results: Results, sweep: str) -> ReportData:
    """Read everything that a report shows of one sweep.

    Raises:
        ResultsError: no such sweep.
    """
    paths = SweepPaths(results.root, sweep)
    board = leaderboards(results, sweep)[0]  # of the data set used last
    table, *others = by_dataset(trials_with_metric(results, sweep, board.metric))
    epochs = results.epochs(sweep)
    if others:
        epochs = epochs.filter(pc.is_in(epochs["trial_id"], table["trial_id"].combine_chunks()))
    return ReportData(
        results=results,
        sweep=sweep,
        others={other["dataset"][0].as_py(): other.num_rows for other in others},
        plan=plan_or_none(paths),
        is_running=find_holder(paths) is not None,
        trials=tuple(_trials(table, board.parameters)),
        curves=_curves(epochs, board.metric.name),
        board=board,
        extent=extent_of(table),
    )


def extent_of(trials: pa.Table) -> str:
    """Summary of the trials that ran: "tiny on digits, 12 epochs, 18 trials", per data set; "" without trials.

    A report needs it because the sweep's description may describe another profile of the file. The epochs are those of
    the completed trials, or the largest number that any trial has run if none is completed.
    """
    parts = []
    all_rows = trials.select(["dataset", "model", "status", "epochs", "epochs_run"]).to_pylist()
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


def _trials(table: pa.Table, parameters: Sequence[str]) -> list[Trial]:
    names = [field.name for field in fields(Trial) if field.name != "parameters"]
    trials = []
    for row in table.select(list(dict.fromkeys([*names, *parameters]))).to_pylist():
        values = {name: row[name] for name in names} | {"train_seconds": row["train_seconds"] or 0.0}
        trials.append(Trial(**values, parameters={name: row[name] for name in parameters}))
    return sorted(trials, key=lambda trial: (trial.finished_at, trial.trial_id))


def _curves(epochs: pa.Table, metric: str) -> dict[str, list[tuple[int, float]]]:
    epochs = with_metric(epochs, metric).sort_by([("trial_id", "ascending"), ("epoch", "ascending")])
    curves: dict[str, list[tuple[int, float]]] = {}
    columns = (epochs[name].to_pylist() for name in ("trial_id", "epoch", metric))
    for trial_id, epoch, value in zip(*columns, strict=True):
        if value is not None and math.isfinite(value):
            curves.setdefault(trial_id, []).append((epoch, value))
    return curves
