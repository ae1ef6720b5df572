"""The sources of images by name. To add one: a file in this folder, its row here, its form in spec/trial.py."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flexres_tune.datasets import digits, image_folder, own, parquet, torchvision_sets
from flexres_tune.datasets.arrays import DataShape, ImageArrays, channel_moments
from flexres_tune.datasets.cache import cached_arrays
from flexres_tune.datasets.decode import resize_arrays
from flexres_tune.errors import DataError
from flexres_tune.spec.images import ImageOptions, Resize, split_options
from flexres_tune.spec.own_code.source import CodeName

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Source:
    """A source of images. All functions take the PATH of `name:PATH`, or the name without one, and the options.

    `describe` is quick: it decodes no image, and imports no torch. `read` returns the arrays and the names of classes 0
    to K-1; it caches what takes time to decode. What `describe` says must be what `read` returns. They raise DataError.
    """

    describe: Callable[[str, ImageOptions], DataShape]
    read: Callable[[str, ImageOptions], tuple[ImageArrays, tuple[str, ...]]]
    needs_path: bool = False
    decodes: bool = False  # whether `read` applies `resize` and `test` itself, because it decodes files
    cache_key: Callable[[str, ImageOptions], str] | None = None  # of the arrays of `read`; None: they are not stored


_TORCHVISION = Source(torchvision_sets.describe, torchvision_sets.read, cache_key=torchvision_sets.cache_key)

SOURCES: Mapping[str, Source] = {
    "digits": Source(digits.describe, digits.read, cache_key=lambda path, options: "digits"),
    "cifar10": _TORCHVISION,
    "cifar100": _TORCHVISION,
    "svhn": _TORCHVISION,
    "mnist": _TORCHVISION,
    "fashion_mnist": _TORCHVISION,
    "stl10": _TORCHVISION,
    "parquet": Source(parquet.describe, parquet.read, True, True, parquet.cache_key),
    "image_folder": Source(image_folder.describe, image_folder.read, True, True, image_folder.cache_key),
}


def describe_dataset(dataset: str) -> DataShape:
    """Image size and counts of `dataset`, from its metadata.

    Raises:
        DataError: the data set is missing or malformed.
    """
    source, path, options = find_source(dataset)
    shape = source.describe(path, options)
    if options.resize:
        shape = dataclasses.replace(shape, image_size=options.resize.size)
    return shape if options.has_test else dataclasses.replace(shape, num_test=0)


def read_images(dataset: str) -> tuple[ImageArrays, tuple[str, ...]]:
    """All images of `dataset`, and the names of classes 0 to K-1.

    Raises:
        DataError: images are missing or damaged.
    """
    source, path, options = find_source(dataset)
    arrays, class_names = source.read(path, options)
    if source.decodes:
        return arrays, class_names
    if options.resize:
        arrays = cached_arrays(_key(source, path, options) or "", lambda: _resized(arrays, options.resize))
    return (arrays if options.has_test else _without_test(arrays)), class_names


def stored_key(dataset: str) -> str | None:
    """Key under which the images of `dataset` are stored; None if they are never stored. Raises as read_images."""
    source, path, options = find_source(dataset)
    return _key(source, path, options)


def find_source(dataset: str) -> tuple[Source, str, ImageOptions]:
    """(the source that `dataset` names, its path, its options); without a path, the path is the name.

    Raises:
        DataError: there is no such source, the path is missing, or an option has another form.
    """
    try:
        name, options = split_options(dataset)
    except ValueError as error:
        raise DataError(f"{dataset[:200]}: {error}") from None
    if isinstance(name, CodeName):
        return Source(own.describe, own.read), name, options
    kind, _, path = name.partition(":")
    source = SOURCES.get(kind)
    if source is None or source.needs_path != bool(path):
        forms = ", ".join(f"{n}:PATH" if s.needs_path else n for n, s in SOURCES.items())
        raise DataError(f"dataset must be one of {forms}, but got {dataset[:200]!r}")
    return source, path or kind, options


def _key(source: Source, path: str, options: ImageOptions) -> str | None:
    if source.cache_key is None:
        return None
    key = source.cache_key(path, options)
    return f"{key}-resize-{options.resize}".replace(" ", "-") if options.resize and not source.decodes else key


def _resized(arrays: ImageArrays, resize: Resize) -> ImageArrays:
    images: dict[str, np.ndarray] = {
        name: resize_arrays(getattr(arrays, name), resize) for name in ("train_images", "val_images", "test_images")
    }
    return dataclasses.replace(arrays, **images, moments=channel_moments(images["train_images"]))


def _without_test(arrays: ImageArrays) -> ImageArrays:
    return dataclasses.replace(arrays, test_images=arrays.test_images[:0], test_labels=arrays.test_labels[:0])
