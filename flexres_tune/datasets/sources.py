"""Every source of images by name. To add one: a file beside this, and its row here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from flexres_tune.datasets import cifar10, digits, parquet
from flexres_tune.datasets.arrays import DataShape, ImageArrays
from flexres_tune.errors import DataError


@dataclass(frozen=True)
class Source:
    """A source of images: both functions take what stands after `name:`, "" where nothing does."""

    describe: Callable[[str], DataShape]  # quick: no image is decoded
    read: Callable[[str], tuple[ImageArrays, tuple[str, ...]]]  # arrays and the names of the classes
    needs_path: bool = False


SOURCES: Mapping[str, Source] = {
    "digits": Source(digits.describe, digits.read),
    "cifar10": Source(cifar10.describe, cifar10.read),
    "parquet": Source(parquet.describe, parquet.read, needs_path=True),
}


def find_source(dataset: str) -> tuple[Source, str]:
    """The source that `dataset` names, and the path it is to read. Raises DataError where there is none."""
    name, _, path = dataset.partition(":")
    source = SOURCES.get(name)
    if source is None or source.needs_path != bool(path):
        forms = ", ".join(f"{n}:PATH" if s.needs_path else n for n, s in SOURCES.items())
        raise DataError(f"dataset must be one of {forms}, but got {dataset[:200]!r}")
    return source, path


__all__ = ["DataShape", "describe_dataset"]


def describe_dataset(dataset: str) -> DataShape:
    """Image size and counts of `dataset`, from its metadata; raises DataError where it is missing or malformed."""
    source, path = find_source(dataset)
    return source.describe(path)
