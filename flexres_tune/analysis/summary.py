"""The answer of a sweep in one sentence, with its uncertainty, or with what is missing to know it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flexres_tune.analysis.leaderboard import TOO_FEW_SEEDS, Board, BoardRow, comparison_problems, leaderboards
from flexres_tune.analysis.metric import RankingMetric
from flexres_tune.analysis.power import MOST_SEEDS, further_seeds, inseparable
from flexres_tune.display.format import format_p_value, format_value
from flexres_tune.records import LeftOut, Stage
from flexres_tune.results.reader import Results
from flexres_tune.text import plural

CONFIRM_IS_TO_COME = "run the sweep's command again, which confirms the best ones,"
ADD_CONFIRM = "add confirm: {top: 3, seeds: [10, 11, 12, 13, 14]} to the sweep file"
MORE_RUNS = "give confirm more runs in the sweep file"


def advice_on_seeds(board: Board) -> str:
    """How to get (more) fresh seeds: the beginning of a sentence that continues with "to find out"."""
    if any(row.stage == Stage.CONFIRM for row in board.rows):
        return MORE_RUNS
    return CONFIRM_IS_TO_COME if board.has_confirm else ADD_CONFIRM


def answer_sentence(results: Results, sweep: str) -> str:
    """Which configuration is best on the validation images, by how much, and how sure that is.

    "adamw lr=0.003 is best: 97.3 % validation accuracy (95 % interval 96.8 to 97.8 %) over 5 fresh seeds; it is 0.8 points
    above sgd lr=0.1 (95 % interval 0.2 to 1.4, adjusted p = 0.01)."

    If a sweep ran on several data sets, it is about the one used last.

    Raises:
        ResultsError: no such sweep.
    """
    return sentence_of(leaderboards(results, sweep)[0])


def sentence_of(board: Board) -> str:
    """answer_sentence() of one data set's leaderboard; a second sentence if its trials differ in precision."""
    problems = [f" {text[0].upper()}{text[1:]}." for text in comparison_problems(board) if "precision" in text]
    return _answer(board) + "".join(problems)


def _answer(board: Board) -> str:
    if not board.ranked:
        return f"No answer yet: {_reason_without_ranks(board)}."
    leader, *others = board.ranked
    name = configuration_name(leader.parameters, leader.config_id)
    if leader.metric_mean is None:
        return f"No answer yet: no configuration that ran to the end has a finite {board.metric.words}."
    alike = [row for row in others if row.stage == leader.stage]
    rivals = [row for row in alike if row.behind_leader is not None]
    measured = _measured(leader, board.metric)
    if not rivals:
        reason = "no other configuration was confirmed" if others else "there is nothing to compare it with"
        reason = f"no other one has a finite {board.metric.words}" if alike else reason
        return f"{name} has {measured}; {reason}."
    if leader.num_seeds < 2 and all(row.p_value is None for row in rivals):
        return (
            f"{name} leads with {measured}, but with one seed there is no interval; {advice_on_seeds(board)} to find out "
            "how sure that is."
        )
    if leader.num_seeds < 2:  # what seeds differ by is known from the runs of the screening as well
        measured = _measured(leader, board.metric, " over one fresh seed")
    equals = [row for row in rivals if row.separable_from_leader != "yes"]
    closest = (equals or rivals)[0]
    gap = f"it is {gap_text(closest, board.metric)}"
    if leader.stage != Stage.CONFIRM:
        gap += f"; it was chosen by these same seeds, so {advice_on_seeds(board)} to measure it on fresh ones"
    if not equals:
        return f"{name} is best: {measured}; {gap}."
    other = "other confirmed configuration" if leader.stage == Stage.CONFIRM else "other configuration"
    num_equals = "any" if len(equals) == len(rivals) else len(equals)
    whom = f"{num_equals} of the {len(rivals)} {other}s" if len(rivals) > 1 else f"the {other}"
    more = further_seeds_text(board, closest)
    if closest.separable_from_leader.endswith(TOO_FEW_SEEDS):  # "not separable" would be a finding
        return f"{name} leads with {measured}, but {_cannot_show(closest)} that it is better than {whom}: {gap}.{more}"
    return f"{name} leads with {measured}, but is not separable from {whom}: {gap}.{more}"


def left_out_words(left_out: LeftOut) -> str:
    """Such as "2 trials of the screening, not finished, and 1 run of the confirmation"; "" if nothing is left out."""
    counts = (
        (left_out.configurations, "configuration", "of the screening, not begun"),
        (left_out.trials, "trial", "of the screening, not finished"),
        (left_out.runs, "run", "of the confirmation"),
    )
    return ", and ".join(f"{plural(count, noun)} {rest}" for count, noun, rest in counts if count)


def order_note(board: Board) -> str:
    """Why confirmed configurations are not in the order of the means that are shown; "" if they are."""
    confirmed = [row for row in board.ranked if row.stage == Stage.CONFIRM and row.metric_mean is not None]
    scores = [board.metric.score(row.metric_mean) for row in confirmed]
    if scores == sorted(scores, reverse=True):
        return ""
    return (
        "in the order of the mean over all runs, with that of the screening, because it names the best one more often; "
        "the means shown are of fresh seeds alone"
    )


def further_seeds_text(board: Board, row: BoardRow, names: str = "these two") -> str:
    """Seeds that would separate the leader and a row with 80 % power, as a sentence; "" if that is not known.

    All that are not separable from the leader need them, see further_seeds().
    """
    num_seeds, hours = further_seeds(board, row)
    if num_seeds is None:
        return ""
    num = len(inseparable(board))
    each = "each" if num <= 2 else f"for each of the {num} that are not separable"
    if hours is None and num_seeds >= MOST_SEEDS:
        return f" If the difference is as it seems, more than {MOST_SEEDS:,} seeds {each} would separate {names}."
    cost = "" if hours is None else f": {hours:.2g} device-hours"
    seeds = plural(num_seeds, "more seed")
    return f" If the difference is as it seems, about {seeds} {each} would separate {names}{cost}."


def _cannot_show(row: BoardRow) -> str:
    """ "2 seeds cannot show it" -> "2 seeds cannot show"."""
    return row.separable_from_leader.removesuffix(" it")


def configuration_name(parameters: Mapping[str, Any], config_id: str) -> str:
    """Such as "adamw lr=0.003"; the config_id if nothing varies."""
    return parameters_text(parameters) or f"configuration {config_id}"


def parameters_text(parameters: Mapping[str, Any]) -> str:
    """Words as they are, numbers with their parameter; those without a value are left out."""
    parts = []
    for key, value in parameters.items():
        if value is not None:
            text = format_value(value)
            parts.append(text if key in ("optimizer", "model", "lr_schedule") else f"{key}={text}")
    return " ".join(parts)


def _reason_without_ranks(board: Board) -> str:
    rows = board.rows
    if not rows:
        return "there are no trials"
    completed = [row for row in rows if row.num_completed]
    if completed and all(row.num_stopped for row in completed):  # ASHA judges trials, not configurations
        return (
            "every configuration that ran to the end with one seed was stopped with another, so none can be compared; "
            f"{advice_on_seeds(board)} to run the best ones in full"
        )
    return "no configuration has run to the end"


def _measured(row: BoardRow, metric: RankingMetric, over: str = "") -> str:
    """The mean with its interval; `over`: words of one seed, which has no interval."""
    mean, sd = row.metric_mean, row.metric_sd
    if mean is None:
        return f"no finite {metric.words}"
    precision = f" in {row.precision_used}" if row.precision_used else ""
    if sd is None:
        return f"{metric.text(mean)} {metric.words}{over}{precision}"
    seeds = "fresh seeds" if row.stage == Stage.CONFIRM else "seeds"
    estimate = metric.estimate(mean, sd, row.metric_low, row.metric_high)
    return f"{estimate} over {row.num_seeds} {seeds}{precision}"


def gap_text(row: BoardRow, metric: RankingMetric) -> str:
    """The leader's lead over a row: "0.8 points above sgd lr=0.1 (95 % interval 0.2 to 1.4, adjusted p = 0.01)".

    The leader is behind if it leads by its run of the screening: then the text says "below".
    """
    low, high = row.behind_leader_low, row.behind_leader_high
    sign, side = (1, metric.better_side) if row.behind_leader >= 0 else (-1, metric.worse_side)
    has_interval = low is not None and high is not None
    digits = metric.decimals((high - low) / 4 if has_interval else None)  # it spans about four standard errors
    gap = f"{sign * metric.factor * row.behind_leader:z.{digits}f} {metric.difference} {side}"
    gap += f" {configuration_name(row.parameters, row.config_id)}"
    if row.p_value is None:
        return f"{gap} (one seed: no interval)"
    low, high = sorted((sign * low, sign * high)) if has_interval else (None, None)
    interval = (
        f"95 % interval {metric.factor * low:z.{digits}f} to {metric.factor * high:z.{digits}f}"
        if has_interval
        else "no spread over seeds"
    )
    return f"{gap} ({interval}, adjusted {format_p_value(row.p_value)})"
