"""Only regular files are read, and only up to a limit: nothing else makes a reader wait or takes its memory."""

import pytest
from helpers.special_files import SPECIAL, huge, in_time, replace

from flexres_tune.storage import make_path, open_file, open_for_arrow, read_file


@pytest.mark.parametrize("special", SPECIAL)
def test_a_special_file_is_refused_at_once(tmp_path, special):
    replace(tmp_path / "x", special)
    with in_time(), pytest.raises(OSError, match=r"must be (a regular file, but is|at most 67,108,864 bytes, but has)"):
        read_file(tmp_path / "x")
    if special is not huge:
        with in_time(), pytest.raises(OSError, match="must be a regular file"):
            open_for_arrow(tmp_path / "x")


def test_a_regular_file_is_read_also_through_a_link(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    assert read_file(tmp_path / "link") == b"content"
    with open_file(tmp_path / "link") as file:
        assert file.read() == b"content"


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "none")


def test_an_object_has_a_limit_too(bucket):
    path = make_path("s3://bucket/x")
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    with pytest.raises(OSError, match="must be at most 4 bytes, but has 5"):
        read_file(path, 4)
