"""CIFAR-10 without a network: a copy in torchvision's form, and the message if there is no copy."""

import hashlib
import pickle
import socket

import numpy as np
import pytest
from torchvision.datasets import CIFAR10

from flexres_tune.datasets import cifar10
from flexres_tune.errors import DataError


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path))
    return tmp_path


@pytest.fixture
def local_copy(root, monkeypatch):
    """Six small batches in CIFAR-10's format; torchvision gets their checksums."""
    folder = root / CIFAR10.base_folder
    folder.mkdir()
    rng = np.random.default_rng(0)
    sums = {}
    for name in [*(row[0] for row in CIFAR10.train_list), "test_batch"]:
        content = {"data": rng.integers(0, 256, (2000, 3072), np.uint8), "labels": rng.integers(0, 10, 2000).tolist()}
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(cifar10.CLASS_NAMES)}))
    meta = hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [[row[0], sums[row[0]]] for row in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": meta})
    return folder


def forbid_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_no_network_and_no_copy_says_where_it_looked_and_what_to_do(root, monkeypatch):
    forbid_network(monkeypatch)
    with pytest.raises(DataError) as caught:
        cifar10.read("")
    message = str(caught.value)
    for part in (
        str(root / "cifar-10-python.tar.gz"),
        "FLEXRES_TUNE_DATA",
        "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
        "c58f30108f718f92721af3b95e74349a",
        "no network in this test",
        "dataset: digits",
        "parquet:PATH",
    ):
        assert part in message
    assert caught.value.__suppress_context__  # printed without urllib's traceback
    assert socket.getdefaulttimeout() is None


def test_a_copy_is_used_without_a_network_and_5000_images_are_held_out(local_copy, monkeypatch):
    forbid_network(monkeypatch)
    arrays, names = cifar10.read("")
    assert names == ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    assert arrays.train_images.shape == (5000, 3, 32, 32)  # of this copy's 10,000
    assert arrays.val_images.shape == (5000, 3, 32, 32) and arrays.test_images.shape == (2000, 3, 32, 32)
    known = {}
    for path in local_copy.glob("data_batch_*"):
        content = pickle.loads(path.read_bytes())
        known |= {row.tobytes(): label for row, label in zip(content["data"], content["labels"], strict=True)}
    for images, labels in ((arrays.train_images, arrays.train_labels), (arrays.val_images, arrays.val_labels)):
        assert [known.pop(image.tobytes()) for image in images] == labels.tolist()
    assert not known  # each once


def test_a_damaged_copy_is_refused(local_copy, monkeypatch):
    forbid_network(monkeypatch)
    path = local_copy / "data_batch_3"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="To provide it by hand"):
        cifar10.read("")


def test_a_folder_that_cannot_be_made_is_an_error_for_the_user(tmp_path, monkeypatch):
    forbid_network(monkeypatch)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path / "file" / "below"))
    with pytest.raises(DataError, match="file/below"):
        cifar10.read("")
