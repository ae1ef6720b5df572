"""Leaderboard: a row a configuration, ranked by mean over seeds of best_val_accuracy, full-length trials only.

best_val_accuracy is a maximum over epochs and so a little optimistic, the same way for every configuration;
last_val_accuracy stands beside it. The test set is shown and never used to rank.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.statistics import Comparison, below_leader, compare_all, half_width
from flexres_tune.records import TrialStatus
from flexres_tune.results.reader import Results
from flexres_tune.results.schema import architecture_columns, config_columns, table_schema
from flexres_tune.results.sql import run_sql

OUTCOMES = (
    TrialStatus.COMPLETED,
    TrialStatus.STOPPED,
    TrialStatus.INTERRUPTED,
    TrialStatus.DIVERGED,
    TrialStatus.OUT_OF_MEMORY,
    TrialStatus.FAILED,
)

"""From best to worst: a configuration is where its worst trial is. Dropping the seeds that were stopped or diverged
would leave the mean of the lucky ones."""

_MEASURES = ("best_val_accuracy", "last_val_accuracy", "test_accuracy")


def leaderboard(results: Results, sweep: str | None = None, limit: int | None = None) -> pa.Table:
    """A row a configuration; `rank` is null for configurations not run to the end.

    It counts within a sweep and data set: one sweep holds several where it was run with different profiles, and
    accuracies on other images are not compared. Where a configuration was confirmed, its figures are over its
    confirm trials alone, and it stands before those that were only screened: fresh seeds carry none of the luck
    that had it chosen.

    Columns: rank, sweep, dataset, config_id, the parameters that vary in the sweep, outcome, stage, num_seeds, mean
    and sd (n - 1; null for one seed) of the accuracies, best_epoch (median), epochs (the budget), num_parameters,
    device_seconds (all trials), how many trials ended how, and those of separation(). `limit` is rows a board.

    Raises:
        ResultsError: no such sweep, or no results.
    """
    boards = [_board(rows, limit) for name in results.choose(sweep) for rows in _by_dataset(results.trials(name))]
    return pa.concat_tables(boards, promote_options="permissive")


def varied_columns(trials: pa.Table) -> list[str]:
    """Configuration columns with more than one value in these rows, null being a value."""
    columns = {name: trials[name].combine_chunks() for name in config_columns() if name in trials.column_names}
    # Equal to itself shifted by one row: all equal. Works for lists too, without making Python objects of them.
    return [name for name, values in columns.items() if not values[1:].equals(values[:-1])]


def distinguishing_columns(trials: pa.Table) -> list[str]:
    """varied_columns(), less those another one tells: `blocks` ... by `model`, `momentum` by `optimizer`."""
    varied = varied_columns(trials)
    told = _told_by("model", [name for name in varied if name in architecture_columns()], trials)
    told |= _told_by("optimizer", [name for name in varied if name == "momentum"], trials)
    return [name for name in varied if name not in told]


def _told_by(teller: str, names: Sequence[str], trials: pa.Table) -> set[str]:
    """The names, if equal tellers have equal values of all of them; else none: a model's name tells all or nothing."""
    tellers = trials[teller].combine_chunks()
    first = pc.index_in(tellers, value_set=tellers)  # of each row, the first row of the same teller
    columns = [trials[name].combine_chunks() for name in names]
    return set(names) if all(values.equals(values.take(first)) for values in columns) else set()


def _by_dataset(trials: pa.Table) -> list[pa.Table]:
    """The trials of each data set, the one used last first; one empty table if there are none."""
    names = trials["dataset"].unique().to_pylist()
    if len(names) < 2:
        return [trials]
    groups = [trials.filter(pc.is_in(trials["dataset"], pa.array([name], pa.string()))) for name in names]
    return sorted(groups, key=lambda group: pc.max(group["finished_at"]).value or 0, reverse=True)


def _board(trials: pa.Table, limit: int | None) -> pa.Table:
    trials = trials.select(table_schema("trials").names)  # a column of another version could shadow one made below
    varied = distinguishing_columns(trials)
    budget = "" if "epochs" in varied else "any_value(epochs) AS epochs,"
    order = ", ".join(f"'{status}'" for status in OUTCOMES)
    # NaN, as a diverged trial may have, would be the greatest of all numbers in DuckDB.
    finite = ", ".join(f"CASE WHEN isfinite({name}) THEN {name} END AS {name}" for name in _MEASURES)
    measures = ", ".join(
        f"avg({name}) FILTER (counts) AS {name}_mean, stddev_samp({name}) FILTER (counts) AS {name}_sd"
        for name in _MEASURES[:2]
    )
    query = f"""
        WITH named AS (
            SELECT * REPLACE ({finite}),
                coalesce(list_position([{order}], status), {len(OUTCOMES) + 1}) AS badness
            FROM trials
        ), known AS (
            SELECT config_id,
                count(*) FILTER (badness = 1 AND stage = 'confirm') > 0 AS confirmed,
                count(*) FILTER (badness = 1) > 0 AS finished
            FROM named GROUP BY config_id
        ), used AS (
            SELECT named.*, confirmed,
                (NOT confirmed OR stage = 'confirm') AND (NOT finished OR badness = 1) AS counts
            FROM named JOIN known ON named.config_id = known.config_id
        ), board AS (
            SELECT
                any_value(sweep) AS sweep,
                any_value(dataset) AS dataset,
                config_id,
                {"".join(f"any_value({_quote(name)}) AS {_quote(name)}," for name in varied)}
                max(badness) FILTER (NOT confirmed OR stage = 'confirm') AS worst,
                CASE WHEN bool_or(confirmed) THEN 'confirm' ELSE 'screen' END AS stage,
                count(DISTINCT seed) FILTER (counts) AS num_seeds,
                {measures},
                median(best_epoch) FILTER (counts) AS best_epoch,
                {budget}
                avg(test_accuracy) FILTER (counts AND badness = 1) AS test_accuracy_mean,
                stddev_samp(test_accuracy) FILTER (counts AND badness = 1) AS test_accuracy_sd,
                any_value(num_parameters) AS num_parameters,
                sum(train_seconds) AS device_seconds,
                {", ".join(f"count(*) FILTER (status = '{status}') AS num_{status}" for status in OUTCOMES)},
                list(seed ORDER BY seed) FILTER (counts AND best_val_accuracy IS NOT NULL) AS seeds,
                list(best_val_accuracy ORDER BY seed) FILTER (counts AND best_val_accuracy IS NOT NULL) AS "values"
            FROM used GROUP BY config_id
        ), placed AS (
            SELECT *, row_number() OVER (
                ORDER BY worst, stage = 'confirm' DESC, best_val_accuracy_mean DESC NULLS LAST,
                    num_parameters, config_id
            ) AS place FROM board
        )
        SELECT
            CASE WHEN worst = 1 THEN place END AS rank,
            sweep, dataset, config_id,
            {"".join(f"{_quote(name)}," for name in varied)}
            coalesce(list_extract([{order}], worst), 'unknown') AS outcome,
            placed.* EXCLUDE (sweep, dataset, config_id, worst, place {"".join(f", {_quote(name)}" for name in varied)})
        FROM placed
        ORDER BY place
    """
    board = run_sql(query, {"trials": trials})
    needed = ["rank", "stage", "best_val_accuracy_mean", "best_val_accuracy_sd", "seeds", "values"]
    judged = separation(board.select(needed).to_pylist())
    board = board.drop_columns(["seeds", "values"])
    for name in judged.column_names:
        board = board.append_column(name, judged[name])
    return board.slice(0, limit)


def _quote(name: str) -> str:
    assert name in table_schema("trials").names, name  # never a name from a file
    return '"' + name + '"'


ALPHA = 0.05

ONE_SEED = "one seed: no interval"

_COLUMNS = {
    "best_val_accuracy_low": pa.float64(),
    "best_val_accuracy_high": pa.float64(),
    "separable_from_leader": pa.string(),
    "behind_leader": pa.float64(),
    "behind_leader_low": pa.float64(),
    "behind_leader_high": pa.float64(),
    "p_value": pa.float64(),
    "compared_by": pa.string(),
}


def separation(rows: Sequence[dict]) -> pa.Table:
    """Columns for the rows of one board, best first.

    best_val_accuracy_low and _high: 95 % interval of the mean. behind_leader: leader's mean less this one's, with
    its 95 % interval. p_value: adjusted for all the comparisons made and for the leader having been picked by the
    same values. separable_from_leader: `leader`, `yes` (p below 5 %), `no`, `one seed: no interval`; null where it
    was not compared: it did not run to its end, or was only screened while the leader was confirmed.

    Args:
        rows: mappings with rank, stage, seeds and values (lists of equal length), and the values' mean and sd.
    """
    found = _intervals(rows)
    samples = [dict(zip(row["seeds"] or (), row["values"] or (), strict=True)) for row in rows]
    if rows and rows[0]["rank"] is not None and samples[0]:
        found[0] |= {"separable_from_leader": "leader", "behind_leader": 0.0}
        rivals = [
            index
            for index, row in enumerate(rows)
            if index and row["rank"] is not None and row["stage"] == rows[0]["stage"] and samples[index]
        ]
        comparisons = compare_all(samples[0], [samples[index] for index in rivals])
        for index, columns in zip(rivals, _judged(comparisons), strict=True):
            found[index] |= columns
    return _as_table(found)


def _as_table(rows: Sequence[dict]) -> pa.Table:
    """By way of JSON: pa.array() imports pandas first, which takes longer than all of the leaderboard."""
    import io
    import json

    from pyarrow import json as arrow_json

    schema = pa.schema(list(_COLUMNS.items()))
    if not rows:
        return schema.empty_table()
    lines = "\n".join(json.dumps(row) for row in rows)
    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    return arrow_json.read_json(io.BytesIO(lines.encode()), parse_options=options).combine_chunks()


def _intervals(rows: Sequence[dict]) -> list[dict]:
    found: list[dict] = [{} for _ in rows]
    several = [index for index, row in enumerate(rows) if row["values"] and len(row["values"]) > 1]
    if several:
        sds = [rows[index]["best_val_accuracy_sd"] for index in several]
        halves = half_width(sds, [len(rows[index]["values"]) for index in several])
        for index, half in zip(several, halves.tolist(), strict=True):
            mean = rows[index]["best_val_accuracy_mean"]
            low, high = max(0.0, mean - half), min(1.0, mean + half)  # no accuracy lies outside
            found[index] = {"best_val_accuracy_low": low, "best_val_accuracy_high": high}
    return found


def _judged(comparisons: Sequence[Comparison]) -> list[dict]:
    tested = [comparison for comparison in comparisons if comparison.p_value is not None]
    adjusted = iter(below_leader([comparison.p_value for comparison in tested]))
    judged = []
    for each in comparisons:
        p_value = None if each.p_value is None else next(adjusted)
        # on shared seeds alone the leader may be behind: then nothing says that it is better
        verdict = ONE_SEED if p_value is None else "yes" if p_value < ALPHA and each.difference > 0 else "no"
        judged.append(
            {
                "separable_from_leader": verdict,
                "behind_leader": each.difference,
                "behind_leader_low": each.low,
                "behind_leader_high": each.high,
                "p_value": p_value,
                "compared_by": each.test,
            }
        )
    return judged
