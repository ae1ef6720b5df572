"""SQL over Arrow tables in memory: a DuckDB that can reach no file, network or extension, and cannot be unlocked."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import duckdb
import pyarrow as pa

from flexres_tune.errors import ResultsError
from flexres_tune.results.parts import join
from flexres_tune.results.paths import TABLES

DEFAULT_TIME_LIMIT_S = 60.0

PREDICTION_LISTS = "prediction_lists"  # the table as it is stored: one row per trial and split

# One row per image: a label is null if no row of `labels` belongs to the split.
PREDICTIONS_VIEW = f"""
CREATE VIEW predictions AS
SELECT sweep, trial_id, dataset, split, subset,
    unnest(image) AS image, unnest(label) AS label, unnest(predicted) AS predicted,
    unnest(predicted_probability) AS predicted_probability, unnest(true_probability) AS true_probability,
    unnest(second) AS second, unnest(second_probability) AS second_probability,
    unnest(third) AS third, unnest(third_probability) AS third_probability
FROM {PREDICTION_LISTS} LEFT JOIN labels USING (sweep, dataset, split, subset)
"""

_SETTINGS = {
    "enable_external_access": "false",  # a query from elsewhere can neither read nor write a file
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
}


def run_sql(query: str, tables: Mapping[str, pa.Table]) -> pa.Table:
    """The result of the query's last statement; `tables` are its views.

    For queries of this package: they share one database, because opening one takes 20 ms and a folder may hold
    thousands of sweeps. The views of a call are its own.

    Raises:
        ResultsError: DuckDB's message, followed by the names of the existing tables or columns if that helps.
    """
    with _shared_connection().cursor() as connection:
        return _run(connection, query, tables)


def run_sql_on_results(
    query: str, load: Callable[[str], pa.Table], time_limit_s: float = DEFAULT_TIME_LIMIT_S
) -> pa.Table:
    """As run_sql, for a query of a user, over the views of all tables, in a database of its own.

    The view `predictions` has one row per trial, split and image: see PREDICTIONS_VIEW.

    `load(name)` is called for the tables that the query reads.

    Raises:
        ResultsError: as run_sql, or the query has not ended after `time_limit_s`, which does not count loading.
    """
    with _connect() as connection:
        names = _names_read(connection, query)
        if "predictions" in names:
            names = {*names, "labels"}
        tables = {name: load(name) if name in names else join(name, []) for name in TABLES}
        return _within(time_limit_s, connection, lambda: _run_on_results(connection, query, tables))


def run_sql_of_user(query: str, tables: Mapping[str, pa.Table], time_limit_s: float = DEFAULT_TIME_LIMIT_S) -> pa.Table:
    """As run_sql, for a query that contains an expression of a user, in a database of its own, with a limit of time.

    Raises:
        ResultsError: as run_sql, or the query has not ended after `time_limit_s`.
    """
    with _connect() as connection:
        return _within(time_limit_s, connection, lambda: _run(connection, query, tables))


def parse_sql(query: str) -> dict[str, Any]:
    """DuckDB's tree of SELECT statements, with `statements`; or one with `error_message` if it cannot read them."""
    with _shared_connection().cursor() as connection:
        [text] = connection.execute("SELECT json_serialize_sql(?::VARCHAR)", [query]).fetchone()
    return json.loads(text)


def unparse_sql(tree: Mapping[str, Any]) -> str:
    """The query of a tree of parse_sql()."""
    with _shared_connection().cursor() as connection:
        [text] = connection.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(tree)]).fetchone()
    return text


def _within(time_limit_s: float, connection: duckdb.DuckDBPyConnection, run: Callable[[], pa.Table]) -> pa.Table:
    """run(), which queries the connection, in another thread: in the main thread DuckDB would notice Ctrl-C late."""
    with ThreadPoolExecutor(1) as worker:
        future = worker.submit(run)
        try:
            return future.result(time_limit_s)
        except TimeoutError:
            raise ResultsError(
                f"the query must end within {time_limit_s:g} s, but has not; use --time-limit SECONDS to wait "
                "longer, or see whether it ends at all: a recursive query needs a condition that ends it"
            ) from None
        finally:
            while not future.done():
                connection.interrupt()
                wait([future], 0.1)


@functools.cache
def _shared_connection() -> duckdb.DuckDBPyConnection:
    return _connect()


def _connect() -> duckdb.DuckDBPyConnection:
    connection = duckdb.connect(":memory:", config=_SETTINGS)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")  # otherwise times would be shown in this machine's time zone
    connection.execute("SET lock_configuration = true")
    return connection


def _names_read(connection: duckdb.DuckDBPyConnection, query: str) -> Collection[str]:
    """Names of the tables in a query; those of all tables if DuckDB cannot tell.

    It cannot for several statements, for JOIN ... USING, and for table names that are computed or incorrect. Predictions
    are large: they are read only if the query contains their name.
    """
    try:
        return {name.lower() for name in connection.get_table_names(query)}
    except (duckdb.Error, TypeError):
        large = {name for name in ("predictions", "labels") if name not in query.lower()}
        return set(TABLES) - large


def _run_on_results(connection: duckdb.DuckDBPyConnection, query: str, tables: Mapping[str, pa.Table]) -> pa.Table:
    """As _run, with `predictions` as the view with one row per image."""
    tables = dict(tables)
    connection.register(PREDICTION_LISTS, tables.pop("predictions"))
    connection.register("labels", tables["labels"])
    connection.execute(PREDICTIONS_VIEW)
    return _run(connection, query, tables)


def _run(connection: duckdb.DuckDBPyConnection, query: str, tables: Mapping[str, pa.Table]) -> pa.Table:
    try:
        for name, table in tables.items():
            connection.register(name, table)
        relation = connection.sql(query)
        if relation is None:
            raise ResultsError("the query has no result: it must end with a SELECT, such as SELECT * FROM trials")
        table = relation.to_arrow_table()
        return table.rename_columns(_distinct(table.column_names))
    except duckdb.OutOfMemoryException as error:
        first = str(error).strip().splitlines()[0]
        raise ResultsError(f"{first}; raise `ulimit -v`, or ask for less, such as one sweep with --sweep") from None
    except (duckdb.Error, UnicodeError) as error:
        raise ResultsError(f"{str(error).strip()}{_hint(str(error), query, tables)}") from None


def _distinct(names: Sequence[str]) -> list[str]:
    """lr, lr -> lr, lr_2: a join has both, and a record can have only one value per name."""
    distinct: dict[str, None] = {}
    for name in names:
        candidate, number = name, 1
        while candidate in distinct:
            number += 1
            candidate = f"{name}_{number}"
        distinct[candidate] = None
    return list(distinct)


def _hint(message: str, query: str, tables: Mapping[str, pa.Table]) -> str:
    if message.startswith("Catalog Error: Table"):
        return f"\ntables: {', '.join(tables)}"
    if "column" in message.lower() and message.startswith("Binder Error"):
        used = [name for name in tables if name in query.lower()] or list(tables)
        return "".join(f"\ncolumns of {name}: {', '.join(tables[name].column_names)}" for name in used)
    if "disabled" in message or "locked" in message:
        return "\nqueries see only the tables of the results folder; choose another folder with --results"
    return ""
