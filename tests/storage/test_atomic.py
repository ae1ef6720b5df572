"""Atomic writes: readers see the old file or the new one, and a failed write leaves nothing."""

import os
import platform

import pytest

from flexres_tune.errors import StorageError
from flexres_tune.storage import (
    atomic_write,
    atomic_write_bytes,
    atomic_write_text,
    list_folder,
    make_path,
    remove_temporary_files,
    temporary_path,
)


@pytest.fixture(params=["folder", "object storage"])
def folder(request, tmp_path, bucket):
    return tmp_path / "new" if request.param == "folder" else make_path("s3://bucket/new")


def test_temporary_file_is_hidden_in_the_same_folder_and_named_for_this_process(tmp_path):
    temporary = temporary_path(tmp_path / "a.parquet")
    assert temporary.parent == tmp_path and temporary.name == f".a.parquet.{platform.node()}.{os.getpid()}.tmp"


def test_file_appears_complete_in_a_folder_that_did_not_exist(folder):
    file = folder / "a.txt"
    with atomic_write(file) as temporary:
        temporary.write_text("half")
        assert not file.exists()
        temporary.write_text("whole")
    assert file.read_text() == "whole" and list(list_folder(folder)) == ["a.txt"]


def test_failed_write_leaves_the_old_file_and_nothing_else(folder):
    atomic_write_bytes(folder / "a", b"old")
    with pytest.raises(ValueError), atomic_write(folder / "a") as temporary:
        temporary.write_bytes(b"new")
        raise ValueError
    assert (folder / "a").read_bytes() == b"old" and list(list_folder(folder)) == ["a"]


def test_text_is_utf_8_with_its_own_line_ends(folder):
    atomic_write_text(folder / "a", "ä\r\nö\n")
    assert (folder / "a").read_bytes() == "ä\r\nö\n".encode()


def test_error_names_the_file_the_reason_and_the_remedy(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        StorageError, match=r"file/a: cannot be written: .*; there is a file where a folder must be"
    ) as caught:
        atomic_write_text(tmp_path / "file" / "a", "x")
    assert isinstance(caught.value, OSError) and str(tmp_path) not in caught.value.reason


def test_temporary_files_of_killed_processes_are_removed_by_prefix(tmp_path):
    for name in (".part-1.host.7.tmp", ".x.pt.host.7.tmp", "x.pt", ".hidden"):
        (tmp_path / name).write_text("")
    remove_temporary_files(tmp_path, "part-")
    assert sorted(list_folder(tmp_path)) == [".hidden", ".x.pt.host.7.tmp", "x.pt"]
    remove_temporary_files(tmp_path)
    assert sorted(list_folder(tmp_path)) == [".hidden", "x.pt"]
