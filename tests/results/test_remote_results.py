"""Tables on object storage: the same rows as in a folder; nothing is lost or called damaged if a server is absent."""

import pytest

from flexres_tune.analysis.status import sweep_status
from flexres_tune.errors import ResultsError, StorageError
from flexres_tune.report.files import write_index, write_report
from flexres_tune.report.live import LiveReport
from flexres_tune.results import open_results
from flexres_tune.results.parts import list_parts
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import REMOTE_INTERVAL_S, SweepWriter, check_writable
from flexres_tune.storage import RemotePath, list_folder


@pytest.fixture
def paths(bucket):
    return SweepPaths("s3://bucket/results", "demo")


@pytest.fixture
def write(paths, make_config, make_trial, make_epoch):
    """Write trials with one epoch each; returns their trial_ids."""

    def write(num_trials=3):
        ids = []
        with SweepWriter(paths) as writer:
            for seed in range(num_trials):
                config = make_config(seed=seed)
                writer.add_epoch(make_epoch(config.trial_id, 1))
                writer.flush()
                writer.add_trial(make_trial(config, best=0.5 + seed / 100), config)
                writer.flush()
                ids.append(config.trial_id)
        return ids

    return write


def test_rows_are_read_back_and_compacted(paths, write):
    ids = write()
    assert len(list_parts(paths.trials)[0]) == 3
    for _ in range(2):
        results = open_results("s3://bucket/results")
        assert results.sweeps() == ["demo"]
        assert results.trials()["trial_id"].to_pylist() == ids
        assert results.sql("SELECT count(*) AS n, max(best_val_accuracy) AS best FROM trials").to_pylist() == [
            {"n": 3, "best": 0.52}
        ]
        assert results.epochs("demo").num_rows == 3
        SweepWriter(paths).compact()
    assert list(list_folder(paths.trials)) == ["part-00000001-00000003.parquet"]


def test_parts_that_were_read_are_not_fetched_again(bucket, paths, write):
    write()
    results = open_results("s3://bucket/results")
    results.trials("demo")
    before = bucket.num_requests
    assert results.trials("demo").num_rows == 3
    assert bucket.num_requests - before <= 4  # listings and the plan; three parts are not looked at one by one


def test_rows_wait_while_the_server_is_absent_and_are_written_afterwards(bucket, paths, make_epoch):
    writer = SweepWriter(paths)
    writer.add_epoch(make_epoch("a-0", 1))
    bucket.go_away()
    with pytest.raises(ResultsError, match="does not answer"):
        writer.flush()
    assert writer.num_waiting == 1
    bucket.come_back()
    writer.flush()
    assert open_results("s3://bucket/results").epochs("demo")["epoch"].to_pylist() == [1]


def test_trials_end_in_parts_two_seconds_apart_because_each_is_paid_for(paths, make_config, make_trial):
    writer, config = SweepWriter(paths), make_config()
    writer.add_trial(make_trial(config), config)
    writer.maybe_flush(100.0)
    writer.add_trial(make_trial(config), config)
    writer.maybe_flush(100.0 + REMOTE_INTERVAL_S / 2)
    assert writer.num_waiting == 1
    writer.maybe_flush(100.0 + REMOTE_INTERVAL_S)
    assert writer.num_waiting == 0


def test_absent_server_is_reported_and_no_row_counts_as_missing(bucket, paths, write, caplog):
    write()
    results = open_results("s3://bucket/results")
    bucket.go_away()
    for ask in (
        results.sweeps,
        lambda: results.trials("demo"),
        lambda: SweepWriter(paths),
        lambda: check_writable(paths),
    ):
        with pytest.raises(ResultsError, match=r"s3://bucket/results.*does not answer"):
            ask()
    assert "damaged" not in caplog.text
    bucket.come_back()
    assert results.trials("demo").num_rows == 3


def test_server_that_disappears_between_listing_and_reading_damages_nothing(bucket, paths, write, caplog, monkeypatch):
    ids = write()
    monkeypatch.setattr(bucket, "open_input_file", lambda key: bucket.go_away() or bucket._asked())
    with pytest.raises(StorageError):
        open_results("s3://bucket/results").table("trials", "demo")
    bucket.come_back()
    with pytest.raises(StorageError):
        SweepWriter(paths).compact()
    monkeypatch.undo()
    monkeypatch.setattr("flexres_tune.storage.object_store.open_filesystem", lambda *_: bucket)
    bucket.come_back()
    assert open_results("s3://bucket/results").trials()["trial_id"].to_pylist() == ids
    assert "damaged" not in caplog.text


def test_damaged_part_is_skipped_and_renamed_by_compact(paths, write, caplog):
    ids = write()
    (paths.trials / "part-00000002-00000002.parquet").write_bytes(b"PAR1 no more")
    assert open_results("s3://bucket/results").trials()["trial_id"].to_pylist() == [ids[0], ids[2]]
    assert "part-00000002-00000002.parquet: skipped, damaged" in caplog.text
    SweepWriter(paths).compact()
    assert sorted(list_folder(paths.trials)) == [
        ".part-00000002-00000002.parquet.damaged",
        "part-00000001-00000003.parquet",
    ]


def test_reports_are_written_there(paths, write):
    write()
    results = open_results("s3://bucket/results")
    assert str(write_report(results, "demo")) == "s3://bucket/results/demo/report.html"
    assert "demo" in paths.report.read_text()
    assert str(write_index(results)) == "s3://bucket/results/index.html"
    assert not sweep_status(results, "demo").running
    live = LiveReport(results, "demo")
    version = live.version
    assert b"demo" in live.page() and live.version == version
    write(4)
    assert live.version != version


def test_storage_is_tried_before_anything_starts(bucket, paths, monkeypatch):
    check_writable(paths)
    assert list(list_folder(paths.trials)) == list(list_folder(paths.checkpoints)) == []

    def missing(key, metadata=None):
        raise FileNotFoundError(2, "Bucket 'bucket' not found")

    monkeypatch.setattr(bucket, "open_output_stream", missing)
    with pytest.raises(StorageError, match=r"demo/trials/.probe: .*there is no bucket bucket at AWS"):
        check_writable(paths)


def test_address_without_results_names_the_command_that_makes_some(bucket):
    with pytest.raises(ResultsError, match=r"s3://bucket/nothing: no such folder; run `python -m flexres_tune.run"):
        open_results("s3://bucket/nothing")


def test_logs_are_written_to_a_folder_of_this_machine(paths):
    assert str(paths.logs("tensorboard")) == "results/demo/logs/tensorboard"


def test_one_sweep_is_read_at_the_same_cost_whatever_else_is_in_the_folder(bucket, paths, write):
    write()

    def num_requests():
        results, before = open_results(paths.root), bucket.num_requests
        assert results.choose("demo") == ["demo"] and results.trials("demo").num_rows == 3
        return bucket.num_requests - before

    alone = num_requests()
    for number in range(50):
        SweepPaths(paths.root, f"other-{number}").plan.write_bytes(b"{}")
    assert num_requests() == alone


def test_own_readers_find_each_row_once_after_every_request_of_a_writer_that_replaces_rows(
    bucket, paths, write, make_config, make_trial, make_epoch, monkeypatch
):
    """Two rows of `trials` and one of `epochs` are replaced, then all parts are merged; the rows are 3 at any moment."""
    ids = write()
    seen = set()

    def check():
        results = open_results("s3://bucket/results")
        assert sorted(results.trials("demo")["trial_id"].to_pylist()) == sorted(ids)
        assert results.epochs("demo").num_rows == 3
        seen.add(tuple(len(list_folder(paths.table(name))) for name in ("trials", "epochs")))

    def checked(call):
        def wrapper(*args, **kwargs):
            done = call(*args, **kwargs)
            check()
            return done

        return wrapper

    for name in ("write_bytes", "unlink"):
        monkeypatch.setattr(RemotePath, name, checked(getattr(RemotePath, name)))
    with SweepWriter(paths) as writer:
        for seed in (0, 2):
            config = make_config(seed=seed)
            writer.add_epoch(make_epoch(config.trial_id, 1, attempt=2))
            writer.add_trial(make_trial(config, best=0.9, attempt=2), config)
        writer.compact()
    assert sorted(open_results("s3://bucket/results").trials("demo")["attempt"].to_pylist()) == [1, 2, 2]
    assert len(seen) > 4 and (1, 1) in seen
