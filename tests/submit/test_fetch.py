"""Fetched tables are complete, have no row twice, and never replace rows that were not fetched."""

import io
import tarfile

import pytest

from flexres_tune.errors import ResultsError
from flexres_tune.results.parts import make_part
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.tags import add_tag, read_notes, read_tags, remove_tags
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


def test_notes_and_tags_come_and_those_of_here_stay(tmp_path, fetch, caplog):
    write_part(tmp_path / "head", 1, 1)
    head, local = SweepPaths(tmp_path / "head", "optim"), SweepPaths(tmp_path / "here", "optim")
    head.notes.write_text("noisy node")
    add_tag(head, "a-0", "rerun")
    assert fetch() == 3
    assert read_notes(local) == "noisy node" and [tag.text for tag in read_tags(local)["a-0"]] == ["rerun"]

    add_tag(local, "a-0", "mine")
    remove_tags(head, "a-0", "rerun")
    add_tag(head, "b-0", "good")
    head.notes.write_text("noisy node, replaced")
    fetch()
    assert {trial: [tag.text for tag in tags] for trial, tags in read_tags(local).items()} == {
        "a-0": ["mine"],
        "b-0": ["good"],
    }
    assert read_notes(local) == "noisy node, replaced" and not caplog.records

    local.notes.write_text("my own words")
    fetch()
    assert read_notes(local) == "my own words"
    assert (local.folder / "notes.fetched.md").read_text() == "noisy node, replaced"
    assert "was written here, so it stays" in caplog.text


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
    files = fetch_module.list_results
    calls = []

    def files_then_merge(folder, with_checkpoints):
        listed = files(folder, with_checkpoints)
        if not calls:
            first.unlink()
            write_part(tmp_path / "head", 1, 2)
        calls.append(listed)
        return listed

    monkeypatch.setattr(fetch_module, "list_results", files_then_merge)
    assert fetch() == 1
    assert "trials/part-00000001-00000002.parquet" in here(tmp_path)


@pytest.mark.parametrize("record", ["[" * 100_000, '{"origin": "%s", "files": [1]}' % ORIGIN, "[]", '{"origin": 1}'])
def test_damaged_record_of_a_fetch_protects_the_rows_as_if_it_were_missing(tmp_path, fetch, record):
    write_part(tmp_path / "head", 1, 1)
    fetch()
    (tmp_path / "here/optim/.fetched.json").write_text(record)
    with pytest.raises(ResultsError, match="must have only rows that were fetched from"):
        fetch()


PART = "trials/part-00000001-00000001.parquet"


def member(name, content=b"", **fields):
    """A member of an archive and its content."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def write_archive(path, *members, mode="w"):
    with tarfile.open(path, mode) as target:
        for info, content in members:
            target.addfile(info, io.BytesIO(content))


def files_below(folder):
    """Every file below a folder, with its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def refused(tmp_path):
    """The one-line error of an archive, which must change nothing in a folder that has a plan and is locked."""

    def refused(archive):
        folder = tmp_path / "here/optim"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "plan.json").write_text("mine")
        (folder / "driver.lock").write_text("")
        before = files_below(tmp_path / "here")
        with pytest.raises(ResultsError) as error:
            unpack_results(archive, tmp_path / "here", "optim", ORIGIN)
        after = files_below(tmp_path / "here")
        before["optim/driver.lock"] = after["optim/driver.lock"]  # that of this fetch
        assert after == before
        assert len(str(error.value).splitlines()) == 1
        return str(error.value)

    return refused


@pytest.mark.parametrize(
    "name, kind",
    [
        *[(name, b"0") for name in ("../x", "/x", "trials/../../x", ".x", "x", "driver.lock", ".fetched.json")],
        *[(name, b"0") for name in ("trials/x.parquet", "trials/part-1.parquet.exe", "logs/../../x", "logs/.x/y")],
        *[("plan.json", kind) for kind in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"S")],
    ],
)
def test_archive_with_any_other_file_is_refused_before_anything_is_written(tmp_path, refused, name, kind):
    good, bad = member("plan.json", b"theirs"), member(name, type=kind, linkname="/etc/passwd")
    write_archive(tmp_path / "x.tar", good, member(PART, b"rows"), bad)
    assert "must send only plain files of a sweep's folder, but sends" in refused(tmp_path / "x.tar")


def test_sparse_file_is_refused(tmp_path, refused):
    sparse = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": PART,
        "GNU.sparse.realsize": "2000000000",
    }
    write_archive(tmp_path / "x.tar", member(PART, b"1\n0\n1\n".ljust(1024, b"\0"), pax_headers=sparse))
    assert "must send only plain files" in refused(tmp_path / "x.tar")


@pytest.mark.parametrize("size", [-1, -512, -(10**6), 2**62])
def test_impossible_size_is_refused_in_time(tmp_path, refused, size):
    """Python's tarfile follows a negative size backwards, again and again (CVE-2025-8194)."""
    header = bytearray(member(PART)[0].tobuf(tarfile.GNU_FORMAT))
    header[124:136] = (size % 256**12).to_bytes(12, "big") if size < 0 else b"\x80" + size.to_bytes(11, "big")
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    (tmp_path / "x.tar").write_bytes(bytes(header) + bytes(10_240))
    refused(tmp_path / "x.tar")


def test_compressed_archive_is_refused(tmp_path, refused):
    for mode in ("w:gz", "w:bz2", "w:xz"):
        write_archive(tmp_path / "x.tar", member(PART, bytes(1_000_000)), mode=mode)
        assert "sent an archive that cannot be read" in refused(tmp_path / "x.tar")


def test_file_that_is_sent_twice_is_refused(tmp_path, refused):
    write_archive(tmp_path / "x.tar", member(PART, b"a"), member(PART, b"b"))
    assert "sends trials/part-00000001-00000001.parquet twice" in refused(tmp_path / "x.tar")


def test_archive_that_is_cut_off_or_damaged_is_refused(tmp_path, refused):
    write_archive(tmp_path / "x.tar", member("plan.json", b"theirs"), member(PART, b"rows" * 1_000))
    whole = (tmp_path / "x.tar").read_bytes()
    for size in (0, 100, 512, 700, 1024, 2000, 5000):  # after 1,024 bytes the first file is complete
        (tmp_path / "x.tar").write_bytes(whole[:size])
        if size != 1024:  # the first file is complete, and a tar needs no end
            assert "fetch again" in refused(tmp_path / "x.tar")
    for content in (b"junk" * 500, b"\xff" * 2_000, whole[:124] + b"9" * 12 + whole[136:]):
        (tmp_path / "x.tar").write_bytes(content)
        assert "fetch again" in refused(tmp_path / "x.tar")


def test_archive_without_files_is_no_success(tmp_path, refused):
    write_archive(tmp_path / "x.tar")
    assert "sent no file" in refused(tmp_path / "x.tar")


def test_sweep_without_rows_is_named(tmp_path):
    (tmp_path / "optim/trials").mkdir(parents=True)
    (tmp_path / "optim/plan.json").write_text("{}")
    with pytest.raises(ResultsError, match="has no tables of sweep optim yet.*its first trial"):
        pack_results(tmp_path, "optim", False, tmp_path / "x.tar")


def test_missing_sweep_is_named(tmp_path):
    with pytest.raises(ResultsError, match="has no tables of sweep optim yet"):
        pack_results(tmp_path, "optim", False, tmp_path / "x.tar")
