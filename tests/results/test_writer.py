import errno
import os
import threading

import duckdb
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from helpers.special_files import SPECIAL

from flexres_tune.errors import ResultsError
from flexres_tune.results import open_results
from flexres_tune.results.parts import join, last_written, list_parts, read_part
from flexres_tune.results.paths import TABLES, SweepPaths
from flexres_tune.results.table_writer import FANOUT
from flexres_tune.results.writer import SweepWriter


def _read(paths, name):
    parts, _ = list_parts(paths.table(name))
    return last_written(name, join(name, [read_part(part, name) for part in parts]))


def _names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_rows_written_are_read_back(paths, make_config, make_trial, make_epoch, make_decision):
    config = make_config(model={"blocks": [1, 1], "channels": [8, 16], "kernel_size": [[3, 5], 3]}, seed=2**63 - 1)
    with SweepWriter(paths) as writer:
        writer.add_epoch(make_epoch(config.trial_id, 1))
        writer.add_decision(make_decision(config.trial_id))
        writer.add_trial(make_trial(config, error="caf\udce9"), config)
    row = _read(paths, "trials").to_pylist()[0]
    assert row["kernel_size"] == [[3, 5], [3, 3]] and row["seed"] == 2**63 - 1 and row["model"] == "1-1/8-16"
    assert row["versions"]["torch"] == "2.11" and row["started_at"].microsecond == 678
    assert row["error"] == "caf?"
    assert row["augmentation"] == ["crop", "flip"] and row["extra_conv"] is None
    assert _read(paths, "epochs").to_pylist()[0]["val_accuracy"] == 0.5
    assert _read(paths, "decisions").to_pylist()[0]["action"] == "stop"


def test_pandas_and_duckdb_open_the_folders_while_a_part_is_being_written(paths, make_config, make_trial, make_epoch):
    config = make_config()
    with SweepWriter(paths) as writer:
        for epoch in (1, 2):
            writer.add_epoch(make_epoch(config.trial_id, epoch))
            writer.flush()
        writer.add_trial(make_trial(config), config)
    (paths.epochs / ".part-00000003-00000003.parquet.host.1.tmp").write_bytes(b"half a part")
    assert list(pandas.read_parquet(paths.epochs)["epoch"]) == [1, 2]
    assert pandas.read_parquet(paths.trials)["lr"][0] == 0.1
    assert duckdb.sql(f"SELECT count(*) FROM '{paths.epochs}/*.parquet'").fetchall() == [(2,)]


def test_numbers_of_parts_continue_over_sessions(paths, make_epoch):
    for epoch in (1, 2):
        with SweepWriter(paths) as writer:
            writer.add_epoch(make_epoch("a-0", epoch))
    assert _names(paths.epochs) == ["part-00000001-00000001.parquet", "part-00000002-00000002.parquet"]


def test_nothing_to_write_makes_no_part(paths):
    with SweepWriter(paths) as writer:
        writer.flush()
        writer.compact()
    assert _names(paths.epochs) == []


def test_epochs_already_there_are_skipped_also_by_a_new_writer(paths, make_epoch):
    for _ in range(2):
        with SweepWriter(paths) as writer:
            for _ in range(2):
                writer.add_epoch(make_epoch("a-0", 1))
    assert pq.read_table(paths.epochs).num_rows == 1


def test_epochs_computed_again_by_a_later_attempt_replace_the_old(paths, make_epoch):
    with SweepWriter(paths) as writer:
        for epoch in (1, 2, 3):
            writer.add_epoch(make_epoch("a-0", epoch, attempt=1, val_accuracy=0.1))
    with SweepWriter(paths) as writer:
        writer.add_epoch(make_epoch("a-0", 1, attempt=1, val_accuracy=0.1))  # history from the checkpoint
        for epoch in (2, 3):
            writer.add_epoch(make_epoch("a-0", epoch, attempt=2, val_accuracy=0.2))
        assert _read(paths, "epochs").num_rows == 3
        writer.compact()
    rows = pq.read_table(paths.epochs).sort_by("epoch").to_pylist()
    assert [row["val_accuracy"] for row in rows] == [0.1, 0.2, 0.2]


def test_other_programs_find_no_epoch_twice_while_it_is_computed_again(paths, make_epoch):
    def keys():
        table = pa.concat_tables(pq.read_table(part) for part in sorted(paths.epochs.glob("*.parquet")))
        return list(
            zip(table["trial_id"].to_pylist(), table["epoch"].to_pylist(), table["attempt"].to_pylist(), strict=True)
        )

    with SweepWriter(paths) as writer:
        for epoch in (1, 2, 3):
            writer.add_epoch(make_epoch("a-0", epoch))
            writer.add_epoch(make_epoch("b-0", epoch))
            writer.flush()
    with SweepWriter(paths) as writer:
        for epoch in (2, 3, 4):
            writer.add_epoch(make_epoch("a-0", epoch, attempt=2))
            writer.flush()
            found = keys()
            assert len({key[:2] for key in found}) == len(found), found
            assert {("a-0", 1, 1), ("a-0", epoch, 2), *(("b-0", e, 1) for e in (1, 2, 3))} <= set(found)
    assert len(keys()) == 7
    assert [part.path.name for part in list_parts(paths.epochs)[1]] == []


def test_epoch_is_replaced_also_if_a_part_is_damaged(paths, make_epoch, caplog):
    with SweepWriter(paths) as writer:
        for epoch in (1, 2, 3):
            writer.add_epoch(make_epoch("a-0", epoch))
            writer.flush()
    with SweepWriter(paths) as writer:
        damaged = list_parts(paths.epochs)[0][1].path
        damaged.write_bytes(b"damaged")
        writer.add_epoch(make_epoch("a-0", 1, attempt=2))
    table = pa.concat_tables(read_part(part, "epochs") for part in list_parts(paths.epochs)[0])
    assert sorted(zip(table["epoch"].to_pylist(), table["attempt"].to_pylist(), strict=True)) == [(1, 2), (3, 1)]
    assert damaged.with_name(f".{damaged.name}.damaged").exists()


def test_trial_copied_from_another_sweep_replaces_what_this_one_had(paths, make_config, make_trial, make_epoch):
    config = make_config()
    with SweepWriter(SweepPaths(paths.root, "other")) as other:
        other.add_trial(make_trial(config, sweep="other"), config)
        for epoch in (1, 2, 3):
            other.add_epoch(make_epoch(config.trial_id, epoch, sweep="other", val_accuracy=0.9))
    with SweepWriter(paths) as writer:
        writer.add_trial(make_trial(config, "interrupted"), config)
        writer.add_epoch(make_epoch(config.trial_id, 1, val_accuracy=0.1))
    found = open_results(paths.root)
    with SweepWriter(paths) as writer:
        writer.copy_trial(found.trials("other").to_pylist()[0], found.epochs("other").to_pylist())
    assert pq.read_table(paths.trials).select(["sweep", "status"]).to_pylist() == [
        {"sweep": "demo", "status": "completed"}
    ]
    assert pq.read_table(paths.epochs)["val_accuracy"].to_pylist() == [0.9, 0.9, 0.9]


def test_compact_leaves_one_part_and_only_the_last_row_of_a_trial(paths, make_config, make_trial, make_epoch):
    config = make_config()
    with SweepWriter(paths) as writer:
        for attempt, status in ((1, "interrupted"), (2, "completed")):
            writer.add_epoch(make_epoch(config.trial_id, attempt))
            writer.add_trial(make_trial(config, status, attempt=attempt), config)
            writer.add_trial(make_trial(config, stage="confirm"), config)
            writer.flush()
        writer.compact()
        writer.add_epoch(make_epoch(config.trial_id, 3))
    assert len(_names(paths.trials)) == 1
    assert _names(paths.epochs) == ["part-00000001-00000002.parquet", "part-00000003-00000003.parquet"]
    assert {(r["stage"], r["attempt"]) for r in pq.read_table(paths.trials).to_pylist()} == {
        ("screen", 2),
        ("confirm", 1),
    }


def put_behind_links(paths):
    """Make the tables links to other folders, which cannot be exchanged."""
    for name in TABLES:
        (paths.root / "elsewhere" / name).mkdir(parents=True)
        paths.folder.mkdir(exist_ok=True)
        paths.table(name).symlink_to(paths.root / "elsewhere" / name)


def test_crash_between_the_merged_part_and_the_deletes_duplicates_nothing(paths, make_epoch, monkeypatch):
    put_behind_links(paths)
    writer = SweepWriter(paths)
    for epoch in (1, 2, 3):
        writer.add_epoch(make_epoch("a-0", epoch))
        writer.flush()
    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.unlink", lambda *args, **kwargs: None)
        writer.compact()
    assert len(_names(paths.epochs)) == 4
    assert _read(paths, "epochs").num_rows == 3
    SweepWriter(paths)
    assert _names(paths.epochs) == ["part-00000001-00000003.parquet"]


def test_row_is_replaced_also_in_a_folder_that_cannot_be_exchanged(paths, make_config, make_trial):
    put_behind_links(paths)
    config, other = make_config(seed=1), make_config(seed=2)
    with SweepWriter(paths) as writer:
        writer.add_trial(make_trial(config, "interrupted"), config)
        writer.add_trial(make_trial(other), other)
    with SweepWriter(paths) as writer:
        writer.add_trial(make_trial(config, attempt=2), config)
    assert _names(paths.trials) == ["part-00000001-00000001-1.parquet", "part-00000002-00000002.parquet"]
    assert sorted(pq.read_table(paths.trials)["status"].to_pylist()) == ["completed", "completed"]


def test_rows_that_an_older_version_left_twice_are_there_once_when_a_writer_opens(paths, make_config, make_trial):
    config = make_config()
    with SweepWriter(paths) as writer:
        writer.add_trial(make_trial(config, "interrupted"), config)
    (part,) = paths.trials.iterdir()
    with SweepWriter(SweepPaths(paths.root, "other")) as other:
        other.add_trial(make_trial(config, sweep="other", attempt=2), config)
    (newer,) = SweepPaths(paths.root, "other").trials.iterdir()
    newer.rename(part.with_name("part-00000002-00000002.parquet"))
    assert pq.read_table(paths.trials).num_rows == 2
    SweepWriter(paths)
    assert pq.read_table(paths.trials)["attempt"].to_pylist() == [2]


def test_many_small_parts_are_merged_as_they_come(paths, make_epoch, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)
    with SweepWriter(paths) as writer:
        for epoch in range(1, 2 * FANOUT + 6):
            writer.add_epoch(make_epoch("a-0", epoch))
            writer.flush()
    parts, _ = list_parts(paths.epochs)
    assert [part.num_covered for part in parts] == [FANOUT, FANOUT, 1, 1, 1, 1, 1]
    assert _read(paths, "epochs")["epoch"].to_pylist() == list(range(1, 2 * FANOUT + 6))


@pytest.mark.parametrize("function", ["os.replace", "os.fsync", "pyarrow.parquet.write_table"])
def test_full_disk_leaves_no_torn_file_and_keeps_the_rows(paths, make_epoch, monkeypatch, function):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    writer = SweepWriter(paths)
    writer.add_epoch(make_epoch("a-0", 1))
    with monkeypatch.context() as patch:
        patch.setattr(function, full)
        with pytest.raises(ResultsError, match=r"part-00000001-00000001\.parquet: .*No space left.*free some space"):
            writer.flush()
    assert _names(paths.epochs) == []
    writer.flush()
    assert _read(paths, "epochs").num_rows == 1


def test_leftovers_of_a_dead_writer_are_removed(paths):
    SweepWriter(paths)
    (paths.epochs / ".part-00000001-00000001.parquet.99.tmp").write_bytes(b"torn")
    SweepWriter(paths)
    assert _names(paths.epochs) == []


def test_maybe_flush_waits_two_seconds_for_epochs_and_a_quarter_for_trials(paths, make_config, make_trial, make_epoch):
    config = make_config()
    writer = SweepWriter(paths)
    writer.add_epoch(make_epoch(config.trial_id, 1))
    writer.maybe_flush(100.0)
    writer.add_epoch(make_epoch(config.trial_id, 2))
    writer.maybe_flush(101.9)
    assert len(_names(paths.epochs)) == 1
    writer.add_trial(make_trial(config), config)
    writer.maybe_flush(100.2)
    assert len(_names(paths.trials)) == 0
    writer.maybe_flush(100.3)
    assert len(_names(paths.trials)) == 1 and len(_names(paths.epochs)) == 2


def test_damaged_part_is_renamed_by_compact_and_the_rest_kept(paths, make_epoch, caplog):
    writer = SweepWriter(paths)
    for epoch in (1, 2, 3):
        writer.add_epoch(make_epoch("a-0", epoch))
        writer.flush()
    damaged = paths.epochs / "part-00000002-00000002.parquet"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    writer.compact()
    assert _names(paths.epochs) == [".part-00000002-00000002.parquet.damaged", "part-00000001-00000003.parquet"]
    assert _read(paths, "epochs")["epoch"].to_pylist() == [1, 3]
    assert "part-00000002-00000002.parquet" in caplog.text


@pytest.mark.parametrize("special", [special for special in SPECIAL if special.__name__ != "huge"])
def test_special_file_in_place_of_a_part_is_hidden_whenever_it_comes(paths, make_epoch, special):
    writer = SweepWriter(paths)
    for number in range(2):
        for epoch in (1, 2):
            writer.add_epoch(make_epoch(f"{number}-0", epoch))
            writer.flush()
        special(paths.epochs / "part-90000000-90000000.parquet")
        writer.compact()
        is_folder = special.__name__ == "folder"  # which no program takes for a part
        assert ("part-90000000-90000000.parquet" in _names(paths.epochs)) == is_folder
        assert (".part-90000000-90000000.parquet.damaged" in _names(paths.epochs)) != is_folder
        if is_folder:
            (paths.epochs / "part-90000000-90000000.parquet").rmdir()
    assert _read(paths, "epochs").num_rows == pq.read_table(paths.epochs).num_rows == 4


def test_epoch_lost_in_a_damaged_part_is_accepted_again(paths, make_epoch):
    with SweepWriter(paths) as writer:
        writer.add_epoch(make_epoch("a-0", 1))
    (paths.epochs / "part-00000001-00000001.parquet").write_bytes(os.urandom(3000))
    with SweepWriter(paths) as writer:
        writer.add_epoch(make_epoch("a-0", 1))
    parts, _ = list_parts(paths.epochs)
    assert read_part(parts[1], "epochs").num_rows == 1


def test_rows_of_another_sweep_are_refused(paths, make_epoch):
    with pytest.raises(ResultsError, match="sweep 'other' does not belong here"):
        SweepWriter(paths).add_epoch(make_epoch("a-0", 1, sweep="other"))


def test_value_that_does_not_fit_its_column_is_refused_and_leaves_the_buffer_intact(paths, make_config, make_trial):
    config = make_config()
    with SweepWriter(paths) as writer:
        with pytest.raises(ResultsError, match=config.trial_id):
            writer.add_trial(make_trial(config, num_parameters=2**70), config)
        writer.add_trial(make_trial(config), config)
    assert _read(paths, "trials").num_rows == 1


def test_file_in_place_of_the_folder_is_named(paths):
    paths.root.mkdir(parents=True)
    paths.folder.write_text("")
    with pytest.raises(ResultsError, match="there is a file where a folder must be"):
        SweepWriter(paths)


def test_reader_of_a_busy_writer_always_sees_whole_parts(paths, make_epoch, monkeypatch):
    monkeypatch.setattr("os.fsync", lambda handle: None)
    paths.folder.mkdir(parents=True)
    done, seen, failures = threading.Event(), [], []

    def read():
        while not done.is_set():
            try:
                epochs = open_results(paths.root).epochs("demo")["epoch"].to_pylist()
                seen.append(len(epochs))
                assert epochs == list(range(1, len(epochs) + 1))
            except (ResultsError, AssertionError, pa.ArrowException) as error:
                failures.append(error)

    thread = threading.Thread(target=read)
    with SweepWriter(paths) as writer:
        thread.start()  # before the writer has made its folders there is no sweep to read
        for epoch in range(1, 3 * FANOUT):
            writer.add_epoch(make_epoch("a-0", epoch))
            writer.flush()
        writer.compact()
    done.set()
    thread.join()
    assert not failures and seen == sorted(seen) and len(seen) > 3
