"""The sources of images by name. To add one: a file in this folder, its row here, its form in spec/trial.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flexres_tune.datasets import cifar10, digits, own, parquet
from flexres_tune.datasets.arrays import DataShape, ImageArrays
from flexres_tune.errors import DataError
from flexres_tune.spec.own_code.source import CodeName


@dataclass(frozen=True)
class Source:
    """A source of images. Both functions take the PATH of `name:PATH`, "" without one, and raise DataError.

    `describe` is quick: it decodes no image, and imports no torch. `read` returns the arrays and the names of classes 0
    to K-1; it caches what takes time to decode. What `describe` says must be what `read` returns.
    """

    describe: Callable[[str], DataShape]
    read: Callable[[str], tuple[ImageArrays, tuple[str, ...]]]
    needs_path: bool = False
    cache_key: Callable[[str], str] | None = None  # of the decoded images of a PATH; None: they are not stored


SOURCES: Mapping[str, Source] = {
    "digits": Source(digits.describe, digits.read, cache_key=lambda _: "digits"),
    "cifar10": Source(cifar10.describe, cifar10.read, cache_key=lambda _: "cifar10"),
    "parquet": Source(parquet.describe, parquet.read, needs_path=True, cache_key=parquet.cache_key),
}


def find_source(dataset: str) -> tuple[Source, str]:
    """The source that `dataset` names, and its path, which is the name itself for own code.

    Raises:
        DataError: there is no such source, or the path is missing.
    """
    if isinstance(dataset, CodeName):
        return Source(own.describe, own.read), dataset
    name, _, path = dataset.partition(":")
    source = SOURCES.get(name)
    if source is None or source.needs_path != bool(path):
        forms = ", ".join(f"{n}:PATH" if s.needs_path else n for n, s in SOURCES.items())
        raise DataError(f"dataset must be one of {forms}, but got {dataset[:200]!r}")
    return source, path


def describe_dataset(dataset: str) -> DataShape:
    """Image size and counts of `dataset`, from its metadata.

    Raises:
        DataError: the data set is missing or malformed.
    """
    source, path = find_source(dataset)
    return source.describe(path)
