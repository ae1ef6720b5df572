import logging

import numpy as np
import pytest

from flexres_tune.datasets import digits
from flexres_tune.datasets.cache import is_damaged
from flexres_tune.datasets.sources import read_images
from flexres_tune.datasets.verify import verify_dataset


@pytest.fixture
def entry(tmp_path, monkeypatch):
    """The cache's folder of digits, filled."""
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))
    verify_dataset("digits")
    (folder,) = (tmp_path / "arrays").iterdir()
    return folder


def test_whole_entry_is_left_alone(entry, caplog):
    before = {file.name: file.stat().st_mtime_ns for file in entry.iterdir()}
    with caplog.at_level(logging.WARNING):
        verify_dataset("digits")
    assert {file.name: file.stat().st_mtime_ns for file in entry.iterdir()} == before
    assert not caplog.records


@pytest.mark.parametrize("name", ["train_images.npy", "test_labels.npy", "sums.json"])
def test_noise_in_the_cache_is_found_and_the_entry_is_made_again(entry, caplog, name):
    content = bytearray((entry / name).read_bytes())
    content[-20:-10] = b"0123456789"
    (entry / name).write_bytes(bytes(content))
    assert is_damaged(entry)
    with caplog.at_level(logging.WARNING):
        verify_dataset("digits")
    assert f"{entry}: is damaged; it is made again" in caplog.text
    assert not is_damaged(entry)
    assert np.array_equal(read_images("digits")[0].train_images, digits.read_sklearn().train_images)
