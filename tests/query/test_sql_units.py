"""SQL keeps percent and units through aliases, where a query's expressions tell them."""

import pytest

from flexres_tune.query.sql_units import column_units
from flexres_tune.results.schema import table_schema, unit_of


@pytest.mark.parametrize(
    ("query", "units"),
    [
        ("SELECT max(val_accuracy) AS best FROM epochs", {"best": "fraction"}),
        ("SELECT best_val_accuracy AS a, train_seconds b FROM trials", {"a": "fraction", "b": "s"}),
        ("SELECT avg(t.test_accuracy) FROM trials t", {"avg(t.test_accuracy)": "fraction"}),
        ("WITH w AS (SELECT max(val_accuracy) m FROM epochs) SELECT m AS top FROM w", {"top": "fraction"}),
        ("SELECT x.a AS b FROM (SELECT test_accuracy a FROM trials) x", {"b": "fraction"}),
        (
            "SELECT arg_max(train_seconds, lr) AS s, round(test_accuracy, 2) AS r FROM trials",
            {"s": "s", "r": "fraction"},
        ),
        ("SELECT e.epoch_seconds AS s FROM epochs e JOIN trials t USING (trial_id)", {"s": "s"}),
        ("SELECT test_accuracy AS a FROM trials UNION ALL SELECT 1", {"a": "fraction"}),
        ("SELECT max(test_accuracy) OVER () AS a FROM trials", {"a": "fraction"}),
        ("SELECT 100 * test_accuracy AS test_accuracy FROM trials", {"test_accuracy": ""}),
        ("SELECT lr AS val_accuracy, count(*) AS lr FROM trials", {"val_accuracy": "", "lr": ""}),
        ("SELECT max(top5) AS x, avg(ece) AS e FROM trials", {"x": "fraction", "e": "fraction"}),
        ("SELECT min(f1), any_value(top5) FROM epochs", {"min(f1)": "fraction", "any_value(top5)": "fraction"}),
        ("SELECT median(e.balanced_accuracy) AS m FROM epochs e", {"m": "fraction"}),
        ("SELECT max(top5) AS x, avg(mine) AS y FROM decisions", {"x": "", "y": ""}),
        ("VALUES (1)", {}),
        ("DESCRIBE trials", {}),
        ("no query", {}),
    ],
)
def test_units_follow_columns_and_functions_that_keep_them(query, units):
    assert column_units(query, list(units)) == units


def test_all_columns_keep_their_units():
    names = table_schema("trials").names
    assert column_units("SELECT * FROM trials", names) == {
        field.name: unit_of(field) for field in table_schema("trials")
    }


def test_an_alias_is_printed_as_a_percentage(ask):
    assert "97.31 %" in ask("SELECT max(val_accuracy) AS best FROM epochs")
    assert "97.31 %" in ask("SELECT max(val_accuracy) FROM epochs")
    assert "best\n0.9731" in ask("SELECT max(val_accuracy) AS best FROM epochs", "--format", "csv")
