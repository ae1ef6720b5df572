"""--where, --sort, --columns and --limit choose the same rows for a terminal and for every file format."""

import csv
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.factories import make_config, make_trial
from helpers.query_results import SEEN
from hypothesis import given, settings
from hypothesis import strategies as st

from flexres_tune.query.__main__ import app
from flexres_tune.query.condition import choose_rows, columns_of_key, read_condition
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter

COMMANDS = {
    command.name or command.callback.__name__.replace("_", "-"): ()
    for command in app.registered_commands
    if not command.hidden
}
# importance and power want more trials, answer a sweep with compare; tag writes
ASKED = {name: () for name in COMMANDS if name not in ("importance", "power", "answer", "tag")} | {
    "compare": ("lr",),
    "diff": ("demo", "other"),
    "effort": ("lr",),
    "confusion": (SEEN[0].config_id,),
    "disagree": (SEEN[0].config_id, SEEN[1].config_id),
    "ensemble": ("2", "--split", "val"),
}
OF_PREDICTIONS = ("classes", "confusion", "disagree", "hardest", "ensemble")


def rows_of(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize("format", ["table", "csv", "json", "markdown", "parquet"])
def test_rows_and_columns_are_chosen_before_they_are_formatted(ask, tmp_path, format):
    out = tmp_path / "answer"
    options = ["--where", "lr >= 0.1 AND status = 'completed'", "--sort", "seed:desc", "--columns", "seed,lr"]
    ask("trials", "--sweep", "demo", *options, "--format", format, "--out", out)
    if format == "parquet":
        assert pq.read_table(out).to_pylist() == [{"seed": 1, "lr": 0.1}, {"seed": 0, "lr": 0.1}]
    elif format == "json":
        assert json.loads(out.read_text()) == [{"seed": 1, "lr": 0.1}, {"seed": 0, "lr": 0.1}]
    else:
        words = [line.replace("|", " ").replace(",", " ").split() for line in out.read_text().splitlines()]
        assert [line for line in words if len(line) == 2 and line[0].isdigit()] == [["1", "0.1"], ["0", "0.1"]]


@pytest.mark.parametrize("command", ASKED)
@pytest.mark.parametrize("format", ["table", "csv"])
def test_every_command_takes_them(request, ask, command, format):
    if command in OF_PREDICTIONS:
        request.getfixturevalue("seen")
        ask = request.getfixturevalue("ask")
    sweep = ["--sweep", "seen"] if command in OF_PREDICTIONS else []
    [header, *_] = ask(command, *ASKED[command], *sweep, "--format", "csv").splitlines()
    first = header.split(",")[0]
    options = ["--where", f'"{first}" IS NOT NULL', "--sort", f"{first}:desc", "--columns", first, "--format", format]
    text = ask(command, *ASKED[command], *sweep, *options)
    values = [line.strip() for line in text.splitlines() if line.strip()]
    assert len(values) > 1 and (format == "table" or values[0] == first)


def test_each_table_is_filtered_sorted_and_cut_by_itself(ask):
    options = ["--sort", "lr:desc", "--limit", "2", "--columns", "sweep,lr"]
    found = rows_of(ask("trials", *options, "--format", "csv"))
    assert [(row["sweep"], row["lr"]) for row in found] == [("demo", "0.4"), ("demo", "0.3"), ("other", "0.7")]
    text = ask("trials", *options)
    assert "2 of 5 rows; --limit 0 shows all" in text and text.index("0.4") < text.index("0.3") < text.index("0.7")


def test_a_filtered_board_keeps_its_ranks_and_says_how_much_it_shows(ask):
    text = ask("leaderboard", "--sweep", "demo", "--where", "outcome = 'completed'")
    assert "1 of 4 rows fulfil --where" in text and "97.21" in text and "stopped" not in text
    [row] = rows_of(ask("leaderboard", "--where", "sweep = 'other' AND rank = 1", "--format", "csv"))
    assert float(row["best_val_accuracy_mean"]) == 0.8


def test_a_table_that_is_cut_says_so(ask):
    assert "1 of 4 rows; --limit 0 shows all" in ask("leaderboard", "--sweep", "demo", "--limit", "1")
    assert "3 not ranked" in ask("leaderboard", "--sweep", "demo", "--limit", "1")
    assert "2 of 5 rows" in ask("trials", "--sweep", "demo", "--limit", "2")
    assert "1 of 2 rows" in ask("status", "--limit", "1")
    assert "50 of 150 rows" in ask("SELECT * FROM range(150)", "--limit", "50")
    assert "100 of 150 rows; --limit 0 shows all" in ask("SELECT * FROM range(150)")
    assert " of 150 rows" not in ask("SELECT * FROM range(150)", "--limit", "0")


def test_a_table_without_such_a_row_explains_that_accuracies_are_fractions(ask):
    text = ask("leaderboard", "--where", "best_val_accuracy > 90")
    assert "no row of 5 fulfils" in text and "is a fraction: 0.9 is 90 %" in text
    assert ask("trials", "--where", "lr > 9", "--columns", "lr,seed", "--format", "csv") == "lr,seed\n"


def test_a_mean_and_its_deviation_are_named_as_the_terminal_shows_them(ask):
    text = ask("leaderboard", "--columns", "best_val_accuracy", "--sort", "best_val_accuracy", "--format", "csv")
    assert text.splitlines()[0] == "best_val_accuracy_mean,best_val_accuracy_sd"


def test_keys_of_a_sweep_file_name_columns(ask):
    options = ["--where", "model.block = 'basic'", "--columns", "model.block", "--limit", "1", "--format", "csv"]
    assert ask("trials", "--sweep", "other", *options) == "block\nbasic\n"
    assert columns_of_key("model.block", ["block", "lr"]) == ["block"]
    assert columns_of_key("model.width", ["model.width", "width"]) == ["model.width"]
    assert columns_of_key("LR", ["lr"]) == ["lr"] and columns_of_key("model.lr", ["lr"]) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--where", "optmizer = 'sgd'"], "it has no 'optmizer'; did you mean optimizer?"),
        (["--where", "optimizer = sgd"], "write it in single quotes: 'sgd'"),
        (["--where", "model.width > 3"], "it has no 'model.width'"),
        (["--where", "lr"], "must be true or false for each row, but is double"),
        (["--where", "lr > 1, lr < 3"], "must be one expression"),
        (["--where", "lr >"], "write one condition over the table's columns"),
        (["--where", "lr > 0 FROM trials"], "must be one expression, but is more"),
        (["--where", "true; SELECT 1"], "must be one expression, but is more"),
        (["--where", "lr > 0 LIMIT 1"], "must be one expression, but is more"),
        (["--where", "true; DROP VIEW answer"], "Only SELECT"),
        (["--where", "1) OR (1 = 1"], "syntax error"),
        (["--where", "lr > (SELECT 1)"], "without a query in it"),
        (["--where", "lr IN (FROM '/etc/passwd')"], "without a query in it"),
        (["--where", "EXISTS (FROM read_text('/etc/passwd'))"], "without a query in it"),
        (["--where", "read_text('/etc/passwd') > ''"], "--where: "),
        (["--where", "max(lr) > 1"], "aggregates"),
        (["--where", "nothing(lr)"], "nothing does not exist"),
        (["--where", ""], "write one condition"),
        (["--sort", "lrr"], "--sort: must name columns of the table, but it has no 'lrr'; did you mean lr?"),
        (["--sort", "lr:up"], "must be COLUMN, COLUMN:asc or COLUMN:desc, but got 'lr:up'"),
        (["--columns", "lr,sed"], "--columns: must name columns of the table, but it has no 'sed'; did you mean seed?"),
        (["--columns", ","], "must name at least one column"),
        (["--limit", "-1"], "--limit"),
    ],
)
def test_wrong_options_are_told_with_what_to_do(ask, options, words):
    assert words in ask("trials", *options, code=2)


def test_functions_and_fields_of_structs_may_be_used(ask):
    condition = "versions.torch LIKE '2.%' AND len(list_filter(blocks, lambda x: x > 0)) = 2"
    assert len(rows_of(ask("trials", "--sweep", "demo", "--where", condition, "--format", "csv"))) == 5


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.one_of(st.none(), st.floats(allow_nan=True, width=32)), max_size=12),
    st.floats(allow_nan=False, allow_infinity=False, width=32),
)
def test_conditions_agree_with_python(values, bound):
    table = pa.table({"x": pa.array(values, pa.float64()), "row": pa.array(range(len(values)), pa.int64())})
    condition = read_condition(f"x <= {bound!r}::DOUBLE", table)
    assert choose_rows(table, condition, []) == [
        row for row, value in enumerate(values) if value is not None and value <= bound
    ]


def test_limit_is_that_of_each_table_in_files_as_on_a_terminal(ask, root):
    for name in ("first", "second"):
        with SweepWriter(SweepPaths(root, name)) as writer:
            for lr in (0.1, 0.2, 0.3):
                config = make_config(lr=lr)
                writer.add_trial(make_trial(config, sweep=name), config)
    for command in (["compare", "lr"], ["pareto"]):
        rows = json.loads(ask(*command, "--limit", "1", "--format", "json"))
        assert [row["sweep"] for row in rows if row["sweep"] in ("first", "second")].count("second") >= 1, command


def test_limit_of_classes_counts_configurations(ask, seen):
    text = ask("classes", "--sweep", "seen", "--limit", "1")
    assert "1 of 3 rows" not in text and "the best 1 of 2 configurations" in text
    rows = json.loads(ask("classes", "--sweep", "seen", "--limit", "1", "--format", "json"))
    assert len({row["config_id"] for row in rows}) == 1 and len(rows) == 3
