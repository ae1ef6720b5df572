"""The answer of a sweep in one sentence, with its uncertainty, or with what is missing to know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.leaderboard import distinguishing_columns, leaderboard
from flexres_tune.display.format import format_p_value, format_value, significant_decimals
from flexres_tune.results.reader import Results
from flexres_tune.text import escape

ADD_CONFIRM = "add confirm: {top: 3, seeds: [10, 11, 12, 13, 14]} to the sweep file"


def answer_sentence(results: Results, sweep: str) -> str:
    """Which configuration is best on the validation images, by how much, and how sure that is.

    "adamw lr=0.003 is best: 97.3 ± 0.4 % validation accuracy over 5 fresh seeds; 0.8 points above sgd lr=0.1
    (95 % interval 0.2 to 1.4, p = 0.01 after Holm)."

    Where a sweep ran on several data sets it is about the one used last.

    Raises:
        ResultsError: no such sweep.
    """
    board = leaderboard(results, sweep)
    if board.num_rows:
        board = board.filter(pc.equal(board["dataset"], board["dataset"][0]))
    trials = results.trials(sweep)
    return sentence_of(board, [name for name in distinguishing_columns(trials) if name in board.column_names])


def sentence_of(board: pa.Table, varied: list[str]) -> str:
    """answer_sentence() of one data set's leaderboard.

    Args:
        varied: the columns that tell its configurations apart.
    """
    ranked = board.filter(pc.is_valid(board["rank"])).to_pylist()
    if not ranked:
        return f"No answer yet: {_why_none(board.to_pylist())}."
    leader = ranked[0]
    name = configuration_name(leader, varied)
    rivals = [row for row in ranked[1:] if row["stage"] == leader["stage"]]
    measured = _measured(leader)
    if not rivals:
        alone = "nothing else was confirmed to compare it with" if len(ranked) > 1 else "nothing to compare it with"
        return f"{name} has {measured}; {alone}."
    if leader["num_seeds"] < 2:
        return f"{name} is ahead with {measured}; one seed: no interval; {ADD_CONFIRM} to know how sure that is."
    equals = [row for row in rivals if row["separable_from_leader"] != "yes"]
    closest = (equals or rivals)[0]
    gap = f"{_gap(closest)} above {configuration_name(closest, varied)}{_evidence(closest)}"
    unconfirmed = "" if leader["stage"] == "confirm" else f"; chosen by these same seeds, so {ADD_CONFIRM}"
    if not equals:
        return f"{name} is best: {measured}; {gap}{unconfirmed}."
    others = f"{len(equals)} of the {len(rivals)} others" if len(rivals) > 1 else "the other"
    return f"{name} leads with {measured}, but is not separable from {others}: {gap}{unconfirmed}."


def configuration_name(row: Mapping[str, Any], varied: list[str]) -> str:
    """Such as "adamw lr=0.003": words as they are, numbers with their parameter; config_id where nothing varies."""
    parts = []
    for key in varied:
        value = row[key]
        if value is None:
            continue
        text = format_value(key, value)
        parts.append(text if key in ("optimizer", "model", "lr_schedule") else f"{key}={escape(text)}")
    return " ".join(parts) or f"configuration {row['config_id']}"


def _why_none(rows: list[dict]) -> str:
    """Why no configuration has a rank."""
    if not rows:
        return "no trial is there"
    completed = [row for row in rows if row["num_completed"]]
    if completed and all(row["num_stopped"] for row in completed):  # ASHA judges trials, not configurations
        return (
            "each configuration that ran to its end with one seed was stopped with another, so none can be compared; "
            f"{ADD_CONFIRM} to run the best in full"
        )
    return "no configuration has run to its end"


def _measured(row: Mapping[str, Any]) -> str:
    mean, sd, n = row["best_val_accuracy_mean"], row["best_val_accuracy_sd"], row["num_seeds"]
    if mean is None:
        return "no finite validation accuracy"
    digits = significant_decimals(sd)
    if sd is None:
        return f"{100 * mean:.{digits}f} % validation accuracy"
    fresh = "fresh seeds" if row["stage"] == "confirm" else "seeds"
    return f"{100 * mean:.{digits}f} ± {100 * sd:.{digits}f} % validation accuracy over {n} {fresh}"


def _gap(row: Mapping[str, Any]) -> str:
    return f"{100 * row['behind_leader']:.{_digits(row)}f} points"


def _digits(row: Mapping[str, Any]) -> int:
    """Decimals that a difference to the leader deserves: by the standard error that its interval shows."""
    low, high = row["behind_leader_low"], row["behind_leader_high"]
    return significant_decimals(None if low is None or high is None else (high - low) / 4)


def _evidence(row: Mapping[str, Any]) -> str:
    low, high, p = row["behind_leader_low"], row["behind_leader_high"], row["p_value"]
    if p is None:
        return " (one seed: no interval)"
    if low is None:
        return f" (no spread over seeds, {format_p_value(p)} after Holm)"
    digits = _digits(row)
    return f" (95 % interval {100 * low:.{digits}f} to {100 * high:.{digits}f}, {format_p_value(p)} after Holm)"
