"""Where results may be: refused before anything starts, with what to give instead."""

from pathlib import Path

import pytest

from flexres_tune.errors import ResultsError
from flexres_tune.raytune import examine
from flexres_tune.raytune.cluster import Cluster
from flexres_tune.raytune.storage import check_is_folder, check_shared

THREE = Cluster(num_cpus=6, num_gpus=0, num_nodes=3, is_local=False)


@pytest.mark.parametrize("storage", ["s3://bucket/results", "gs://bucket"])
def test_object_storage_is_refused_rather_than_made_a_folder_named_s3(storage):
    with pytest.raises(ResultsError, match=r"must be a folder.*object storage is not supported.*NFS"):
        check_is_folder(Path(storage))


@pytest.mark.parametrize("storage", ["results", "/mnt/results", "s3", "."])
def test_folders_are_folders(storage):
    check_is_folder(Path(storage))


def test_nodes_with_folders_of_their_own_are_named(monkeypatch, tmp_path):
    apart = examine.Sharing(tmp_path, ("10.0.0.2", "10.0.0.3"), ())
    monkeypatch.setattr(examine, "check_sharing", lambda storage: apart)
    with pytest.raises(
        ResultsError, match=r"3 nodes must share it, but 2 do not: 10\.0\.0\.2, 10\.0\.0\.3, which write"
    ):
        check_shared(tmp_path, THREE)


def test_reason_of_a_node_is_passed_on(monkeypatch, tmp_path):
    apart = examine.Sharing(tmp_path, ("10.0.0.2",), ("/mnt/results: Permission denied",))
    monkeypatch.setattr(examine, "check_sharing", lambda storage: apart)
    with pytest.raises(ResultsError, match=r"Permission denied.*--storage a folder that all nodes share"):
        check_shared(tmp_path, THREE)


def test_one_node_is_not_asked(monkeypatch, tmp_path):
    monkeypatch.setattr(examine, "check_sharing", lambda storage: pytest.fail("asked"))
    check_shared(tmp_path, Cluster(num_cpus=2, num_gpus=0, num_nodes=1, is_local=False))
