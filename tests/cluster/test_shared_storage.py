"""Storage that nodes do not share: an error before anything starts, with the advice."""

import pytest

from flexres_tune.cluster.probe import remove_mark, seen_marks, write_mark
from flexres_tune.cluster.resources import ClusterResources, NodeResources
from flexres_tune.cluster.shared_storage import SharingReport, check_sharing, require_shared_storage
from flexres_tune.errors import ResultsError
from flexres_tune.storage import list_folder, make_path


@pytest.mark.parametrize("storage", ["s3://bucket/results", "FOLDER"])
def test_node_writes_its_mark_sees_the_others_and_removes_its_own(bucket, tmp_path, storage):
    storage = storage.replace("FOLDER", str(tmp_path / "results"))
    for mark in (".writable-1-a", ".writable-1-b", ".writable-2-c"):
        assert write_mark(storage, mark) is None
    assert seen_marks(storage, ".writable-1-") == [".writable-1-a", ".writable-1-b"]
    remove_mark(storage, ".writable-1-a")
    assert sorted(list_folder(make_path(storage))) == [".writable-1-b", ".writable-2-c"]


def test_node_that_cannot_write_to_object_storage_says_why(bucket):
    bucket.error = OSError("AWS Error ACCESS_DENIED during PutObject operation")
    assert "s3://bucket/x/m: cannot be written: AWS refuses (AWS Error ACCESS" in write_mark("s3://bucket/x", "m")
    assert seen_marks("s3://bucket/x", "m") == []


def test_nodes_without_credentials_are_named_with_the_advice():
    report = SharingReport(apart=("10.0.0.2",), problems=("s3://b/x: cannot be written: AWS refuses",))
    with pytest.raises(ResultsError, match=r"s3://b/x: .*10\.0\.0\.2 \(.*refuses\); give every node credentials"):
        check_sharing(make_path("s3://b/x"), 3, report)


def test_nodes_that_write_to_another_folder_are_named(tmp_path):
    report = SharingReport(apart=("10.0.0.2", "10.0.0.3"), problems=())
    message = r"3 nodes must share it, but 2 do not: 10\.0\.0\.2, 10\.0\.0\.3, which write"
    with pytest.raises(ResultsError, match=message):
        check_sharing(tmp_path, 3, report)


def test_problem_of_a_node_is_part_of_the_message(tmp_path):
    report = SharingReport(apart=("10.0.0.2",), problems=("/mnt/results: Permission denied",))
    with pytest.raises(ResultsError, match=r"Permission denied.*--storage a folder that all nodes share"):
        check_sharing(tmp_path, 3, report)


def test_nothing_is_written_if_there_is_one_node(tmp_path):
    require_shared_storage(tmp_path / "results", ClusterResources((NodeResources(0, 2),), 1, is_local=False))
    assert not (tmp_path / "results").exists()
