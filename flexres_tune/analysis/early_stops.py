"""Early stops: which trials the scheduler stopped, at which rung, against which cutoff, and what that saved."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flexres_tune.analysis.leaderboard import distinguishing_columns
from flexres_tune.records import TrialStatus, column
from flexres_tune.results.reader import Results


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
    varied = [name for name in distinguishing_columns(trials) if name != "epochs"]
    decisions = {row["trial_id"]: row for row in results.decisions(sweep).to_pylist() if row["action"] == "stop"}
    stopped = [
        _stopped_trial(trial, decisions.get(trial["trial_id"], {}), varied)
        for trial in trials.sort_by("finished_at").to_pylist()
        if trial["status"] == TrialStatus.STOPPED
    ]
    return stopped, varied


def _stopped_trial(trial: Mapping[str, Any], decision: Mapping[str, Any], varied: Sequence[str]) -> StoppedTrial:
    epochs_run, budget = trial["epochs_run"] or 0, trial["epochs"] or 0
    saved_epochs = max(0, budget - epochs_run)
    seconds_per_epoch = (trial["train_seconds"] or 0.0) / epochs_run if epochs_run else 0.0
    return StoppedTrial(
        sweep=trial["sweep"],
        trial_id=trial["trial_id"],
        parameters={name: trial[name] for name in varied},
        ladder=decision.get("ladder"),
        rung=decision.get("rung"),
        epoch=epochs_run,
        value=decision.get("value"),
        cutoff=decision.get("cutoff"),
        budget=budget,
        saved_epochs=saved_epochs,
        saved_device_seconds=saved_epochs * seconds_per_epoch,
    )


def stops_by_rung(stopped: Sequence[StoppedTrial]) -> list[RungStops]:
    """One row per ladder and rung: how many trials it stopped, against which cutoffs, and what that saved."""
    groups: dict[tuple[str, int, int], list[StoppedTrial]] = {}
    for trial in stopped:
        rung = -1 if trial.rung is None else trial.rung
        groups.setdefault((trial.ladder or "", rung, trial.epoch), []).append(trial)
    return [_rung_stops(*key, groups[key]) for key in sorted(groups)]


def _rung_stops(ladder: str, rung: int, epoch: int, stopped: Sequence[StoppedTrial]) -> RungStops:
    cutoffs = [trial.cutoff for trial in stopped if trial.cutoff is not None]
    return RungStops(
        ladder=ladder,
        rung=rung,
        epoch=epoch,
        num_stopped=len(stopped),
        lowest_cutoff=min(cutoffs, default=None),
        median_cutoff=statistics.median(cutoffs) if cutoffs else None,
        highest_cutoff=max(cutoffs, default=None),
        saved_epochs=sum(trial.saved_epochs for trial in stopped),
        saved_device_seconds=sum(trial.saved_device_seconds for trial in stopped),
    )
