"""The configurations of leaderboards, as one SQL query finds them in the trials: their places, and what is shown of each.

Only configurations whose trials all ran to the end have a rank.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from flexres_tune.analysis.metric import RankingMetric
from flexres_tune.records import Stage, TrialStatus
from flexres_tune.results.own_values import is_own_column
from flexres_tune.results.schema import table_schema
from flexres_tune.results.sql import run_sql

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


@dataclass(frozen=True)
class Pool:
    """The trials of one board."""

    sweep: str
    metric: RankingMetric
    trials: pa.Table  # with `metric`, see trials_with_metric()
    parameters: tuple[str, ...]
    has_confirm: bool


@dataclass(frozen=True)
class Configurations:
    """What the tables say about the configurations of one board."""

    rows: list[dict[str, Any]]  # the first ones: the fields of BoardRow up to num_failed, `seeds` and `scores`
    all: pa.Table  # `rank`, `stage`, `seeds`, `scores` and `screened` of all of them, best first


def read_configurations(pools: Sequence[Pool], limit: int | None) -> list[Configurations]:
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
            found[number] = Configurations(first, rows.select(["rank", "stage", "seeds", "scores", "screened"]))
    none = Configurations([], pa.table({"rank": pa.nulls(0)}))
    return [found.get(number, none) for number in range(len(pools))]


def _by_board(answer: pa.Table) -> Iterator[tuple[int, pa.Table]]:
    """(number of a board, its rows), which follow each other."""
    numbers = to_numpy(answer["board"])
    ends = [*(1 + (numbers[1:] != numbers[:-1]).nonzero()[0]).tolist(), len(numbers)]
    for start, end in itertools.pairwise([0, *ends] if len(numbers) else []):
        yield int(numbers[start]), answer.slice(start, end - start)


def _with_parameters(row: dict[str, Any], pool: Pool, parameters: Sequence[str]) -> dict[str, Any]:
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


def to_numpy(column: pa.ChunkedArray) -> np.ndarray:
    """Numbers without nulls. Not by Arrow's to_numpy(), which would import pandas: 0.4 s."""
    import numpy as np

    chunks = [chunk for chunk in column.chunks if len(chunk)]
    found = [np.frombuffer(each.buffers()[1], str(each.type))[each.offset :][: len(each)] for each in chunks]
    return np.concatenate(found) if found else np.empty(0)
