"""Stops: what the scheduler stopped, at which rung, against which cutoff, and the device time that saved."""

from __future__ import annotations

import statistics

import pyarrow as pa

from flexres_tune.analysis.leaderboard import distinguishing_columns
from flexres_tune.records import TrialStatus
from flexres_tune.results.reader import Results
from flexres_tune.results.schema import table_schema


def stopped_trials(results: Results, sweep: str) -> pa.Table:
    """A row a stopped trial, in the order in which they were stopped.

    Columns: sweep, trial_id, the parameters that vary, ladder, rung, epoch, value and cutoff (of the sweep's
    metric), budget (epochs it would have run), saved_epochs, saved_device_seconds: the epochs not run, at the mean
    time of those it did run.

    Raises:
        ResultsError: no such sweep.
    """
    trials = results.trials(sweep)
    varied = [name for name in distinguishing_columns(trials) if name != "epochs"]
    stops = {row["trial_id"]: row for row in results.decisions(sweep).to_pylist() if row["action"] == "stop"}
    rows = []
    for trial in trials.sort_by("finished_at").to_pylist():
        if trial["status"] != TrialStatus.STOPPED:
            continue
        stop = stops.get(trial["trial_id"], {})
        run, budget = trial["epochs_run"] or 0, trial["epochs"] or 0
        saved = max(0, budget - run)
        per_epoch = (trial["train_seconds"] or 0.0) / run if run else 0.0
        rows.append(
            {
                "sweep": sweep,
                "trial_id": trial["trial_id"],
                **{name: trial[name] for name in varied},
                **{name: stop.get(name) for name in ("ladder", "rung", "value", "cutoff")},
                "epoch": run,
                "budget": budget,
                "saved_epochs": saved,
                "saved_device_seconds": saved * per_epoch,
            }
        )
    kinds = {field.name: field.type for field in table_schema("trials")}
    schema = pa.schema(
        [(name, kinds[name]) for name in ("sweep", "trial_id", *varied)]
        + [("ladder", pa.string()), ("rung", pa.int64()), ("epoch", pa.int64())]
        + [("value", pa.float64()), ("cutoff", pa.float64())]
        + [("budget", pa.int64()), ("saved_epochs", pa.int64()), ("saved_device_seconds", pa.float64())]
    )
    return pa.Table.from_pylist(rows, schema)


def stops_by_rung(stops: pa.Table) -> pa.Table:
    """A row a ladder and rung: how many trials it stopped, against which cutoffs, and what that saved."""
    groups: dict[tuple, list[dict]] = {}
    for row in stops.to_pylist():
        groups.setdefault(
            (row["ladder"] or "", row["rung"] if row["rung"] is not None else -1, row["epoch"]), []
        ).append(row)
    rows = []
    for (ladder, rung, epoch), group in sorted(groups.items()):
        cutoffs = [row["cutoff"] for row in group if row["cutoff"] is not None]
        rows.append(
            {
                "ladder": ladder,
                "rung": rung,
                "epoch": epoch,
                "num_stopped": len(group),
                "lowest_cutoff": min(cutoffs, default=None),
                "median_cutoff": statistics.median(cutoffs) if cutoffs else None,
                "highest_cutoff": max(cutoffs, default=None),
                "saved_epochs": sum(row["saved_epochs"] for row in group),
                "saved_device_seconds": sum(row["saved_device_seconds"] for row in group),
            }
        )
    cutoffs = ("lowest_cutoff", "median_cutoff", "highest_cutoff")
    schema = pa.schema(
        [("ladder", pa.string()), *((name, pa.int64()) for name in ("rung", "epoch", "num_stopped"))]
        + [(name, pa.float64()) for name in cutoffs]
        + [("saved_epochs", pa.int64()), ("saved_device_seconds", pa.float64())]
    )
    return pa.Table.from_pylist(rows, schema)
