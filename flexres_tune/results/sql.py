"""SQL over Arrow tables in memory: a DuckDB that reaches no file, network or extension and cannot be unlocked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import duckdb
import pyarrow as pa

from flexres_tune.errors import ResultsError

_SETTINGS = {
    "enable_external_access": "false",  # a stranger's query can neither read nor write a file
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "allow_community_extensions": "false",
}


def run_sql(query: str, tables: Mapping[str, pa.Table]) -> pa.Table:
    """The answer of the query's last statement; `tables` are its views.

    Each call has a database of its own: whatever a query creates or drops is gone after it.

    Raises:
        ResultsError: DuckDB's message, with the names of the tables or columns there are where that helps.
    """
    try:
        with duckdb.connect(":memory:", config=_SETTINGS) as connection:
            connection.execute("SET TimeZone = 'UTC'")  # else moments would be shown in this machine's zone
            connection.execute("SET lock_configuration = true")
            for name, table in tables.items():
                connection.register(name, table)
            relation = connection.sql(query)
            if relation is None:
                raise ResultsError("the query has no answer: it must end with a SELECT, such as SELECT * FROM trials")
            table = relation.to_arrow_table()
            return table.rename_columns(_distinct(table.column_names))
    except (duckdb.Error, UnicodeError) as error:
        raise ResultsError(f"{str(error).strip()}{_hint(str(error), query, tables)}") from None


def _distinct(names: Sequence[str]) -> list[str]:
    """lr, lr -> lr, lr_2: a join has both, and a record can hold one of a name."""
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
