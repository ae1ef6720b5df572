"""Where results may be: refused before anything starts, with what to give instead."""

import pytest

from flexres_tune.cluster import shared_storage as examine
from flexres_tune.cluster.probe import remove_mark, seen_marks, write_mark
from flexres_tune.cluster.resources import ClusterResources
from flexres_tune.cluster.shared_storage import require_shared_storage
from flexres_tune.errors import ResultsError
from flexres_tune.storage import list_folder, make_path

THREE = ClusterResources(num_cpus=6, num_gpus=0, num_nodes=3, is_local=False)


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


def test_nodes_without_credentials_are_named_and_what_they_need(monkeypatch):
    apart = examine.SharingReport(make_path("s3://b/x"), ("10.0.0.2",), ("s3://b/x: cannot be written: AWS refuses",))
    monkeypatch.setattr(examine, "probe_sharing", lambda storage: apart)
    with pytest.raises(ResultsError, match=r"s3://b/x: .*10\.0\.0\.2 \(.*refuses\); give every node credentials"):
        require_shared_storage(make_path("s3://b/x"), THREE)


def test_nodes_with_folders_of_their_own_are_named(monkeypatch, tmp_path):
    apart = examine.SharingReport(tmp_path, ("10.0.0.2", "10.0.0.3"), ())
    monkeypatch.setattr(examine, "probe_sharing", lambda storage: apart)
    with pytest.raises(
        ResultsError, match=r"3 nodes must share it, but 2 do not: 10\.0\.0\.2, 10\.0\.0\.3, which write"
    ):
        require_shared_storage(tmp_path, THREE)


def test_reason_of_a_node_is_passed_on(monkeypatch, tmp_path):
    apart = examine.SharingReport(tmp_path, ("10.0.0.2",), ("/mnt/results: Permission denied",))
    monkeypatch.setattr(examine, "probe_sharing", lambda storage: apart)
    with pytest.raises(ResultsError, match=r"Permission denied.*--storage a folder that all nodes share"):
        require_shared_storage(tmp_path, THREE)


def test_one_node_is_not_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(examine, "probe_sharing", lambda storage: pytest.fail("asked"))
    require_shared_storage(tmp_path, ClusterResources(num_cpus=2, num_gpus=0, num_nodes=1, is_local=False))
