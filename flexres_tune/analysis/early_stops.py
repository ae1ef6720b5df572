"""Early stops: which trials the scheduler stopped, at which rung, against which cutoff, and what that saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from flexres_tune.analysis.ranked_trials import parameter_columns
from flexres_tune.analysis.rows import to_table
from flexres_tune.records import TrialStatus, column
from flexres_tune.results.reader import Results
from flexres_tune.results.sql import run_sql


@dataclass(frozen=True)
class StoppedTrial:
    """A trial that was stopped. The saving is the epochs not run, at the mean time of those that it did run."""

    sweep: str = column("sweep's name")
    trial_id: str = column("the trial")
    parameters: Mapping[str, Any]
    ladder: str | None = column("ladder that the rung belongs to: trials are compared only within one")
    rung: int | None = column("rung of the ladder, from 0")
    epoch: int = column("epoch after which it was stopped", "epochs")
    value: float | None = column("the trial's val_accuracy at the rung", "fraction")
    cutoff: float | None = column("value that it needed to continue", "fraction")
    budget: int = column("epochs that it would have run", "epochs")
    saved_epochs: int = column("epochs not run", "epochs")
    saved_device_seconds: float = column("estimated time of the epochs not run", "s")


@dataclass(frozen=True)
class RungStops:
    """The trials that were stopped at one rung of one ladder."""

    ladder: str = column("ladder that the rung belongs to")
    rung: int = column("rung of the ladder, from 0; -1 if no decision is recorded")
    epoch: int = column("epoch after which they were stopped", "epochs")
    num_stopped: int = column("trials stopped", "trials")
    lowest_cutoff: float | None = column("lowest of their cutoffs", "fraction")
    median_cutoff: float | None = column("median of their cutoffs", "fraction")
    highest_cutoff: float | None = column("highest of their cutoffs", "fraction")
    saved_epochs: int = column("epochs not run", "epochs")
    saved_device_seconds: float = column("estimated time of the epochs not run", "s")


def stopped_trials(results: Results, sweep: str) -> tuple[list[StoppedTrial], list[str]]:
    """(the stopped trials in the order in which they were stopped, names of the parameters that vary).

    Raises:
        ResultsError: no such sweep.
    """
    trials = results.trials(sweep)
    varied = [name for name in parameter_columns(results, sweep, trials) if name != "epochs"]
    decisions = {row["trial_id"]: row for row in results.decisions(sweep).to_pylist() if row["action"] == "stop"}
    stopped = []
    for trial in trials.filter(pc.equal(trials["status"], TrialStatus.STOPPED)).sort_by("finished_at").to_pylist():
        decision = decisions.get(trial["trial_id"], {})
        epochs_run, budget = trial["epochs_run"] or 0, trial["epochs"] or 0
        saved_epochs = max(0, budget - epochs_run)
        stopped.append(
            StoppedTrial(
                sweep=trial["sweep"],
                trial_id=trial["trial_id"],
                parameters={name: trial[name] for name in varied},
                **{name: decision.get(name) for name in ("ladder", "rung", "value", "cutoff")},
                epoch=epochs_run,
                budget=budget,
                saved_epochs=saved_epochs,
                saved_device_seconds=saved_epochs * (trial["train_seconds"] or 0.0) / max(1, epochs_run),
            )
        )
    return stopped, varied


def stops_by_rung(stopped: Sequence[StoppedTrial]) -> list[RungStops]:
    """One row per ladder and rung: how many trials it stopped, against which cutoffs, and what that saved."""
    query = """
        SELECT coalesce(ladder, '') AS ladder, coalesce(rung, -1) AS rung, epoch, count(*) AS num_stopped,
            min(cutoff) AS lowest_cutoff, median(cutoff) AS median_cutoff, max(cutoff) AS highest_cutoff,
            sum(saved_epochs)::BIGINT AS saved_epochs, sum(saved_device_seconds) AS saved_device_seconds
        FROM stopped GROUP BY ALL ORDER BY ALL
    """
    return [RungStops(**row) for row in run_sql(query, {"stopped": to_table(StoppedTrial, stopped)}).to_pylist()]
