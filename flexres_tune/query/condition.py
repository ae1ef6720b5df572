"""A condition over the columns of a table, such as `lr >= 0.01 AND optimizer = 'sgd'`, read and checked by DuckDB.

A condition is one boolean expression: no query inside it, no second statement. It is never pasted into a query as text:
DuckDB parses it, and its tree becomes the condition of a query that we wrote. That query runs in the same locked
database as `query "SELECT ..."`, which can reach no file and no network.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from flexres_tune.errors import ResultsError
from flexres_tune.results.schema import column_of_key
from flexres_tune.results.sql import parse_sql, run_sql_of_user, unparse_sql
from flexres_tune.text import did_you_mean

_TABLE = "answer"


@dataclass(frozen=True)
class Condition:
    """A condition that fits the columns of a table."""

    tree: dict[str, Any]  # DuckDB's
    columns: tuple[str, ...]  # that it reads


@dataclass(frozen=True)
class SortKey:
    """A column that orders rows."""

    column: str
    is_descending: bool


def columns_of_key(key: str, names: Sequence[str]) -> list[str]:
    """Columns that a word means: `model.block` is `block`, as in a sweep file; `val` is `val_mean` and `val_sd`.

    A terminal shows a mean and its standard deviation as one column. [] if no column has the name.
    """
    lowered = {name.lower(): name for name in names}
    word = key.lower()
    if (column := column_of_key(word, lowered)) in lowered:
        return [lowered[column]]
    return [lowered[name] for name in (f"{word}_mean", f"{word}_sd") if name in lowered]


def unknown_column(option: str, key: str, names: Sequence[str]) -> ResultsError:
    """The error about a column that a table does not have."""
    hint = did_you_mean(key.lower(), names)
    if not hint and option == "--where":
        hint = f"; if it is a text, write it in single quotes: '{key[:50]}'"
    return ResultsError(f"{option}: must name columns of the table, but it has no {key[:50]!r}{hint}\n{_list(names)}")


def read_condition(text: str, table: pa.Table) -> Condition:
    """Parse a condition and check that it fits the table.

    Raises:
        ResultsError: not one boolean expression, or a column that the table does not have.
    """
    expression = _parse(text)
    columns: dict[str, None] = {}
    own_names = {name.lower() for node in _nodes(expression, "LAMBDA") for name in _lambda_parameters(node)}
    for node in _nodes(expression, "COLUMN_REF"):
        words = node["column_names"]
        if words[0].lower() in own_names:
            continue
        if found := columns_of_key(".".join(words), table.column_names):
            rest = []
        elif pa.types.is_struct(_type_of(words[0], table)):  # versions.torch
            found, rest = columns_of_key(words[0], table.column_names), words[1:]
        else:
            raise unknown_column("--where", ".".join(words), table.column_names)
        node["column_names"] = [found[0], *rest]
        columns[found[0]] = None
    _check_is_boolean(text, expression, table)
    return Condition(expression, tuple(columns))


def choose_rows(table: pa.Table, condition: Condition | None, keys: Sequence[SortKey]) -> list[int]:
    """Indices of the rows that fulfil the condition, sorted by the keys; null and NaN last, equal rows in their order.

    Raises:
        ResultsError: DuckDB cannot compute the condition.
    """
    number = "row"
    while number in map(str.lower, table.column_names):
        number += "_"
    orders = []
    for key in keys:
        value = f'"{key.column.replace(chr(34), chr(34) * 2)}"'
        if pa.types.is_floating(table.schema.field(key.column).type):
            value = f"CASE WHEN isnan({value}) THEN NULL ELSE {value} END"  # for DuckDB NaN is the greatest number
        orders.append(f"{value} {'DESC' if key.is_descending else 'ASC'} NULLS LAST")
    query = f"SELECT {number} FROM {_TABLE} WHERE true ORDER BY {', '.join([*orders, number])}"
    tree = parse_sql(query)
    if condition is not None:
        tree["statements"][0]["node"]["where_clause"] = condition.tree
    numbered = table.append_column(number, pa.arange(0, table.num_rows))
    return _run(unparse_sql(tree), numbered)[number].to_pylist()


def _parse(text: str) -> dict[str, Any]:
    """The tree of one expression without a query in it."""
    tree, plain = parse_sql(f"SELECT {text}\n"), parse_sql("SELECT 1")["statements"][0]["node"]
    advice = "write one condition over the table's columns, such as \"lr >= 0.01 AND optimizer = 'sgd'\""
    if tree["error"]:
        raise ResultsError(f"--where {text[:200]!r}: {tree['error_message']}; {advice}")
    nodes = [statement["node"] for statement in tree["statements"]]
    if len(nodes) != 1 or nodes[0] | {"select_list": []} != plain | {"select_list": []}:
        raise ResultsError(f"--where {text[:200]!r}: must be one expression, but is more than that; {advice}")
    expressions = nodes[0]["select_list"]
    if len(expressions) != 1 or expressions[0].get("alias") or any(_nodes(expressions, "SUBQUERY")):
        raise ResultsError(
            f"--where {text[:200]!r}: must be one expression without a query in it; {advice}, or ask with "
            '`query "SELECT ..."`'
        )
    return expressions[0]


def _check_is_boolean(text: str, expression: Mapping[str, Any], table: pa.Table) -> None:
    tree = parse_sql(f"SELECT 1 FROM {_TABLE} LIMIT 0")
    tree["statements"][0]["node"]["select_list"] = [expression]
    kinds = _run(unparse_sql(tree), table).schema.types
    if kinds != [pa.bool_()]:
        raise ResultsError(
            f"--where {text[:200]!r}: must be true or false for each row, but is {', '.join(map(str, kinds))[:100]}; "
            "compare it with something, such as lr >= 0.01"
        )


def _run(query: str, table: pa.Table) -> pa.Table:
    try:
        return run_sql_of_user(query, {_TABLE: table})
    except ResultsError as error:
        raise ResultsError(f"--where: {str(error).split(chr(10) + 'LINE ')[0].split(chr(10) * 2)[0]}") from None


def _nodes(tree: Any, kind: str) -> Iterator[dict[str, Any]]:
    """The nodes of a class in a tree, outermost first."""
    if isinstance(tree, dict):
        if tree.get("class") == kind:
            yield tree
        for child in tree.values():
            yield from _nodes(child, kind)
    elif isinstance(tree, list):
        for child in tree:
            yield from _nodes(child, kind)


def _lambda_parameters(node: Mapping[str, Any]) -> list[str]:
    """Names in front of the arrow of `x -> x > 1` or `(x, i) -> ...`."""
    return [column["column_names"][0] for column in _nodes(node["lhs"], "COLUMN_REF")]


def _type_of(word: str, table: pa.Table) -> pa.DataType:
    found = columns_of_key(word, table.column_names)
    return table.schema.field(found[0]).type if found else pa.null()


def _list(names: Sequence[str]) -> str:
    return f"columns: {', '.join(names)}"
