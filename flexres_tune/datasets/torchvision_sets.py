"""Data sets that torchvision downloads, each a row: CIFAR-10, CIFAR-100, SVHN, MNIST, FashionMNIST and STL-10."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flexres_tune.datasets.arrays import DataShape, ImageArrays, split_arrays
from flexres_tune.datasets.cache import DataPaths, cached_arrays, lock_if_possible
from flexres_tune.errors import DataError
from flexres_tune.spec.images import ImageOptions

if TYPE_CHECKING:
    import numpy as np

_TIMEOUT_S = 20.0
_BOOLEAN = ({"train": True}, {"train": False})
_NAMED = ({"split": "train"}, {"split": "test"})


@dataclass(frozen=True)
class TorchvisionSet:
    """A class of torchvision.datasets, and what it holds."""

    class_name: str
    image_size: int
    class_names: tuple[str, ...]
    num_rows: int  # of the training split
    num_val: int  # of them, held out for validation
    num_test: int
    splits: tuple[Mapping[str, Any], Mapping[str, Any]]  # arguments for the training and the test split
    labels: str  # attribute of an instance
    files: tuple[str, ...]  # that are downloaded, relative to the folder of all data


CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
# in the order of the labels of the file `train`, which is that of their names
CIFAR100_CLASSES = (
    *("apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy"),
    *("bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock"),
    *("cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish"),
    *("forest", "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion"),
    *("lizard", "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange"),
    *("orchid", "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine"),
    *("possum", "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk"),
    *("skyscraper", "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank"),
    *("telephone", "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale"),
    *("willow_tree", "wolf", "woman", "worm"),
)
FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
STL10_CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
DIGITS = tuple("0123456789")
_IDX = tuple(
    f"{part}-ubyte.gz" for part in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
)

SETS: Mapping[str, TorchvisionSet] = {
    "cifar10": TorchvisionSet(
        "CIFAR10", 32, CIFAR10_CLASSES, 50_000, 5_000, 10_000, _BOOLEAN, "targets", ("cifar-10-python.tar.gz",)
    ),
    "cifar100": TorchvisionSet(
        "CIFAR100", 32, CIFAR100_CLASSES, 50_000, 5_000, 10_000, _BOOLEAN, "targets", ("cifar-100-python.tar.gz",)
    ),
    "svhn": TorchvisionSet(
        "SVHN", 32, DIGITS, 73_257, 7_257, 26_032, _NAMED, "labels", ("train_32x32.mat", "test_32x32.mat")
    ),
    "mnist": TorchvisionSet(
        "MNIST", 28, DIGITS, 60_000, 5_000, 10_000, _BOOLEAN, "targets", tuple(f"MNIST/raw/{name}" for name in _IDX)
    ),
    "fashion_mnist": TorchvisionSet(
        *("FashionMNIST", 28, FASHION_CLASSES, 60_000, 5_000, 10_000, _BOOLEAN, "targets"),
        tuple(f"FashionMNIST/raw/{name}" for name in _IDX),
    ),
    "stl10": TorchvisionSet("STL10", 96, STL10_CLASSES, 5_000, 500, 8_000, _NAMED, "labels", ("stl10_binary.tar.gz",)),
}


def describe(name: str, options: ImageOptions) -> DataShape:
    """Shape of a data set, without its files."""
    row = SETS[name]
    return DataShape(row.image_size, len(row.class_names), row.num_rows - row.num_val, row.num_val, row.num_test)


def read(name: str, options: ImageOptions) -> tuple[ImageArrays, tuple[str, ...]]:
    """A data set, downloaded once per machine; some of its training images are held out for validation."""
    return cached_arrays(cache_key(name, options), lambda: _read_torchvision(name)), SETS[name].class_names


def cache_key(name: str, options: ImageOptions) -> str:
    """Key under which the decoded images are stored."""
    return name


def _read_torchvision(name: str) -> ImageArrays:
    import torchvision.datasets

    row, paths = SETS[name], DataPaths.from_environment()
    load = getattr(torchvision.datasets, row.class_name)
    with lock_if_possible(paths.lock(f"{name}-download")):
        try:
            with _socket_timeout(_TIMEOUT_S):
                parts = [_load(load, paths.root, dict(arguments)) for arguments in row.splits]
        except (OSError, RuntimeError, EOFError, ValueError, AssertionError) as error:  # URLError is an OSError
            raise DataError(_how_to_provide_it(name, paths.root, error)) from None
    (images, labels), (test_images, test_labels) = [(_channels_first(part.data), _labels(part, row)) for part in parts]
    _check_split(name, "training", images, labels, row.num_val + 1)
    _check_split(name, "test", test_images, test_labels, 1)
    return split_arrays(images, labels, test_images, test_labels, num_val=row.num_val)


def _load(load: Any, root: Path, arguments: Mapping[str, Any]) -> Any:
    """The split; downloaded only if it is not there, because torchvision would check a whole archive again."""
    try:
        return load(root, **arguments)
    except RuntimeError:  # "Dataset not found or corrupted"
        return load(root, **arguments, download=True)


def _check_split(name: str, split: str, images: np.ndarray, labels: np.ndarray, num_needed: int) -> None:
    """Refuse what torchvision reads without a check: not all data sets have sums for their unpacked files."""
    num_classes = len(SETS[name].class_names)
    found = ""
    if len(images) != len(labels):
        found = f"{len(images):,} images and {len(labels):,} labels"
    elif len(images) < num_needed:
        found = f"{len(images):,} images, of which {num_needed:,} are needed"
    elif labels.min() < 0 or labels.max() >= num_classes:
        found = f"labels from {labels.min()} to {labels.max()}, which must be 0 to {num_classes - 1}"
    if found:
        root = DataPaths.from_environment().root
        raise DataError(
            f"{name}: the {split} split must have one label per image, but has {found}; delete its files in {root}"
        )


def _channels_first(data: Any) -> np.ndarray:
    """(N, 3, H, H) uint8 of torchvision's (N, H, H), (N, H, H, 3) or (N, 3, H, H)."""
    import numpy as np

    images = np.asarray(data)
    if images.ndim == 3:
        return np.repeat(images[:, None], 3, axis=1)
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2) if images.shape[-1] == 3 else images)


def _labels(part: Any, row: TorchvisionSet) -> np.ndarray:
    import numpy as np

    return np.asarray(getattr(part, row.labels)).astype(np.int64)


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Context with a time limit for connections: without one, a firewall that drops packets would hang torchvision."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _how_to_provide_it(name: str, root: Path, error: Exception) -> str:
    reason = " ".join(str(error).split()) or type(error).__name__
    files = [
        f"{url} (md5 {digest}) as {root / file}"
        for (url, digest), file in zip(_downloads(name), SETS[name].files, strict=True)
    ]
    return (
        f"{name}: must be in {root} ($FLEXRES_TUNE_DATA, else flexres_tune in $XDG_CACHE_HOME or ~/.cache) or be "
        f"downloadable, but neither is the case: {reason}. "
        f"To provide it by hand, put {', '.join(files)} there; or set FLEXRES_TUNE_DATA to a folder that has them, or "
        "has them unpacked. "
        "Without it, `dataset: digits` works offline, and `dataset: parquet:PATH` reads Hugging Face folders."
    )


def _downloads(name: str) -> list[tuple[str, str]]:
    """(address, MD5 sum) of each of the files, as the installed torchvision has them."""
    import torchvision.datasets

    known = getattr(torchvision.datasets, SETS[name].class_name)
    if hasattr(known, "tgz_md5"):
        return [(known.url, known.tgz_md5)]
    if hasattr(known, "split_list"):
        return [(known.split_list[split][0], known.split_list[split][2]) for split in ("train", "test")]
    return [(known.mirrors[0] + file, digest) for file, digest in known.resources]
