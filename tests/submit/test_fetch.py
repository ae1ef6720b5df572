"""Fetched tables are complete, have no row twice, and never replace rows that were not fetched."""

import io
import tarfile

import pytest

from flexres_tune.errors import ResultsError
from flexres_tune.results.parts import make_part
from flexres_tune.results.paths import SweepPaths
from flexres_tune.submit import fetch as fetch_module
from flexres_tune.submit.fetch import pack_results, unpack_results

ORIGIN = "flexres-tune:/mnt/results"


def write_part(root, first, last, content=b"rows", table="trials"):
    path = make_part(SweepPaths(root, "optim").table(table), first, last).path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def fetch(tmp_path):
    def fetch(with_checkpoints=False, origin=ORIGIN):
        pack_results(tmp_path / "head", "optim", with_checkpoints, tmp_path / "x.tar")
        return unpack_results(tmp_path / "x.tar", tmp_path / "here", "optim", origin)

    return fetch


def here(tmp_path):
    root = tmp_path / "here/optim"
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_tables_come_without_checkpoints_locks_and_half_written_files(tmp_path, fetch):
    write_part(tmp_path / "head", 1, 1)
    write_part(tmp_path / "head", 1, 1, table="epochs")
    for name in (
        "plan.json",
        "report.html",
        "driver.lock",
        "trials/.part.parquet.7.tmp",
        "checkpoints/a.pt",
        "logs/x/y",
    ):
        path = tmp_path / "head/optim" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    assert fetch() == 5
    tables = ["epochs/part-00000001-00000001.parquet", "trials/part-00000001-00000001.parquet"]
    assert here(tmp_path) == sorted([".fetched.json", "driver.lock", "logs/x/y", "plan.json", "report.html", *tables])
    assert (tmp_path / "here/optim/driver.lock").read_text() != "driver.lock", "the lock is the local one"
    assert fetch(with_checkpoints=True) == 6
    assert (tmp_path / "here/optim/checkpoints/a.pt").exists()


def test_parts_merged_on_the_head_replace_those_fetched_before(tmp_path, fetch):
    old = [write_part(tmp_path / "head", n, n) for n in (1, 2)]
    fetch()
    for path in old:
        path.unlink()
    write_part(tmp_path / "head", 1, 2)
    fetch()
    assert [name for name in here(tmp_path) if name.startswith("trials")] == ["trials/part-00000001-00000002.parquet"]


def test_local_rows_are_never_replaced(tmp_path, fetch):
    write_part(tmp_path / "head", 1, 1, b"theirs")
    mine = write_part(tmp_path / "here", 1, 1, b"mine")
    with pytest.raises(
        ResultsError, match=r"optim: must have only rows that were fetched from .*nothing was changed.*--into"
    ):
        fetch()
    assert mine.read_bytes() == b"mine"


def test_rows_added_after_a_fetch_and_rows_of_another_cluster_are_not_replaced(tmp_path, fetch):
    write_part(tmp_path / "head", 1, 1)
    fetch()
    with pytest.raises(ResultsError, match="were fetched from other:/x"):
        fetch(origin="other:/x")
    write_part(tmp_path / "here", 2, 2)
    with pytest.raises(ResultsError, match="part-00000002"):
        fetch()


def test_folder_is_listed_again_if_parts_are_merged_while_it_is_packed(tmp_path, fetch, monkeypatch):
    first = write_part(tmp_path / "head", 1, 1)
    files = fetch_module.sweep_files
    calls = []

    def files_then_merge(paths, with_checkpoints):
        listed = list(files(paths, with_checkpoints))
        if not calls:
            first.unlink()
            write_part(tmp_path / "head", 1, 2)
        calls.append(listed)
        return listed

    monkeypatch.setattr(fetch_module, "sweep_files", files_then_merge)
    assert fetch() == 1
    assert "trials/part-00000001-00000002.parquet" in here(tmp_path)


@pytest.mark.parametrize(
    "name, kind", [("../x", b"0"), ("/x", b"0"), ("trials/../../x", b"0"), (".x", b"0"), ("x", b"2")]
)
def test_archive_with_any_other_file_is_refused(tmp_path, name, kind):
    with tarfile.open(tmp_path / "x.tar", "w") as target:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        target.addfile(member, io.BytesIO())
    with pytest.raises(ResultsError, match="must contain only files of a sweep's folder"):
        unpack_results(tmp_path / "x.tar", tmp_path / "here", "optim", ORIGIN)
    assert not (tmp_path / "x").exists()


def test_missing_sweep_is_named(tmp_path):
    with pytest.raises(ResultsError, match="has no tables of sweep optim yet"):
        pack_results(tmp_path, "optim", False, tmp_path / "x.tar")
