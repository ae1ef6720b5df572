import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.special_files import in_time

from flexres_tune.errors import ResultsError
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.schema import table_schema
from flexres_tune.results.writer import SweepWriter


@pytest.fixture
def results(paths, make_config, make_trial, make_epoch, make_decision):
    """Sweep `demo` in three parts, sweep `größe` in one."""
    writer = SweepWriter(paths)
    for seed in range(3):
        config = make_config(seed=seed)
        writer.add_epoch(make_epoch(config.trial_id, 1))
        writer.add_decision(make_decision(config.trial_id))
        writer.add_trial(make_trial(config, best=0.5 + seed / 10), config)
        writer.flush()
    config = make_config(lr=0.2)
    with SweepWriter(SweepPaths(paths.root, "größe")) as other:
        other.add_trial(make_trial(config, sweep="größe"), config)
    return open_results(paths.root)


def test_views_hold_all_sweeps_and_tables_one_or_all(results):
    assert results.sweeps() == ["demo", "größe"]
    assert results.trials().num_rows == 4 and results.trials("demo").num_rows == 3
    assert results.epochs("größe").num_rows == 0 and results.decisions().num_rows == 3
    query = "SELECT sweep, count(*) AS n FROM trials JOIN epochs USING (trial_id) GROUP BY ALL"
    assert results.sql(query.replace("USING (trial_id)", "USING (sweep, trial_id)")).to_pylist() == [
        {"sweep": "demo", "n": 3}
    ]
    assert results.sql("SELECT DISTINCT versions.torch AS v, len(blocks) AS n FROM Trials").to_pylist() == [
        {"v": "2.11", "n": 2}
    ]
    assert str(results.sql("SELECT started_at FROM trials LIMIT 1").schema.field(0).type.tz) in ("UTC", "Etc/UTC")


def test_rows_written_meanwhile_are_seen(results, paths, make_epoch):
    assert results.epochs().num_rows == 3
    with SweepWriter(paths) as writer:
        writer.add_epoch(make_epoch("new-0", 1))
    assert results.epochs().num_rows == 4
    assert results.sql("SELECT count(*) AS n FROM query_table('epo' || 'chs')").to_pylist() == [{"n": 4}]


@pytest.mark.parametrize("damage", ["cut", "noise", "noise inside", "empty", "other"])
def test_damaged_part_is_skipped_once_with_its_name_and_the_rest_read(results, paths, caplog, damage):
    part = paths.trials / "part-00000002-00000002.parquet"
    content = part.read_bytes()
    middle = len(content) // 3
    part.write_bytes(
        {
            "cut": content[:-9],
            "noise": os.urandom(len(content)),
            "noise inside": content[:20] + os.urandom(middle) + content[20 + middle :],
            "empty": b"",
            "other": content,
        }[damage]
    )
    if damage == "other":
        pq.write_table(pa.table({"trial_id": [{"a": 1}], "lr": ["fast"]}), part)
    assert [row["seed"] for row in results.trials("demo").to_pylist()] == [0, 2]
    assert results.sql("SELECT count(*) AS n FROM trials").to_pylist() == [{"n": 3}]
    assert caplog.text.count("part-00000002-00000002.parquet: skipped") == 1


def rewrite(part, change):
    pq.write_table(change(pq.read_table(part)), part)


def with_nulls(name):
    return lambda table: table.set_column(table.column_names.index(name), name, pa.nulls(table.num_rows, pa.string()))


@pytest.mark.parametrize(
    ("table", "change", "reason"),
    [
        ("trials", lambda table: table.drop_columns(["trial_id"]), "has no column trial_id"),
        ("trials", with_nulls("status"), "rows without a status"),
        ("epochs", with_nulls("trial_id"), "rows without a trial_id"),
        ("decisions", lambda table: table.drop_columns(["action"]), "has no column action"),
        ("decisions", with_nulls("action"), "rows without a action"),
    ],
)
def test_part_without_a_key_is_skipped_with_a_warning(results, paths, caplog, table, change, reason):
    rewrite(paths.table(table) / "part-00000002-00000002.parquet", change)
    assert results.table(table, "demo").num_rows == 2
    assert f"part-00000002-00000002.parquet: skipped, damaged or not a part of this table: {reason}" in caplog.text


@pytest.mark.parametrize(
    ("table", "column"), [("trials", "kernel_size"), ("trials", "test_accuracy"), ("epochs", "lr")]
)
def test_damaged_name_of_a_column_is_noticed(results, paths, caplog, table, column):
    part = paths.table(table) / "part-00000002-00000002.parquet"
    content = part.read_bytes()
    first = content.index(b"\x18" + bytes([len(column)]) + column.encode(), len(content) - _footer_size(content))
    part.write_bytes(content[: first + 2] + bytes([content[first + 2] ^ 1]) + content[first + 3 :])
    assert results.table(table, "demo").num_rows == 2
    assert "part-00000002-00000002.parquet: skipped" in caplog.text


@pytest.mark.parametrize(("rank", "num_rows"), [(2.0, 3), (1.5, 2)])
def test_part_with_floats_for_whole_numbers_is_read_if_they_are_whole(results, paths, rank, num_rows):
    def with_rank(table):
        index = table.column_names.index("rank")
        return table.set_column(index, "rank", pa.array([rank] * table.num_rows, pa.float64()))

    rewrite(paths.decisions / "part-00000002-00000002.parquet", with_rank)
    decisions = results.decisions("demo")
    assert decisions.num_rows == num_rows and decisions.schema.field("rank").type == pa.int64()


def test_warning_about_a_damaged_footer_is_printable(results, paths, caplog):
    part = paths.trials / "part-00000002-00000002.parquet"
    content = part.read_bytes()
    first = len(content) - _footer_size(content)  # its low four bits are the type of the first field
    part.write_bytes(content[:first] + bytes([content[first] | 0x0F]) + content[first + 1 :])
    assert results.trials("demo").num_rows == 2
    assert caplog.messages and all(message.isprintable() for message in caplog.messages)


def _footer_size(content):
    return int.from_bytes(content[-8:-4], "little") + 8


def test_part_with_more_rows_than_a_sweep_is_not_read(results, paths, caplog):
    part = paths.epochs / "part-00000002-00000002.parquet"
    pq.write_table(pa.table({"trial_id": pa.nulls(20_000_001, pa.null())}), part)
    assert part.stat().st_size < 100_000
    with in_time():
        assert results.epochs("demo").num_rows == 2
    assert "must have at most 20,000,000 rows" in caplog.text


def test_part_of_long_texts_that_are_stored_once_is_not_read(results, paths, caplog):
    part = paths.epochs / "part-00000002-00000002.parquet"
    zeros = pa.repeat(pa.scalar(0, pa.int32()), 100_000)
    text = pa.DictionaryArray.from_arrays(zeros, pa.array(["x" * 2**20]))
    pq.write_table(pa.table([text, zeros], ["trial_id", "epoch"]), part)
    assert part.stat().st_size < 2_000_000
    with in_time():
        assert results.epochs("demo").num_rows == 2
    assert "must have at most 4,294,967,296 bytes of text per column, but has 104,857,600,000" in caplog.text


def in_struct(texts):
    return pa.StructArray.from_arrays([texts], ["torch"])


def in_list(texts):
    return pa.ListArray.from_arrays(pa.array(range(len(texts) + 1), pa.int32()), texts)


@pytest.mark.parametrize("nest", [in_struct, in_list, lambda texts: in_list(in_struct(texts))])
def test_part_of_long_texts_in_nested_columns_is_not_read(results, paths, caplog, nest):
    part = paths.epochs / "part-00000002-00000002.parquet"
    zeros = pa.repeat(pa.scalar(0, pa.int32()), 5000)
    texts = pa.DictionaryArray.from_arrays(zeros, pa.array(["x" * 2**20]))
    pq.write_table(pa.table([zeros.cast("string"), zeros, nest(texts)], ["trial_id", "epoch", "note"]), part)
    assert part.stat().st_size < 2_000_000
    with in_time():
        assert results.epochs("demo").num_rows == 2
    assert "must have at most 4,294,967,296 bytes of text per column, but has 5,242,880,000" in caplog.text


def test_part_of_short_texts_is_read_whatever_their_number(results, paths):
    table = pa.table({"trial_id": [f"{i:07}" for i in range(200_000)], "epoch": range(200_000)})
    pq.write_table(table, paths.epochs / "part-00000002-00000002.parquet")
    found = results.epochs("demo")
    assert found.schema.field("trial_id").type == pa.string() and found.num_rows == 200_002


def test_parts_of_other_versions_are_read(results, paths):
    old = pq.read_table(paths.trials / "part-00000001-00000001.parquet")
    old = old.drop_columns(["label_smoothing", "versions"]).append_column("colour", pa.array(["red"]))
    pq.write_table(old, paths.trials / "part-00000001-00000001.parquet")
    rows = results.sql("SELECT * FROM trials WHERE sweep = 'demo' ORDER BY seed").to_pylist()
    assert rows[0]["colour"] == "red" and rows[0]["label_smoothing"] is None and rows[0]["versions"] is None
    assert rows[1]["colour"] is None and rows[1]["label_smoothing"] == 0.0
    assert results.trials().schema.field("train_seconds").metadata[b"unit"] == b"s"


def test_sweep_has_the_name_of_its_renamed_folder(results, paths):
    paths.folder.rename(paths.root / "renamed")
    assert set(results.trials("renamed")["sweep"].to_pylist()) == {"renamed"}


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_blob('/etc/passwd')",
        "SELECT * FROM read_parquet('*/*/*.parquet')",
        "SELECT * FROM read_json('/proc/self/environ')",
        "SELECT * FROM glob('/etc/*')",
        "SELECT getenv('HOME')",
        "LOAD httpfs",
        "IMPORT DATABASE '/etc'",
        "COPY (SELECT 1) TO '/tmp/stolen.parquet'",
        "COPY trials FROM '/etc/passwd'",
        "PRAGMA temp_directory='stolen'",
        "SET home_directory = 'stolen'",
        "SELECT * FROM read_csv('http://127.0.0.1:9/x')",
        "COPY trials TO 'stolen.csv'",
        "ATTACH 'stolen.db'",
        "EXPORT DATABASE 'stolen'",
        "INSTALL httpfs",
        "SET enable_external_access = true",
        "SET lock_configuration = false",
        "SELECT * FROM results",
        "SELECT * FROM query",
    ],
)
def test_queries_reach_nothing_but_the_tables(results, tmp_path, monkeypatch, query):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ResultsError):
        results.sql(query)
    assert not list(tmp_path.glob("stolen*"))


@pytest.mark.parametrize(
    ("query", "tables"),
    [
        ("SELECT 'epochs of a query' AS note FROM Trials", {"trials"}),
        ("WITH best AS (SELECT * FROM trials) SELECT count(*) FROM best", {"trials"}),
        ("SELECT (SELECT max(epoch) FROM epochs) FROM trials", {"trials", "epochs"}),
        ("SELECT count(*) FROM query_table('epo' || 'chs')", {"trials", "epochs", "decisions"}),
        ("SELECT 1; SELECT count(*) FROM epochs", {"trials", "epochs", "decisions"}),
    ],
)
def test_query_reads_only_the_tables_it_names_unless_that_cannot_be_told(results, monkeypatch, query, tables):
    read, table = set(), results.table
    monkeypatch.setattr(results, "table", lambda name, sweep: read.add(name) or table(name, sweep))
    results.sql(query)
    assert read == tables


def test_query_without_enough_memory_says_so_in_one_line():
    code = """
import psutil, resource
from flexres_tune.errors import ResultsError
from flexres_tune.results.sql import run_sql
run_sql("SELECT 1", {})
resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + 100_000_000,) * 2)
try:
    run_sql("SELECT list(i) FROM range(100000000) t(i)", {})
except ResultsError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "raise `ulimit -v`, or ask for less" in done.stdout and done.stdout.count("\n") == 1, done.stderr


def test_what_a_query_drops_is_back_in_the_next(results):
    results.sql("DROP VIEW trials; SELECT 1")
    assert results.sql("SELECT count(*) AS n FROM trials").to_pylist() == [{"n": 4}]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("SELECT * FROM trial", "tables: trials, epochs, decisions"),
        ("SELECT learning_rate FROM trials", "columns of trials: sweep, trial_id, config_id, seed"),
        ("SELEC 1", "syntax error"),
        ("", "must end with a SELECT"),
        ("SELECT 'a'::INT", "Could not convert"),
        ("SELECT '\ud800'", "surrogate"),
    ],
)
def test_wrong_query_is_answered_with_the_existing_names(results, query, words):
    with pytest.raises(ResultsError, match=words):
        results.sql(query)


def test_unknown_sweep_is_answered_with_the_nearest(results):
    with pytest.raises(ResultsError, match=r"no sweep 'dem'; did you mean demo\?; sweeps: demo, größe"):
        results.trials("dem")


def test_missing_folder_and_file_in_its_place_say_what_to_do(tmp_path):
    with pytest.raises(ResultsError, match=r"nowhere: no such folder; run `python -m flexres_tune.run sweeps"):
        open_results(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="must be a folder, but is a file"):
        open_results(tmp_path / "file")
    with pytest.raises(ResultsError, match="no sweep in this folder; run"):
        open_results(tmp_path).choose()


def test_folder_without_sweeps_has_empty_tables(tmp_path):
    assert open_results(tmp_path).sql("SELECT * FROM trials").schema.names == table_schema("trials").names


def test_results_import_neither_torch_nor_ray():
    code = (
        "import sys, flexres_tune.results.reader, flexres_tune.results.writer, flexres_tune.query;"
        "sys.exit(bool({'torch', 'ray', 'duckdb'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_one_sweep_is_read_without_a_look_at_the_others(results, paths, monkeypatch):
    monkeypatch.setattr(type(results), "sweeps", lambda self: pytest.fail("all sweeps were listed"))
    assert results.choose(paths.sweep) == [paths.sweep]
    assert results.trials(paths.sweep).num_rows
