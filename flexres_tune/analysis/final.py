"""The final run of a sweep: its winner once more, trained on all training images, for the number that goes into a paper."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.leaderboard import Board
from flexres_tune.analysis.summary import configuration_name
from flexres_tune.display.format import format_percent
from flexres_tune.records import Stage, TrialStatus
from flexres_tune.results.own_values import configuration_columns
from flexres_tune.results.reader import Results

_OF_THE_SPLIT = ("val_split", "num_val_images")


@dataclass(frozen=True)
class FinalRun:
    """A completed run of the leader's configuration that held out no validation images."""

    name: str  # of the leader
    row: Mapping[str, Any]  # of `trials`

    @property
    def sentence(self) -> str:
        """What the run found, and what it must not be used for."""
        return (
            f"{self.name}, trained once more on all training images (seed {self.row['seed']}): "
            f"{format_percent(self.row['test_accuracy'])} test accuracy. That is one run, so it has no interval, and it is "
            "not ranked."
        )


def final_run(results: Results, board: Board) -> FinalRun | None:
    """The final run of the board's leader; None if there is none, or if it is of another configuration or unfinished."""
    if not board.ranked:
        return None
    leader = board.ranked[0]
    trials = results.trials(board.sweep)
    finals = _only(trials, "stage", Stage.FINAL.value)
    if not finals.num_rows:
        return None
    names = [name for name in configuration_columns(trials) if name not in _OF_THE_SPLIT]
    of_leader = _only(trials, "config_id", leader.config_id).slice(0, 1).select(names).to_pylist()[0]
    rows = [
        row
        for row in finals.to_pylist()
        if row["status"] == TrialStatus.COMPLETED
        and row["test_accuracy"] is not None
        and all(row[name] == value for name, value in of_leader.items())
    ]
    if not rows:
        return None
    newest = max(rows, key=lambda row: row["finished_at"])
    return FinalRun(configuration_name(leader.parameters, leader.config_id), newest)


def _only(trials: pa.Table, name: str, value: str) -> pa.Table:
    """The rows with this text; not by pc.equal(), whose scalar would import pandas."""
    return trials.filter(pc.is_in(trials[name], value_set=pa.array([value], pa.string())))
