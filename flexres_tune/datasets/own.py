"""Images that the user's own code loads: `dataset: my_data.py:load`.

The code is called once per process. Its result is not cached on disk, because nobody can know when the files that it
reads have changed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypedDict

from flexres_tune.datasets.arrays import DataShape, ImageArrays, channel_moments, split_arrays
from flexres_tune.errors import DataError
from flexres_tune.spec.images import ImageOptions
from flexres_tune.spec.own_code.source import CodeName, Source, describe_error

if TYPE_CHECKING:
    import numpy as np

_VAL_SHARE = 10  # one of ten training images is held out if the code names no validation images


class TrainAndTestImages(TypedDict):
    """Images uint8, (N, H, H, 3) or (N, H, H) if they are grey, and their labels, 0 to K-1: (N,)."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


class LoadedImages(TrainAndTestImages, total=False):
    """What the code must return; without validation images a tenth of the training images is held out."""

    val_images: np.ndarray
    val_labels: np.ndarray
    class_names: list[str]


class DatasetLoader(Protocol):
    """What `dataset: my_data.py:load` must name: a function that returns the same images at every call."""

    def __call__(self) -> LoadedImages:
        """All images, as NumPy arrays; called once per process, in the driver and on every node."""


def describe(name: CodeName, options: ImageOptions) -> DataShape:
    """Shape of the images, which have to be loaded to know it."""
    arrays, class_names = read(name, options)
    size, counts = arrays.train_images.shape[-1], map(len, (arrays.train_labels, arrays.val_labels, arrays.test_labels))
    return DataShape(size, len(class_names), *counts)


def read(name: CodeName, options: ImageOptions) -> tuple[ImageArrays, tuple[str, ...]]:
    """All images and the names of the classes.

    Raises:
        DataError: the code raises an error, or returns something else.
    """
    return _read(name.source, str(name), options.has_test)


@functools.lru_cache(maxsize=2)
def _read(source: Source, shown: str, has_test: bool) -> tuple[ImageArrays, tuple[str, ...]]:
    called = CodeName(shown, source).load()  # raises CodeError, which names the place
    try:
        found = called()
    except Exception as error:
        raise DataError(f"{shown} must load images, but raised {describe_error(error)}") from error
    if not isinstance(found, Mapping):
        raise DataError(f"{shown} must return a mapping with train_images and the like, but is {type(found).__name__}")
    of_test = {"test_images", "test_labels"}
    needed = LoadedImages.__required_keys__ if has_test else LoadedImages.__required_keys__ - of_test
    if wrong := [*(needed - found.keys()), *(found.keys() - needed - of_test - LoadedImages.__optional_keys__)]:
        raise DataError(
            f"{shown} must return {', '.join(sorted(needed))}, and may return val_images, val_labels and class_names, but "
            f"differs in {', '.join(map(str, wrong))}"
        )
    names = found.get("class_names")
    train = _split(found, "train", shown, names, None)
    num_classes = len(names) if names else int(train[1].max()) + 1
    splits = {
        split: _split(found, split, shown, num_classes, train[0].shape[-1])
        for split in ("val", "test")
        if f"{split}_images" in found
    }
    class_names = tuple(map(str, names or range(num_classes)))
    splits.setdefault("test", (train[0][:0], train[1][:0]))
    if "val" not in splits:
        return split_arrays(*train, *splits["test"], num_val=max(1, len(train[1]) // _VAL_SHARE)), class_names
    return ImageArrays(*train, *splits["val"], *splits["test"], moments=channel_moments(train[0])), class_names


def _split(
    found: Mapping[str, Any], split: str, shown: str, classes: Any, size: int | None
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3, H, H) uint8 and (N,) int64 of one split, checked."""
    import numpy as np

    images, labels = np.asarray(found[f"{split}_images"]), np.asarray(found.get(f"{split}_labels", ()))
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or (images.ndim == 4 and images.shape[-1] != 3):
        raise DataError(
            f"{shown}: {split}_images must be uint8 of shape (N, H, H, 3) or (N, H, H), but is {images.dtype} of shape "
            f"{images.shape}"
        )
    if images.ndim == 3:
        images = np.repeat(images[..., None], 3, axis=-1)
    if images.shape[1] != images.shape[2] or (size is not None and images.shape[1] != size):
        raise DataError(
            f"{shown}: {split}_images must be square and of one size, but are {images.shape[2]}x{images.shape[1]}"
            + (f" and train_images {size}x{size}" if size else "")
        )
    if labels.shape != (len(images),) or labels.dtype.kind not in "iu" or not len(labels):
        raise DataError(
            f"{shown}: {split}_labels must be one whole number per image, ({len(images)},), but is {labels.dtype} of "
            f"shape {labels.shape}"
        )
    num_classes = classes if isinstance(classes, int) else len(classes or ()) or None
    if labels.min() < 0 or (num_classes is not None and labels.max() >= num_classes):
        raise DataError(
            f"{shown}: {split}_labels must be from 0 to K-1, but are {labels.min()} to {labels.max()}"
            + (f" with {num_classes} classes" if num_classes else "")
        )
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2)), labels.astype(np.int64)
