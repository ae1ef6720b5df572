import errno
import os

import pytest

from flexres_tune.errors import StorageError
from flexres_tune.storage import FolderUpdateUnsupported, discard_folder, old_folders, update_folder


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "table"
    folder.mkdir()
    for name in "abc":
        (folder / name).write_text(name)
    return folder


def content(folder):
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def test_files_are_removed_and_added_in_one_step(folder):
    with update_folder(folder, {"a", "b"}) as following:
        (following / "ab").write_text("ab")
        assert content(folder) == {"a": "a", "b": "b", "c": "c"}
    assert content(folder) == {"ab": "ab", "c": "c"}


def test_program_that_opened_the_folder_before_lists_the_old_files_until_they_are_discarded(folder):
    handle = os.open(folder, os.O_RDONLY)
    with update_folder(folder, {"a", "b", "c"}) as following:
        pass
    assert sorted(os.listdir(handle)) == ["a", "b", "c"] and old_folders(folder) == [following]
    discard_folder(following, folder)
    os.close(handle)
    assert old_folders(folder) == [] and content(folder) == {}


def test_failure_in_the_block_changes_nothing(folder):
    with pytest.raises(RuntimeError), update_folder(folder, {"a"}) as following:
        (following / "new").write_text("new")
        raise RuntimeError
    assert content(folder) == {"a": "a", "b": "b", "c": "c"} and old_folders(folder) == []


def test_full_disk_changes_nothing_and_says_so(folder, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("os.link", full)
    with pytest.raises(StorageError, match="table: cannot be written: No space left on device"), update_folder(folder):
        pass
    assert len(content(folder)) == 3 and old_folders(folder) == []


def test_folder_that_is_a_link_is_not_replaced(folder, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(folder)
    with pytest.raises(FolderUpdateUnsupported), update_folder(link):
        pass
    assert link.is_symlink() and len(content(folder)) == 3


def test_what_somebody_else_put_there_is_kept(folder):
    (folder / "notes").mkdir()
    (folder / "notes" / "mine").write_text("mine")
    (folder / "link").symlink_to("a")
    folder.chmod(0o750)
    with update_folder(folder, {"a"}) as following:
        pass
    discard_folder(following, folder)
    assert (folder / "notes" / "mine").read_text() == "mine" and (folder / "link").is_symlink()
    assert folder.stat().st_mode & 0o777 == 0o750
