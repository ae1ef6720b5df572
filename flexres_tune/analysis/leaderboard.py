"""Leaderboard: one row per configuration, ranked by the mean over seeds of the sweep's metric.

Only configurations whose trials all ran to the end have a rank. `metric.at` of the sweep file says which epoch counts.
The best value of any epoch is an extreme and so a little optimistic, more so for trials with more epochs; the accuracy of
the last epoch is shown next to it. The test set is shown and never used to rank.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.further_metrics import mean_columns, metric_names
from flexres_tune.analysis.metric import RankingMetric, metric_of
from flexres_tune.analysis.rows import to_table
from flexres_tune.records import Stage, TrialStatus, column
from flexres_tune.results.own_values import configuration_columns, is_own_column, with_metric
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import Plan, plan_or_none
from flexres_tune.results.reader import Results
from flexres_tune.results.schema import architecture_columns, column_of_key, table_schema
from flexres_tune.results.sql import run_sql
from flexres_tune.spec.trial import OWN_CODE_FIELDS
from flexres_tune.text import plural
from flexres_tune.uncertainty.comparisons import Samples, compare_samples
from flexres_tune.uncertainty.intervals import Comparison, half_width

if TYPE_CHECKING:
    import numpy as np

OUTCOMES = (
    TrialStatus.COMPLETED,
    TrialStatus.STOPPED,
    TrialStatus.PAUSED,
    TrialStatus.INTERRUPTED,
    TrialStatus.DIVERGED,
    TrialStatus.OUT_OF_MEMORY,
    TrialStatus.FAILED,
)
"""From best to worst. A configuration has the outcome of its worst trial: if the seeds that were stopped or diverged
were dropped, the mean of the lucky ones would be left."""

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
        swept, has_confirm = _swept_columns(plan, trials), bool(plan and plan.spec.get("confirm"))
        pools += [
            _Pool(name, metric, rows, tuple(distinguishing_columns(rows, swept)), has_confirm)
            for rows in by_dataset(trials)
        ]
    boards = [_board(pool, found) for pool, found in zip(pools, _configurations(pools, limit), strict=True)]
    return [_with_further_metrics(board, results) for board in boards]


def _with_further_metrics(board: Board, results: Results) -> Board:
    """The board with the means of what `metrics` of the sweep file lists, without the metric that it ranks by anyway."""
    trials = results.trials(board.sweep)
    names = [name for name in metric_names(trials) if (name, "last") != (board.metric.name, board.metric.at)]
    if not names:
        return board
    counted = [[(row.config_id, row.stage, seed) for seed in row.scores] for row in board.rows]
    return replace(board, further=mean_columns(trials, names, counted))


def trials_with_metric(results: Results, sweep: str, metric: RankingMetric) -> pa.Table:
    """Columns of `trials`, with best_epoch of the metric, and `metric`: its value at metric.at, null unless finite.

    Without the final run, which holds out no images: it has no such value, and is ranked with nothing.
    """
    trials = ranked_trials(results, sweep)
    # a column of another version could be wrong
    trials = trials.select([*table_schema("trials").names, *filter(is_own_column, trials.column_names)])
    if metric.name == "val_accuracy":
        values = trials[f"{metric.at}_val_accuracy"].combine_chunks()
        return trials.append_column(
            "metric", pc.if_else(pc.is_finite(values), values, pa.nulls(len(values), values.type))
        )
    best, at = ("max", "arg_max") if metric.is_maximized else ("min", "arg_min")
    last = f"CASE WHEN isfinite(arg_max({metric.name}, epoch)) THEN arg_max({metric.name}, epoch) END"
    value = last if metric.at == "last" else f"{best}({metric.name}) FILTER (isfinite({metric.name}))"
    query = f"""
        SELECT trial_id, {value} AS value, {at}(epoch, {metric.name}) FILTER (isfinite({metric.name})) AS epoch
        FROM epochs GROUP BY trial_id
    """
    found = run_sql(query, {"epochs": with_metric(results.epochs(sweep), metric.name)})
    rows = pc.index_in(trials["trial_id"], value_set=found["trial_id"].combine_chunks())
    index = trials.schema.get_field_index("best_epoch")
    epochs = found["epoch"].take(rows).cast(trials.schema.field(index).type)
    return trials.set_column(index, trials.schema.field(index), epochs).append_column(
        "metric", found["value"].take(rows)
    )


def ranked_trials(results: Results, sweep: str) -> pa.Table:
    """The rows of `trials` that may be compared with each other: all but the final run."""
    trials = results.trials(sweep)
    # A scalar to compare with would import pandas, see _repeat(); a pattern does not.
    is_final = pc.match_substring_regex(trials["stage"], pattern=f"^{Stage.FINAL}$")
    if not pc.any(is_final).as_py():
        return trials  # of a million rows, no copy
    return trials.filter(pc.or_kleene(pc.is_null(is_final), pc.invert(is_final)))


def varied_columns(trials: pa.Table) -> list[str]:
    """Configuration columns with more than one value in these rows, null being a value."""
    return [name for name in configuration_columns(trials) if not _is_constant(trials[name])]


def _is_constant(column: pa.ChunkedArray) -> bool:
    """Whether each chunk equals itself shifted by one row, and begins as the first one does.

    Works for lists too, without making Python objects of them; the chunks of a million rows are not copied into one.
    """
    chunks = [chunk for chunk in column.chunks if len(chunk)]
    begin_alike = all(each[:1].equals(chunks[0][:1]) for each in chunks[1:])
    return begin_alike and all(each[1:].equals(each[:-1]) for each in chunks)


def parameter_columns(results: Results, sweep: str, trials: pa.Table | None = None) -> list[str]:
    """The columns that tell the sweep's trials apart: see distinguishing_columns(); of `trials`, by default all that are ranked."""
    rows = ranked_trials(results, sweep) if trials is None else trials
    return distinguishing_columns(rows, _swept_columns(plan_or_none(SweepPaths(results.root, sweep)), rows))


def _swept_columns(plan: Plan | None, trials: pa.Table) -> set[str]:
    """Columns of the keys in `parameters` of the sweep file."""
    grids = plan.spec.get("parameters") if plan else None
    keys = {key for grid in grids if isinstance(grid, dict) for key in grid} if isinstance(grids, list) else set()
    return {column_of_key(key, trials.column_names) for key in keys}


def distinguishing_columns(trials: pa.Table, swept: Collection[str] = ()) -> list[str]:
    """varied_columns() without those that another one implies: `blocks` ... by `model`, `momentum` by `optimizer`.

    `code` is implied by the values that name own code, unless the code was edited between two trials. Columns that the
    sweep varies (`swept`) stay; if they are of the architecture, they imply the model's name, and not the reverse.
    """
    varied = varied_columns(trials)
    implied = _implied_by("model", [name for name in varied if name in architecture_columns()], trials)
    implied |= _implied_by("optimizer", [name for name in varied if name == "momentum"], trials)
    if "code" in varied:
        rows = trials.select([*OWN_CODE_FIELDS, "code"]).to_pylist()
        pairs = {(str([row[name] for name in OWN_CODE_FIELDS]), row["code"]) for row in rows}
        implied |= {"code"} if len({names for names, _ in pairs}) == len(pairs) else set()
    of_model = [name for name in varied if name in swept and name in architecture_columns()]
    if of_model and "model" not in swept and "model" in varied:
        rows = trials.select([*of_model, "model"]).to_pylist()
        pairs = {(str([row[name] for name in of_model]), row["model"]) for row in rows}
        implied |= {"model"} if len({values for values, _ in pairs}) == len(pairs) else set()
    return [name for name in varied if name in swept or name not in implied]


def _implied_by(key: str, names: Sequence[str], trials: pa.Table) -> set[str]:
    """All the names if rows with equal `key` have equal values in every one of them, else none.

    All or none, because a short model name stands either for its whole shape or for nothing.
    """
    keys = trials[key].combine_chunks()
    first = pc.index_in(keys, value_set=keys)  # per row, the first row with the same key
    columns = [trials[name].combine_chunks() for name in names]
    return set(names) if all(values.equals(values.take(first)) for values in columns) else set()


def by_dataset(trials: pa.Table) -> list[pa.Table]:
    """The trials of each data set, the one used last first; one empty table if there are none."""
    names = trials["dataset"].unique().to_pylist()
    if len(names) < 2:
        return [trials]
    groups = [trials.filter(pc.is_in(trials["dataset"], pa.array([name], pa.string()))) for name in names]
    return sorted(groups, key=lambda group: pc.max(group["finished_at"]).value or 0, reverse=True)


@dataclass(frozen=True)
class _Pool:
    """The trials of one board."""

    sweep: str
    metric: RankingMetric
    trials: pa.Table  # with `metric`, see trials_with_metric()
    parameters: tuple[str, ...]
    has_confirm: bool


@dataclass(frozen=True)
class _Configurations:
    """What the tables say about the configurations of one board."""

    rows: list[dict[str, Any]]  # the first ones: the fields of BoardRow up to num_failed, `seeds` and `scores`
    all: pa.Table  # `rank`, `stage`, `seeds`, `scores` and `screened` of all of them, best first


def _board(pool: _Pool, found: _Configurations) -> Board:
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


def _configurations(pools: Sequence[_Pool], limit: int | None) -> list[_Configurations]:
    """The configurations of each pool; Python objects are made only of the first `limit`, as there may be a million.

    One query for all pools whose columns have the same types: a query takes DuckDB 25 ms, and a folder may hold
    thousands of sweeps. Columns of own values, which have other types in other sweeps, are not part of it.
    """
    parameters = list(dict.fromkeys(name for pool in pools for name in pool.parameters if not is_own_column(name)))
    query = _board_query(parameters, limit)
    tables: dict[tuple[pa.DataType, ...], list[pa.Table]] = {}  # by types of the columns
    for number, pool in enumerate(pools):
        names = [name for name in pool.trials.column_names if not is_own_column(name)]
        table = pool.trials.select(names).append_column("row", pa.arange(0, pool.trials.num_rows))
        for name, value in {"board": number, "sign": 1 if pool.metric.is_maximized else -1}.items():
            table = table.append_column(name, _repeat(value, table.num_rows))
        tables.setdefault(tuple(table.schema.types), []).append(table)
    found = {}
    for alike in tables.values():
        answer = run_sql(query, {"trials": pa.concat_tables(alike)})
        for number, rows in _by_board(answer):
            first = [_with_parameters(row, pools[number], parameters) for row in rows.slice(0, limit).to_pylist()]
            found[number] = _Configurations(first, rows.select(["rank", "stage", "seeds", "scores", "screened"]))
    none = _Configurations([], pa.table({"rank": pa.nulls(0)}))
    return [found.get(number, none) for number in range(len(pools))]


def _by_board(answer: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """(number of a board, its rows), which follow each other."""
    numbers = _to_numpy(answer["board"])
    ends = [*(1 + (numbers[1:] != numbers[:-1]).nonzero()[0]).tolist(), len(numbers)]
    for start, end in itertools.pairwise([0, *ends] if len(numbers) else []):
        yield int(numbers[start]), answer.slice(start, end - start)


def _with_parameters(row: dict[str, Any], pool: _Pool, parameters: Sequence[str]) -> dict[str, Any]:
    """A row of the query with the values of the pool's own parameters in place of those of all pools."""
    index = row.pop("row")
    del row["board"]
    values = {name: row[name] if name == "epochs" else row.pop(name) for name in parameters}
    row["parameters"] = {
        name: values[name] if name in values else pool.trials[name][index].as_py() for name in pool.parameters
    }
    return row


def _repeat(value: int, length: int) -> pa.Array:
    """A whole number, repeated. It is not made by pa.scalar(), which would import pandas: 0.4 s."""
    return pa.repeat(pa.arange(value, value + 1)[0], length)


def _board_query(parameters: Sequence[str], limit: int | None) -> str:
    """SQL over `trials` with `board` (its number), `row` (of its trials) and `sign` (-1 if a lower metric is better).

    All configurations are placed, and have what they are compared by. The other columns, which take most of the time,
    are null beyond the first `limit` places of a board.
    """
    statuses = ", ".join(f"'{status}'" for status in OUTCOMES)
    # NaN, as a diverged trial may have, would be the greatest of all numbers in DuckDB.
    finite = ", ".join(f"CASE WHEN isfinite({n}) THEN {n} END AS {n}" for n in ("last_val_accuracy", "test_accuracy"))
    first = "" if limit is None else f"SEMI JOIN (FROM placed WHERE place <= {limit:d}) USING (board, config_id)"
    return f"""
        WITH judged AS (
            SELECT * REPLACE ({finite}),
                coalesce(list_position([{statuses}], status), {len(OUTCOMES) + 1}) AS severity
            FROM trials
        ), configurations AS (
            SELECT board, config_id,
                count(*) FILTER (severity = 1 AND stage = '{Stage.CONFIRM}') > 0 AS is_confirmed,
                count(*) FILTER (severity = 1) > 0 AS has_completed
            FROM judged GROUP BY board, config_id
        ), counted AS (
            SELECT judged.*, is_confirmed,
                NOT is_confirmed OR stage = '{Stage.CONFIRM}' AS is_of_stage,
                is_of_stage AND (NOT has_completed OR severity = 1) AS counts
            FROM judged JOIN configurations USING (board, config_id)
        ), compared AS (
            SELECT
                board, config_id,
                max(severity) FILTER (is_of_stage) AS worst,
                CASE WHEN bool_or(is_confirmed) THEN '{Stage.CONFIRM}' ELSE '{Stage.SCREEN}' END AS stage,
                any_value(sign) * coalesce(avg(metric) FILTER (severity = 1), avg(metric) FILTER (counts)) AS score,
                any_value(num_parameters) AS size,
                {_lists_by_seed()}
            FROM counted GROUP BY board, config_id
        ), placed AS (
            SELECT *, row_number() OVER (
                PARTITION BY board
                ORDER BY worst, stage = '{Stage.CONFIRM}' DESC, score DESC NULLS LAST, size, config_id
            ) AS place FROM compared
        ), described AS (
            SELECT
                board, config_id,
                {_described_columns(parameters)}
            FROM counted {first} GROUP BY board, config_id
        )
        SELECT placed.board, placed.config_id, described.* EXCLUDE (board, config_id), stage, seeds, scores, screened,
            CASE WHEN worst = 1 THEN place END AS rank,
            coalesce(list_extract([{statuses}], worst), 'unknown') AS outcome
        FROM placed LEFT JOIN described USING (board, config_id) ORDER BY board, place
    """


def _described_columns(parameters: Sequence[str]) -> str:
    """SQL: what a board shows of a configuration, besides its place and what it is compared by."""
    constant = dict.fromkeys(["sweep", "dataset", *parameters, "epochs", "num_parameters"])
    assert constant.keys() <= {*table_schema("trials").names}, constant  # never a name from a file
    return f"""
        coalesce(min(row) FILTER (own_values IS NOT NULL), min(row)) AS row,
        {", ".join(f'any_value("{name}") AS "{name}"' for name in constant)},
        count(DISTINCT seed) FILTER (counts) AS num_seeds,
        count(DISTINCT seed) FILTER (is_of_stage) AS num_seeds_begun,
        {_means()},
        median(best_epoch) FILTER (counts) AS best_epoch,
        string_agg(DISTINCT precision_used, ', ' ORDER BY precision_used) FILTER (counts) AS precision_used,
        string_agg(DISTINCT device, ', ' ORDER BY device) FILTER (counts) AS device,
        sum(train_seconds) AS device_seconds,
        {", ".join(f"count(*) FILTER (status = '{status}') AS num_{status}" for status in OUTCOMES)}
    """


def _means() -> str:
    """SQL: means and standard deviations of the metric and of the accuracies."""
    means = (
        ("metric", "metric", "counts"),
        ("last_val_accuracy", "last_val_accuracy", "counts"),
        ("test_accuracy", "test_accuracy", "counts AND severity = 1"),
    )
    return ", ".join(
        f"avg({value}) FILTER ({rows}) AS {name}_mean, stddev_samp({value}) FILTER ({rows}) AS {name}_sd"
        for name, value, rows in means
    )


def _lists_by_seed() -> str:
    """SQL: seeds and scores that count, and scores of the screening of a confirmed configuration."""
    lists = (
        ("seed", "counts", "seeds"),
        ("sign * metric", "counts", "scores"),
        ("sign * metric", "is_confirmed AND NOT is_of_stage AND severity = 1", "screened"),
    )
    return ", ".join(
        f"list({value} ORDER BY seed) FILTER ({rows} AND metric IS NOT NULL) AS {name}" for value, rows, name in lists
    )


def _statistics(
    found: _Configurations, scores: Sequence[Mapping[int, float]], metric: RankingMetric
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
    flat = [_to_numpy(pc.list_flatten(chosen[name])) for name in ("seeds", "scores")]
    screened = [each or () for each in chosen["screened"].to_pylist()]
    return places.to_pylist(), Samples.of_flat(*flat, _to_numpy(pc.list_value_length(chosen["scores"])), screened)


def _to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """Numbers without nulls. Not by Arrow's to_numpy(), which would import pandas: 0.4 s."""
    import numpy as np

    chunks = [chunk for chunk in column.chunks if len(chunk)]
    found = [np.frombuffer(each.buffers()[1], str(each.type))[each.offset :][: len(each)] for each in chunks]
    return np.concatenate(found) if found else np.empty(0)


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
