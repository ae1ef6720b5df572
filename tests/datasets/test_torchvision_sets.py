"""Data sets of torchvision without a network: copies in its formats, which it reads, and the message without a copy."""

import hashlib
import pickle
import socket

import numpy as np
import pytest
import torch
import torchvision.datasets
from scipy.io import savemat
from torchvision.datasets import CIFAR10, CIFAR100, STL10, SVHN

from flexres_tune.datasets import DataShape, describe_dataset, load_dataset, torchvision_sets
from flexres_tune.datasets.sources import read_images
from flexres_tune.errors import DataError

CPU = torch.device("cpu")
NUM_TRAIN, NUM_TEST = {"stl10": 600, "svhn": 7_300}, 40


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
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": list(torchvision_sets.CIFAR10_CLASSES)}))
    meta = hashlib.md5((folder / "batches.meta").read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", [[row[0], sums[row[0]]] for row in CIFAR10.train_list])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": meta})
    return folder


def write_cifar100(folder, images, labels, split, sums):
    folder /= CIFAR100.base_folder
    folder.mkdir(exist_ok=True)
    content = {"data": images.transpose(0, 3, 1, 2).reshape(len(images), -1), "fine_labels": labels.tolist()}
    (folder / split).write_bytes(pickle.dumps(content))
    (folder / "meta").write_bytes(pickle.dumps({"fine_label_names": list(torchvision_sets.CIFAR100_CLASSES)}))
    sums.setattr(CIFAR100, f"{split}_list", [[split, md5(folder / split)]])
    sums.setattr(CIFAR100, "meta", CIFAR100.meta | {"md5": md5(folder / "meta")})


def write_svhn(folder, images, labels, split, sums):
    name = f"{split}_32x32.mat"
    savemat(folder / name, {"X": images.transpose(1, 2, 3, 0), "y": np.where(labels == 0, 10, labels)[:, None]})
    sums.setitem(SVHN.split_list, split, [SVHN.split_list[split][0], name, md5(folder / name)])


def write_idx(name):
    def write(folder, images, labels, split, sums):
        raw = folder / name / "raw"
        raw.mkdir(parents=True, exist_ok=True)
        prefix = {"train": "train", "test": "t10k"}[split]
        for part, array in (("images-idx3", images[..., 0]), ("labels-idx1", labels.astype(np.uint8))):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
            (raw / f"{prefix}-{part}-ubyte").write_bytes(header + array.tobytes())

    return write


def write_stl10(folder, images, labels, split, sums):
    folder /= STL10.base_folder
    folder.mkdir(exist_ok=True)
    (folder / f"{split}_X.bin").write_bytes(images.transpose(0, 3, 2, 1).tobytes())  # columns first
    (folder / f"{split}_y.bin").write_bytes((labels + 1).astype(np.uint8).tobytes())
    (folder / "unlabeled_X.bin").write_bytes(b"")
    for kind, names in (("train", ("train_X", "train_y", "unlabeled_X")), ("test", ("test_X", "test_y"))):
        files = [folder / f"{name}.bin" for name in names]
        sums.setattr(STL10, f"{kind}_list", [[file.name, md5(file)] for file in files if file.exists()])


WRITERS = {
    "cifar100": write_cifar100,
    "svhn": write_svhn,
    "mnist": write_idx("MNIST"),
    "fashion_mnist": write_idx("FashionMNIST"),
    "stl10": write_stl10,
}


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def pixels(name, split):
    """(N, H, H, 3) and labels of a small copy; each image is of one grey value and one row."""
    row = torchvision_sets.SETS[name]
    count = NUM_TRAIN.get(name, 5_100) if split == "train" else NUM_TEST
    rng = np.random.default_rng(len(split))
    images = np.zeros((count, row.image_size, row.image_size, 3), np.uint8)
    images[:, 0, :, :] = rng.integers(0, 256, (count, row.image_size, 1), np.uint8)  # the first row, not a column
    return images, rng.integers(0, len(row.class_names), count)


@pytest.fixture
def copy(root, monkeypatch):
    """Writes a small copy of a data set into the folder of all data; torchvision gets its checksums."""

    def write(name):
        forbid_network(monkeypatch)
        for split in ("train", "test"):
            WRITERS[name](root, *pixels(name, split), split, monkeypatch)
        return root

    return write


@pytest.mark.parametrize("name", WRITERS)
def test_each_set_is_read_as_torchvision_gives_it(name, copy):
    copy(name)
    row = torchvision_sets.SETS[name]
    arrays, class_names = read_images(name)
    assert class_names == row.class_names and len(class_names) == describe_dataset(name).num_classes
    size = (3, row.image_size, row.image_size)
    assert len(arrays.val_images) == row.num_val and arrays.val_images.shape[1:] == size
    expected = getattr(torchvision.datasets, row.class_name)(copy(name), **row.splits[1])
    for i, (image, label) in enumerate(expected):
        assert np.array_equal(np.asarray(image.convert("RGB")).transpose(2, 0, 1), arrays.test_images[i])
        assert label == arrays.test_labels[i]
    images, labels = pixels(name, "train")
    known = sorted((image[0].tobytes(), label) for image, label in zip(images, labels.tolist(), strict=True))
    found = [
        *zip(arrays.train_images, arrays.train_labels, strict=True),
        *zip(arrays.val_images, arrays.val_labels, strict=True),
    ]
    assert sorted((image[:, 0].T.tobytes(), label) for image, label in found) == known


@pytest.mark.parametrize("name", WRITERS)
def test_a_set_without_a_copy_says_what_to_put_where(name, root, monkeypatch):
    forbid_network(monkeypatch)
    with pytest.raises(
        DataError, match=rf"^{name}: must be in .* or be downloadable, but neither .*\(md5 [0-9a-f]{{32}}\)"
    ):
        read_images(name)


@pytest.mark.parametrize("name", WRITERS)
def test_a_file_that_was_cut_short_is_refused(name, copy):
    root = copy(name)
    largest = max((path for path in root.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-100])
    with pytest.raises(DataError, match=rf"^{name}: "):
        read_images(name)


def test_labels_of_no_class_are_refused(root, monkeypatch):
    forbid_network(monkeypatch)
    images, labels = pixels("mnist", "train")
    for split in ("train", "test"):
        WRITERS["mnist"](root, images, labels + 1, split, monkeypatch)
    with pytest.raises(DataError, match="mnist: the training split .* labels from 1 to 10, which must be 0 to 9"):
        read_images("mnist")


def test_grey_images_are_resized_once_and_the_small_ones_are_kept(copy, monkeypatch):
    copy("mnist")
    assert describe_dataset("mnist?resize=32") == DataShape(32, 10, 55_000, 5_000, 10_000)
    large, small = (load_dataset(name, CPU) for name in ("mnist?resize=32", "mnist"))
    assert large.test.images.shape[1:] == (3, 32, 32) and small.test.images.shape[1:] == (3, 28, 28)
    assert torch.equal(large.test.labels, small.test.labels)
    assert abs(large.mean[0] - small.mean[0]) < 0.01
    monkeypatch.setattr("flexres_tune.datasets.sources.resize_arrays", lambda *_: pytest.fail("resized again"))
    read_images("mnist?resize=32")


def forbid_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_no_network_and_no_copy_says_where_it_looked_and_what_to_do(root, monkeypatch):
    forbid_network(monkeypatch)
    with pytest.raises(DataError) as caught:
        read_images("cifar10")
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
    arrays, names = read_images("cifar10")
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
        read_images("cifar10")


def test_a_folder_that_cannot_be_made_is_an_error_for_the_user(tmp_path, monkeypatch):
    forbid_network(monkeypatch)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FLEXRES_TUNE_DATA", str(tmp_path / "file" / "below"))
    with pytest.raises(DataError, match="file/below"):
        read_images("cifar10")
