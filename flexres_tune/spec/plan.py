"""What a sweep would run, as rows and totals for a person to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flexres_tune.spec.cell import PlannedTrial
from flexres_tune.spec.document import show
from flexres_tune.spec.expand import count_trials
from flexres_tune.spec.sweep import SweepSpec


@dataclass(frozen=True)
class PlanTable:
    """Rows of text under columns, and one line of totals."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    totals: str


def describe_plan(spec: SweepSpec, trials: Sequence[PlannedTrial]) -> PlanTable:
    """One row a trial: its id, what it varies, its parameters and epochs; in the order in which trials start."""
    varied = tuple(dict.fromkeys(key for grid in spec.parameters for key in grid))
    rows = tuple(
        (
            trial.config.trial_id,
            *(show(trial.varied[key], 40) if key in trial.varied else "" for key in varied),
            f"{trial.num_parameters:,}",
            str(trial.config.epochs),
        )
        for trial in trials
    )
    return PlanTable(("trial_id", *varied, "num_parameters", "epochs"), rows, _totals(spec, trials))


def _totals(spec: SweepSpec, trials: Sequence[PlannedTrial]) -> str:
    if spec.method == "tpe":
        return (
            f"{_many(count_trials(spec), 'trial')}: {_many(spec.num_trials or 0, 'configuration')} to be drawn while "
            f"the sweep runs x {_many(len(spec.seeds), 'seed')}"
        )
    configurations = {trial.config.config_id for trial in trials}
    epochs = sum(trial.config.epochs for trial in trials)
    text = (
        f"{_many(len(trials), 'trial')}: {_many(len(configurations), 'configuration')} x "
        f"{_many(len(spec.seeds), 'seed')}; {_many(epochs, 'epoch')} in all if none is stopped early"
    )
    if excluded := count_trials(spec) - len(trials):
        text += f"; {_many(excluded, 'trial')} excluded"
    if redrawn := sum(trial.num_redrawn for trial in trials):
        text += f"; {_many(redrawn, 'draw')} over max_parameters={spec.max_parameters:,} drawn again"
    if spec.confirm:
        text += f"; then the best {spec.confirm.top} again on {_many(len(spec.confirm.seeds), 'fresh seed')}"
    return text


def _many(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
