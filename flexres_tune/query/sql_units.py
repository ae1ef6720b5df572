"""Units of the columns of a SQL query: `max(val_accuracy) AS best` is a fraction, so it is printed as a percentage.

DuckDB's types have no units, so they are read from the query's tree: a plain column keeps its unit through aliases,
subqueries, WITH and joins, and so do functions that return a value of their argument's kind, such as min and avg. Any
other expression has no unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flexres_tune.results.paths import TABLES
from flexres_tune.results.schema import table_schema, unit_of
from flexres_tune.results.sql import parse_sql
from flexres_tune.spec.metrics import METRIC_TRAITS

_OF_FIRST_ARGUMENT = ("arg_max", "arg_min", "max_by", "min_by", "quantile_cont", "quantile_disc", "round")
_KEEPS_UNIT = ("any_value", "avg", "coalesce", "first", "greatest", "ifnull", "lag", "last", "lead", "least", "max")
_KEEPS_UNIT += ("mean", "median", "min", "mode", "stddev", "stddev_pop", "stddev_samp", "sum")

WITH_METRICS = ("trials", "epochs")  # tables with a column per further metric

Units = Mapping[str, str]  # by column, in lower case


def column_units(query: str, names: Sequence[str]) -> dict[str, str]:
    """Unit of each column of the query's answer, whose columns have these names; those that are not known are left out.

    An expression that is not understood is left out as well, unless it was given an alias: then its unit is "", so that
    it does not get the unit of a column of the tables that happens to have the alias as its name.
    """
    tree = parse_sql(query)
    if tree["error"]:
        return {}
    found = _of_query(tree["statements"][-1]["node"], {name: _of_table(name) for name in TABLES})
    return {name: found[name.lower()] for name in names if name.lower() in found}


def _of_table(name: str) -> dict[str, str]:
    """Units of a table's columns, those of further metrics included: `max(top5)` is a fraction as `top5` is."""
    further = {key for key, traits in METRIC_TRAITS.items() if traits.is_fraction} if name in WITH_METRICS else ()
    return dict.fromkeys(further, "fraction") | {field.name: unit_of(field) for field in table_schema(name)}


def _of_query(node: Mapping[str, Any], tables: Mapping[str, Units]) -> dict[str, str]:
    """Units of the columns that have a name in the query: by alias, or by the column's own name."""
    tables = dict(tables)
    for entry in node["cte_map"]["map"]:
        value = entry["value"]
        inner = value.get("query_node") or value["query"]["node"]  # DuckDB 1.5, and earlier ones
        tables[entry["key"].lower()] = _of_query(inner, tables)
    if node["type"] != "SELECT_NODE":  # UNION: its columns have the names of the first query
        first = next(iter(node.get("children") or ()), node.get("left"))
        return {} if first is None else _of_query(first, tables)
    columns = _of_source(node["from_table"], tables)
    found: dict[str, str] = {}
    for expression in node["select_list"]:
        if expression["class"] == "STAR":
            found |= columns
            continue
        unit = _of_expression(expression, columns)
        name = expression.get("alias") or _name(expression)
        if name and (unit is not None or expression.get("alias")):
            found[name.lower()] = unit or ""
    return found


def _of_source(source: Mapping[str, Any], tables: Mapping[str, Units]) -> Units:
    """Units of the columns of a FROM clause."""
    kind = source["type"]
    if kind == "BASE_TABLE":
        return tables.get(source["table_name"].lower(), {})
    if kind == "SUBQUERY":
        return _of_query(source["subquery"]["node"], tables)
    if kind == "JOIN":
        return {**_of_source(source["right"], tables), **_of_source(source["left"], tables)}
    return {}


def _of_expression(expression: Mapping[str, Any], columns: Units) -> str | None:
    """The unit of a column, or of a function that keeps it; None if it is not known."""
    if expression["class"] == "COLUMN_REF":
        return columns.get(expression["column_names"][-1].lower())
    function = expression.get("function_name", "").lower()
    arguments = [each.get("expression", each) for each in expression.get("arguments") or expression.get("children", ())]
    if function in _OF_FIRST_ARGUMENT and arguments:
        return _of_expression(arguments[0], columns)
    if function not in _KEEPS_UNIT or not arguments:
        return None
    units = {_of_expression(each, columns) for each in arguments if each["class"] != "CONSTANT"}
    return units.pop() if len(units) == 1 else None


def _name(expression: Mapping[str, Any]) -> str:
    """The name that DuckDB gives to a column without an alias: that of the column, or `max(val_accuracy)`."""
    if expression["class"] == "COLUMN_REF":
        return expression["column_names"][-1]
    function = expression.get("function_name", "")
    arguments = [each.get("expression", each) for each in expression.get("arguments") or expression.get("children", ())]
    if not function or any(each["class"] != "COLUMN_REF" for each in arguments):
        return ""
    return f"{function}({', '.join('.'.join(each['column_names']) for each in arguments)})"
