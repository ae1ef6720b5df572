import contextlib
import csv
import dataclasses
import io
import json
import signal
import subprocess
import sys
import time

import psutil
import pyarrow.parquet as pq
import pytest
from helpers.command import invoke
from helpers.query_results import EVIL, SEEN

from flexres_tune.query.__main__ import app
from flexres_tune.records import TrialStatus
from flexres_tune.results.lock import sweep_lock
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import write_plan

COMMANDS = [
    command.name or command.callback.__name__.replace("_", "-")
    for command in app.registered_commands
    if not command.hidden
]
WITH_ARGUMENTS = {
    "compare": ["compare", "lr"],
    "diff": ["diff", "demo", "other"],
    "effort": ["effort", "lr"],
}
OF_PREDICTIONS = {
    "classes": ["classes"],
    "confusion": ["confusion", SEEN[0].config_id],
    "disagree": ["disagree", SEEN[0].config_id, SEEN[1].config_id],
    "hardest": ["hardest"],
    "ensemble": ["ensemble", "2", "--split", "val"],
}
# importance wants more trials than these, power several seeds, answer a sweep with compare, and tag writes; each has
# tests of its own
ASKED = [command for command in COMMANDS if command not in ("importance", "power", "answer", "tag", *OF_PREDICTIONS)]


def test_leaderboard_ranks_whole_configurations_and_says_what_it_did_not_rank(ask):
    text = ask("leaderboard", "--sweep", "demo")
    lines = [line.split() for line in text.splitlines()]
    assert ["1", "completed"] in [[row[0], row[3]] for row in lines if len(row) > 4]
    assert "97.21 ± 0.14 %" in text and "2 h 04 min" in text and "24,794" in text
    assert "3 not ranked: some of their trials did not run to the end" in text
    assert text.startswith("demo on digits")


def test_each_sweep_has_a_leaderboard_of_its_own(ask):
    text = ask("leaderboard")
    assert text.index("demo on digits") < text.index("other on digits")
    rows = list(csv.DictReader(io.StringIO(ask("leaderboard", "--format", "csv"))))
    assert [(row["sweep"], row["rank"]) for row in rows if row["rank"]] == [("demo", "1"), ("other", "1")]
    assert float(rows[0]["best_val_accuracy_mean"]) == pytest.approx(0.9721)


def test_trials_are_listed_best_first(ask):
    rows = json.loads(ask("trials", "--sweep", "demo", "--format", "json"))
    assert [row["best_val_accuracy"] for row in rows] == [0.9731, 0.9711, 0.4, 0.2, None]
    assert rows[0]["blocks"] == [1, 1] and rows[0]["started_at"] == "2026-01-02T03:04:05+00:00"
    assert len(json.loads(ask("trials", "--sweep", "demo", "--format", "json", "--limit", "2"))) == 2
    assert "97.31 %" in ask("trials")


def test_curves_are_drawn_for_people_and_listed_for_programs(ask):
    text = ask("curves", "--sweep", "demo")
    assert "▄█▇" in text or "▄██" in text
    assert "unfinished" in text and "curves span 10.00 % (▁) to 97.31 % (█)" in text
    rows = list(csv.DictReader(io.StringIO(ask("curves", "--sweep", "demo", "--format", "csv", "--limit", "1"))))
    assert [(row["epoch"], row["val_accuracy"]) for row in rows] == [("1", "0.5"), ("2", "0.9731"), ("3", "0.95")]


def test_status_says_what_is_missing_why_trials_failed_and_how_to_go_on(ask, root):
    text = ask("status")
    assert "2 trials to run: python -m flexres_tune.run sweeps/demo.yaml" in text
    assert r"failed: Last: \u202e line" in text
    [demo, other] = json.loads(ask("status", "--format", "json"))
    assert {key: demo[key] for key in ("planned", "completed", "stopped", "failed", "interrupted", "missing")} == {
        **{"planned": 6, "completed": 2, "stopped": 1, "failed": 1, "interrupted": 1, "missing": 1},
    }
    assert other["missing"] == 0 and not other["running"]
    with sweep_lock(SweepPaths(root, "demo")):
        [demo] = json.loads(ask("status", "--sweep", "demo", "--format", "json"))
        assert demo["running"]
        assert (demo["interrupted"], demo["missing"]) == (0, 2), "the driver takes up what was cut off"
        assert "demo: running on" in ask("status")


def test_status_counts_a_running_trial_that_was_drawn_on_the_way_as_missing(ask, root):
    from flexres_tune.results.plan import read_plan

    paths = SweepPaths(root, "demo")
    write_plan(paths, dataclasses.replace(read_plan(paths), trials=()))  # as tpe, whose rows begin as interrupted
    for driver, expected in ((contextlib.nullcontext(), (1, 1)), (sweep_lock(paths), (0, 2))):
        with driver:
            [demo] = json.loads(ask("status", "--sweep", "demo", "--format", "json"))
        assert (demo["interrupted"], demo["missing"]) == expected
        assert demo["planned"] == sum(demo[status] for status in (*TrialStatus, "missing"))


def test_status_counts_rows_of_an_earlier_form_of_the_file_apart(ask, root):
    from flexres_tune.results.plan import read_plan

    paths = SweepPaths(root, "demo")
    plan = read_plan(paths)
    write_plan(paths, dataclasses.replace(plan, trials=plan.trials[:1], num_trials=1))
    [demo] = json.loads(ask("status", "--sweep", "demo", "--format", "json"))
    assert demo["unplanned"] == 4 and demo["missing"] == 0
    paths.plan.write_text("torn")
    assert "plan.json: not a plan" in ask("status")


def test_sql_is_answered(ask):
    query = (
        "SELECT sweep, lr, max(best_val_accuracy) AS a FROM trials WHERE status = 'completed' GROUP BY ALL ORDER BY a"
    )
    assert ask(query, "--format", "csv") == "sweep,lr,a\nother,0.7,0.8\ndemo,0.1,0.9731\n"
    assert ask(query, "--format", "csv", "--limit", "1") == "sweep,lr,a\nother,0.7,0.8\n"
    assert ask(query, "--format", "csv", "--sweep", "demo") == "sweep,lr,a\ndemo,0.1,0.9731\n"


ENDLESS = "WITH RECURSIVE t(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM t) SELECT count(*) FROM t"


def test_query_that_never_ends_is_ended_by_its_time_limit(root):
    result = invoke(app, ENDLESS, "--results", root, "--time-limit", "0.2")
    assert result.exit_code == 2 and "the query must end within 0.2 s" in result.stderr
    assert "--time-limit SECONDS" in result.stderr


def test_ctrl_c_ends_a_query(root):
    command = [sys.executable, "-m", "flexres_tune.query", ENDLESS, "--results", str(root)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while process.poll() is None and psutil.Process(process.pid).cpu_times().user < 2:  # it runs the query by then
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    assert "Traceback" not in process.communicate(timeout=20)[1] and process.returncode == 130


def test_time_limit_is_refused_for_a_command_that_ignores_it(root):
    result = invoke(app, "leaderboard", "--results", root, "--time-limit", "5")
    assert result.exit_code == 2 and "--time-limit is for SQL queries" in result.stderr


@pytest.mark.parametrize(
    "value", ["TIMESTAMP '29000-01-01'", "'infinity'::DATE", "INTERVAL 1 MONTH", "struct_pack(a := 1)"]
)
@pytest.mark.parametrize("format", ["table", "csv", "json", "markdown"])
def test_values_that_python_has_no_type_for_are_printed(ask, value, format):
    assert len(ask(f"SELECT {value} AS x", "--format", format).split()) > 1


def test_values_that_parquet_has_no_type_for_are_refused_with_what_to_do(root, tmp_path):
    out = tmp_path / "x.parquet"
    arguments = ("SELECT INTERVAL 1 MONTH AS x", "--results", root, "--format", "parquet", "--out", out)
    result = invoke(app, *arguments)
    assert result.exit_code == 2 and "x.parquet: Parquet must have a type" in result.stderr
    assert "::VARCHAR" in result.stderr and not list(tmp_path.glob(".x*"))


def test_columns_of_the_same_name_are_told_apart(ask):
    [row] = json.loads(ask("SELECT 1 AS a, 2 AS a, 3 AS a", "--format", "json"))
    assert list(row.values()) == [1, 2, 3]


@pytest.mark.parametrize("format", ["table", "markdown"])
def test_values_cannot_steer_a_terminal_or_a_page(ask, format):
    for what in ("trials", "status", "SELECT error, '<script>' AS \"<i>\" FROM trials"):
        text = ask(what, "--format", format)
        assert "\x1b" not in text and "\u202e" not in text
    assert "<script>" in text if format == "table" else "&lt;script&gt;" in text
    if format == "table":
        assert "[red]markup" in ask("SELECT error FROM trials", columns="300")


def test_csv_and_json_keep_values_as_they_are(ask):
    query = "SELECT error FROM trials WHERE error IS NOT NULL"
    assert json.loads(ask(query, "--format", "json")) == [{"error": EVIL}]
    assert [row["error"] for row in csv.DictReader(io.StringIO(ask(query, "--format", "csv"), newline=""))] == [EVIL]
    assert json.loads(
        ask("SELECT 'nan'::DOUBLE AS x, DATE '2026-01-02' AS d, 1.5::DECIMAL(3,1) AS n", "--format", "json")
    ) == [{"x": None, "d": "2026-01-02", "n": "1.5"}]


@pytest.mark.parametrize("command", ASKED)
@pytest.mark.parametrize("format", ["table", "csv", "json", "markdown", "parquet"])
def test_every_command_writes_every_format_to_a_file(ask, tmp_path, command, format):
    out = tmp_path / "new folder" / "answer"
    ask(*WITH_ARGUMENTS.get(command, [command]), "--format", format, "--out", str(out))
    # demo reproduces nothing, and diff tells its two sweeps from each other by their figures
    _check_answer(
        out, format, {"published": "flexres", "diff": "configurations", "effort": "digits"}.get(command, "demo")
    )


@pytest.mark.parametrize("command", OF_PREDICTIONS)
@pytest.mark.parametrize("format", ["table", "csv", "json", "markdown", "parquet"])
def test_every_command_about_predictions_writes_every_format_to_a_file(seen, ask, tmp_path, command, format):
    out = tmp_path / "new folder" / "answer"
    ask(*OF_PREDICTIONS[command], "--sweep", "seen", "--format", format, "--out", str(out))
    _check_answer(out, format, "val")


@pytest.mark.parametrize("columns", ["40", "80"])
@pytest.mark.parametrize("command", OF_PREDICTIONS)
def test_tables_about_predictions_fit_the_width(seen, ask, command, columns):
    text = ask(*OF_PREDICTIONS[command], "--sweep", "seen", columns=columns)
    table_lines = [line for line in text.splitlines() if "─" in line]
    assert table_lines and all(len(line) <= int(columns) for line in table_lines)


def _check_answer(out, format, telling):
    assert [path.name for path in out.parent.iterdir()] == ["answer"]
    if format == "parquet":
        assert pq.read_table(out).num_rows > 0
    elif format == "json":
        assert json.loads(out.read_text())
    else:
        assert telling in out.read_text()


def test_compare_answers_for_the_sweeps_that_vary_the_parameter(ask):
    assert "did you mean lr?" in ask("compare", "lr", "--by", "lrr", "--sweep", "demo", code=2)
    assert "did you mean lr?" in ask("compare", "lrr", "--sweep", "demo", code=2)
    assert "lr must vary" in ask("compare", "lr", "--sweep", "other", code=2)  # but of all sweeps, demo can answer
    assert "lr in demo" in ask("compare", "lr") and "lr in other" not in ask("compare", "lr")


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "lr", "--sweep", "demo", "--format", "csv", "--limit", "1"],
        ["--sweep", "demo", "--format=csv", "compare", "lr", "--limit=1"],
        ["compare", "--limit", "1", "--sweep=demo", "lr", "--format", "csv"],
    ],
)
def test_options_may_precede_or_follow_the_command(ask, arguments):
    header, row = ask(*arguments).splitlines()
    assert header.startswith("sweep,dataset,lr,") and row.startswith("demo,digits,0.1,")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare"], "Missing argument 'PARAMETER'"),
        (["diff", "demo"], "Missing argument 'B'"),
        (["stops", "demo"], "must have no further word, but got 'demo'; a sweep is named by --sweep: --sweep demo"),
        (["compare", "lr", "demo"], "got 'demo'; a sweep is named by --sweep: --sweep demo"),
        (["trials", "--by", "lr"], "No such option: --by"),
        (["compare", "lr", "--by"], "'--by' requires an argument"),
        (["importance", "--sweep", "demo"], "importance needs at least 16 trials"),
        (["SELECT *", "FROM trials"], 'must be one argument in quotes, such as "SELECT * FROM trials", but got 2'),
    ],
)
def test_wrong_arguments_are_told_with_the_right_ones(ask, arguments, message):
    assert message in ask(*arguments, code=2)


def test_help_is_laid_out_as_that_of_other_commands_and_loses_no_text(ask):
    text = ask("--help", columns="100")
    assert "╭─ Options ─" in text and "╭─ Commands ─" in text
    for part in ("COLUMN[:desc]", "[default: (100 on a terminal)]", "[default: (60)]"):
        assert part in text


@pytest.mark.parametrize("columns", ["40", "60", "80", "120"])
@pytest.mark.parametrize("what", [*ASKED, "SELECT * FROM trials"])
def test_tables_fit_the_width_and_name_what_they_left_out(ask, what, columns):
    text = ask(*WITH_ARGUMENTS.get(what, [what]), columns=columns)
    table_lines = [line for line in text.splitlines() if "─" in line or line.strip() == "demo"]
    assert table_lines and all(len(line) <= int(columns) for line in table_lines)
    if columns == "40" and what not in ("diff", "effort"):
        assert "left out for width: " in text


@pytest.mark.parametrize("columns", ["40", "80"])
def test_leaderboard_is_readable_where_it_is_narrow(ask, columns):
    text = ask("leaderboard", "--sweep", "demo", columns=columns)
    assert "97.21 ± 0.14 %" in text and "…" not in text  # a number is whole, or its column is left out
    assert all(line == line.rstrip() and line for line in text.splitlines())
    assert text.splitlines()[1] == "the same in all rows: epochs 3, parameters 24,794, precision fp32"


def test_pipe_has_no_width(ask):
    text = ask("trials", "--sweep", "demo", columns=None)
    assert "left out" not in text and "images" in text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lederboard"], "no command 'lederboard'; did you mean leaderboard?"),
        (["xyz"], 'or a query in quotes, such as "SELECT * FROM trials"'),
        (["leaderboard", "--sweep", "dmeo"], "did you mean demo?; sweeps: demo, other"),
        (["status", "--sweep", "../demo"], "no sweep '../demo'"),
        (["trials", "--format", "parquet"], "add --out FILE"),
        (["trials", "--out", "/"], "must be a file, but is a folder"),
        (["trials", "--out", "/proc/nowhere/x"], "/proc/nowhere/x: cannot be written"),
        (["trials", "--limit", "-1"], "--limit"),
        (["SELECT nothing FROM trials"], "columns of trials: sweep"),
        (["SELECT * FROM '/etc/passwd'"], "tables: trials, epochs, decisions"),
    ],
)
def test_errors_say_what_to_do_and_exit_with_2(ask, arguments, words):
    assert words in ask(*arguments, code=2)


def test_missing_results_folder_says_how_to_make_one(tmp_path):
    result = invoke(app, "leaderboard", "--results", tmp_path / "none")
    assert result.exit_code == 2 and "run `python -m flexres_tune.run sweeps/optim.yaml` first" in result.stderr


def test_option_without_its_value_is_refused():
    done = invoke(app, "leaderboard", "--sweep")
    assert done.exit_code == 2 and "'--sweep' requires an argument" in done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_names_the_shared_options(command):
    done = invoke(app, command, "--help")
    assert done.exit_code == 0 and "--sweep, --results, --format, --out, --limit" in done.stdout


def test_without_argument_help_with_examples_is_printed():
    result = invoke(app)
    assert result.exit_code == 0 and "Examples:" in result.stdout and "SELECT optimizer" in result.stdout
    assert all(name in result.stdout for name in COMMANDS)


def test_damaged_part_is_named_and_the_rest_shown(root):
    part = SweepPaths(root, "other").trials / "part-00000001-00000001.parquet"
    part.write_bytes(part.read_bytes()[:100])
    command = [sys.executable, "-m", "flexres_tune.query", "trials", "--results", str(root)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and str(part) in done.stderr and "97.31 %" in done.stdout


def test_broken_pipe_is_silent(root):
    query = "SELECT e.* FROM epochs e, range(3000)"
    command = f'"{sys.executable}" -m flexres_tune.query "{query}" --results "{root}" --format csv | head -1'
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout.startswith("sweep,trial_id") and done.stderr == ""


def test_leaderboard_waits_for_neither_pandas_nor_torch_nor_ray(root):
    code = (
        "import sys; from flexres_tune.query import views; from flexres_tune.results import open_results;"
        f"views.answer_leaderboard(open_results({str(root)!r}), None, None);"
        "print(sorted({'pandas', 'torch', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
