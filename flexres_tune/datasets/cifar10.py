"""CIFAR-10: 60,000 colour images of 32x32 pixels in ten classes (Krizhevsky, 2009), by torchvision's loader."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from flexres_tune.datasets.arrays import DataShape, ImageArrays, split_arrays
from flexres_tune.datasets.cache import DataPaths, cached_arrays, lock_if_possible
from flexres_tune.errors import DataError

CLASS_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_NUM_VAL = 5000
_TIMEOUT_S = 20.0


def describe(path: str) -> DataShape:
    """Shape of CIFAR-10."""
    return DataShape(image_size=32, num_classes=10, num_train=45_000, num_val=_NUM_VAL, num_test=10_000)


def read(path: str) -> tuple[ImageArrays, tuple[str, ...]]:
    """CIFAR-10, downloaded once per machine; 5,000 of the 50,000 training images are held out for validation."""
    return cached_arrays("cifar10", _read_torchvision), CLASS_NAMES


def _read_torchvision() -> ImageArrays:
    import numpy as np
    from torchvision.datasets import CIFAR10

    paths = DataPaths.from_environment()
    with lock_if_possible(paths.lock("cifar10-download")):
        try:
            with _socket_timeout(_TIMEOUT_S):
                train = CIFAR10(paths.root, train=True, download=True)
            test = CIFAR10(paths.root, train=False)
        except (OSError, RuntimeError, EOFError, ValueError) as error:  # URLError is an OSError
            raise DataError(_how_to_provide_it(paths.root, error)) from None
    splits = [
        (np.ascontiguousarray(part.data.transpose(0, 3, 1, 2)), np.asarray(part.targets, np.int64))
        for part in (train, test)
    ]
    return split_arrays(*splits[0], *splits[1], num_val=_NUM_VAL)


@contextlib.contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """Context with a time limit for connections: without one, a firewall that drops packets would hang torchvision."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _how_to_provide_it(root: Path, error: Exception) -> str:
    from torchvision.datasets import CIFAR10

    reason = " ".join(str(error).split()) or type(error).__name__
    return (
        f"cifar10: must be in {root} ($FLEXRES_TUNE_DATA, else flexres_tune in $XDG_CACHE_HOME or ~/.cache) or be "
        f"downloadable, but neither is the case: {reason}. "
        f"To provide it by hand, put {CIFAR10.url} (md5 {CIFAR10.tgz_md5}) there as {root / CIFAR10.filename}; or set "
        f"FLEXRES_TUNE_DATA to a folder that holds {CIFAR10.filename} or {CIFAR10.base_folder}/. "
        "Without it, `dataset: digits` works offline, and `dataset: parquet:PATH` reads Hugging Face folders."
    )
