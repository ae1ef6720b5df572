"""The trials that a leaderboard ranks: the value of each, their data sets, and the columns that tell them apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.metric import RankingMetric
from flexres_tune.records import Stage
from flexres_tune.results.own_values import configuration_columns, is_own_column, with_metric
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import Plan, plan_or_none
from flexres_tune.results.reader import Results
from flexres_tune.results.schema import architecture_columns, column_of_key, table_schema
from flexres_tune.results.sql import run_sql
from flexres_tune.spec.trial import OWN_CODE_FIELDS


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
    return distinguishing_columns(rows, swept_columns(plan_or_none(SweepPaths(results.root, sweep)), rows))


def swept_columns(plan: Plan | None, trials: pa.Table) -> set[str]:
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
