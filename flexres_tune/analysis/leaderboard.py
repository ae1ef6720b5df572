"""Leaderboard: one row per configuration, ranked by the mean over seeds of the sweep's metric.

Only configurations whose trials all ran to the end have a rank. `metric.at` of the sweep file says which epoch counts.
The best value of any epoch is an extreme and so a little optimistic, more so for trials with more epochs; the accuracy of
the last epoch is shown next to it. The test set is shown and never used to rank.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.configurations import OUTCOMES, Configurations, Pool, read_configurations, to_numpy
from flexres_tune.analysis.further_metrics import mean_columns, metric_names
from flexres_tune.analysis.metric import RankingMetric, metric_of
from flexres_tune.analysis.ranked_trials import by_dataset, distinguishing_columns, swept_columns, trials_with_metric
from flexres_tune.analysis.rows import to_table
from flexres_tune.records import column
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import plan_or_none
from flexres_tune.results.reader import Results
from flexres_tune.text import plural
from flexres_tune.uncertainty.comparisons import Samples, compare_samples
from flexres_tune.uncertainty.intervals import Comparison, half_width

ALPHA = 0.05

ONE_SEED = "one seed: no interval"

TOO_FEW_SEEDS = "cannot show it"  # after their number


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One configuration of a leaderboard.

    Means and standard deviations (n - 1; None for one seed) are over the trials that count: the confirm trials if the
    configuration was confirmed, because fresh seeds carry none of the luck that had it chosen; else those that ran to
    the end. Only the order of confirmed configurations is by the mean of all their completed trials, those of the
    screening included: `bench search` found that this names the best one more often.
    """

    rank: int | None = column("place on its board; null unless all its trials ran to the end")
    sweep: str = column("sweep's name")
    dataset: str = column("data set that it was trained on")
    config_id: str = column("hash of everything that affects the result, seed left out")
    parameters: Mapping[str, Any]  # the values of Board.parameters
    outcome: str = column("status of its worst trial")
    stage: str = column("confirm if its confirm trials are counted, else screen")
    num_seeds: int = column("seeds that count", "seeds")
    metric_mean: float | None = column("the metric at its best or last epoch, as the sweep file says, mean", "metric")
    metric_sd: float | None = column("its standard deviation", "metric")
    last_val_accuracy_mean: float | None = column("validation accuracy of the last epoch, mean", "fraction")
    last_val_accuracy_sd: float | None = column("its standard deviation", "fraction")
    best_epoch: float | None = column("epoch of the best value, median", "epochs")
    epochs: int = column("the budget of a trial", "epochs")
    test_accuracy_mean: float | None = column("accuracy on the test set, mean", "fraction")
    test_accuracy_sd: float | None = column("its standard deviation", "fraction")
    num_parameters: int = column("trainable parameters of the model", "parameters")
    precision_used: str | None = column("precision of the trials that count; several if they differ")
    device: str | None  # of the trials that count; several if they differ
    device_seconds: float | None = column("training time of all its trials", "s")
    num_completed: int = column("trials that ran to the end", "trials")
    num_stopped: int = column("trials that the scheduler stopped", "trials")
    num_paused: int = column("trials that the search paused", "trials")
    num_interrupted: int = column("trials that were interrupted", "trials")
    num_diverged: int = column("trials whose loss was not finite", "trials")
    num_out_of_memory: int = column("trials that ran out of memory", "trials")
    num_failed: int = column("trials that raised an exception", "trials")
    metric_low: float | None = column("lower end of the mean's 95 % interval", "metric", default=None)
    metric_high: float | None = column("upper end of the mean's 95 % interval", "metric", default=None)
    separable_from_leader: str | None = column(
        f"leader | yes (p below 5 %) | no | N seeds {TOO_FEW_SEEDS} (N is 1 or 2, or the seeds do not vary) | {ONE_SEED}; "
        "null if not compared: it did not run to the end, or was only screened while the leader was confirmed",
        default=None,
    )
    behind_leader: float | None = column("by how much the leader's mean is better", "metric difference", default=None)
    behind_leader_low: float | None = column("lower end of its 95 % interval", "metric difference", default=None)
    behind_leader_high: float | None = column("upper end of its 95 % interval", "metric difference", default=None)
    p_value: float | None = column(
        "adjusted for all comparisons made, and for the leader's being picked by the values", default=None
    )
    compared_by: str | None = column("paired | unpaired | exact | none: see statistics.Comparison", default=None)
    num_seeds_begun: int = 0  # of its stage, whether they ran to the end or not
    scores: Mapping[int, float] = field(default_factory=dict)  # the metric by seed, higher is better; those that count
    screened: Sequence[float] = ()  # that of the screening, if it was confirmed: it counts in the variance alone

    @property
    def num_trials(self) -> int:
        """All its trials, whatever their status: those that device_seconds is the sum of."""
        return sum(getattr(self, f"num_{status}") for status in OUTCOMES)

    @property
    def is_incomplete(self) -> bool:
        """Whether some of its seeds ran to the end and others did not."""
        return self.rank is None and self.num_completed > 0 and self.num_seeds < self.num_seeds_begun


@dataclass(frozen=True)
class Board:
    """The leaderboard of one sweep on one data set."""

    sweep: str
    metric: RankingMetric  # what it ranks by
    dataset: str | None  # None if there are no trials
    parameters: tuple[str, ...]  # the columns that tell its configurations apart
    rows: tuple[BoardRow, ...]  # best first; the first ones if a limit was given
    num_rows: int  # of the whole board
    num_ranked: int  # of the whole board
    has_confirm: bool  # whether the sweep file has `confirm`
    further: pa.Table | None = None  # means of the further metrics, a row per row; None without such metrics

    @cached_property
    def ranked(self) -> tuple[BoardRow, ...]:
        """The rows that have a rank, best first."""
        return tuple(row for row in self.rows if row.rank is not None)

    def to_table(self) -> pa.Table:
        table = to_table(BoardRow, self.rows, self.parameters, self.metric)
        if self.further is None:
            return table
        place = table.schema.get_field_index("num_parameters")  # after the accuracies
        for column_field in reversed(self.further.schema):
            if column_field.name not in table.column_names:
                table = table.add_column(place, column_field, self.further[column_field.name])
        return table


def leaderboards(results: Results, sweep: str | None = None, limit: int | None = None) -> list[Board]:
    """One board per sweep and data set, of at most `limit` rows; of a sweep the data set used last comes first.

    A sweep has several data sets if it was run with different profiles; accuracies on different images are not
    compared. Confirmed configurations come before those that were only screened.

    Raises:
        ResultsError: no such sweep, or no results.
    """
    pools = []
    for name in results.choose(sweep):
        metric = metric_of(results, name)
        trials = trials_with_metric(results, name, metric)
        plan = plan_or_none(SweepPaths(results.root, name))
        swept, has_confirm = swept_columns(plan, trials), bool(plan and plan.spec.get("confirm"))
        pools += [
            Pool(name, metric, rows, tuple(distinguishing_columns(rows, swept)), has_confirm)
            for rows in by_dataset(trials)
        ]
    boards = [_board(pool, found) for pool, found in zip(pools, read_configurations(pools, limit), strict=True)]
    return [_with_further_metrics(board, results) for board in boards]


def _with_further_metrics(board: Board, results: Results) -> Board:
    """The board with the means of what `metrics` of the sweep file lists, without the metric that it ranks by anyway."""
    trials = results.trials(board.sweep)
    names = [name for name in metric_names(trials) if (name, "last") != (board.metric.name, board.metric.at)]
    if not names:
        return board
    counted = [[(row.config_id, row.stage, seed) for seed in row.scores] for row in board.rows]
    return replace(board, further=mean_columns(trials, names, counted))


def _board(pool: Pool, found: Configurations) -> Board:
    scores = [dict(zip(row.pop("seeds") or (), row.pop("scores") or (), strict=True)) for row in found.rows]
    screened = [tuple(row.pop("screened") or ()) for row in found.rows]
    columns = zip(found.rows, _statistics(found, scores, pool.metric), scores, screened, strict=True)
    rows = tuple(
        BoardRow(**row, **statistics, scores=of_row, screened=before) for row, statistics, of_row, before in columns
    )
    return Board(
        pool.sweep,
        pool.metric,
        rows[0].dataset if rows else None,
        pool.parameters,
        rows,
        num_rows=found.all.num_rows,
        num_ranked=found.all.num_rows - found.all["rank"].null_count,
        has_confirm=pool.has_confirm,
    )


def _statistics(
    found: Configurations, scores: Sequence[Mapping[int, float]], metric: RankingMetric
) -> list[dict[str, Any]]:
    """Per row, the fields from metric_low to compared_by that have a value; `scores` are higher if they are better."""
    rows = found.rows
    fields: list[dict[str, Any]] = [{} for _ in rows]
    several = [index for index, values in enumerate(scores) if len(values) > 1]
    if several:  # otherwise SciPy need not be imported
        halves = half_width([rows[i]["metric_sd"] for i in several], [len(scores[i]) for i in several])
        for index, half in zip(several, halves.tolist(), strict=True):
            fields[index]["metric_low"], fields[index]["metric_high"] = metric.clip(rows[index]["metric_mean"], half)
    if not rows or rows[0]["rank"] is None or not scores[0]:
        return fields
    fields[0] |= {"separable_from_leader": "leader", "behind_leader": 0.0}
    compared, samples = _comparable_with_leader(found.all, rows[0]["stage"])
    shown = [index for index in compared[1:] if index < len(rows)]
    for index, comparison in zip(shown, compare_samples(samples, len(shown)), strict=True):
        fields[index] |= {
            "separable_from_leader": verdict(comparison, min(len(scores[0]), len(scores[index]))),
            "behind_leader": comparison.difference,
            "behind_leader_low": comparison.low,
            "behind_leader_high": comparison.high,
            "p_value": comparison.p_value,
            "compared_by": comparison.test,
        }
    return fields


def _comparable_with_leader(found: pa.Table, stage: str) -> tuple[list[int], Samples]:
    """(places of the ranked configurations of a stage that have a score, the leader first; their scores)."""
    is_ranked = pc.and_(pc.is_valid(found["rank"]), pc.match_substring_regex(found["stage"], pattern=f"^{stage}$"))
    places = pc.indices_nonzero(pc.and_(is_ranked, pc.is_valid(found["scores"])))
    chosen = found.take(places)
    flat = [to_numpy(pc.list_flatten(chosen[name])) for name in ("seeds", "scores")]
    screened = [each or () for each in chosen["screened"].to_pylist()]
    return places.to_pylist(), Samples.of_flat(*flat, to_numpy(pc.list_value_length(chosen["scores"])), screened)


def verdict(comparison: Comparison, num_seeds: int) -> str:
    """Whether the leader is better than the other configuration: yes, no, or why that cannot be known.

    `num_seeds` is the smaller one of the two.
    """
    if comparison.p_value is None:
        return ONE_SEED
    if comparison.p_value < ALPHA and comparison.difference > 0:
        return "yes"
    return f"{plural(num_seeds, 'seed')} {TOO_FEW_SEEDS}" if num_seeds <= 2 or comparison.test == "exact" else "no"


def seeds_text(row: BoardRow) -> str:
    """Seeds that count, of those of its stage that were begun if some did not run to the end: "2 of 3 seeds"."""
    if not row.is_incomplete:
        return plural(row.num_seeds, "seed")
    return f"{row.num_seeds} of {plural(row.num_seeds_begun, 'seed')}"


def comparison_problems(board: Board) -> list[str]:
    """What ranked configurations differ in besides their parameters: precision, and the device of their times."""
    problems = []
    precisions = distinct(row.precision_used for row in board.ranked)
    if len(precisions) > 1 and "precision" not in board.parameters:
        problems.append(precision_problem(precisions))
    devices = distinct(row.device for row in board.ranked)
    if len(devices) > 1:
        problems.append(f"the trials ran on different devices ({', '.join(devices)}): their times are not comparable")
    return problems


def precision_problem(precisions: Sequence[str]) -> str:
    """Why the results of these precisions should not be compared."""
    return (
        f"the trials were trained in different precisions ({', '.join(precisions)}): part of a difference between "
        "configurations may come from that"
    )


def distinct(texts: Iterable[str | None]) -> list[str]:
    """The names in comma-separated lists, each once, sorted."""
    return sorted({name for text in texts if text for name in text.split(", ")})
