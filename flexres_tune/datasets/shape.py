"""The shape of a data set before it is loaded, so that a sweep can be checked at once. Imports no torch."""

from __future__ import annotations

from flexres_tune.datasets.arrays import DataShape
from flexres_tune.datasets.sources import find_source

__all__ = ["DataShape", "describe_dataset"]


def describe_dataset(dataset: str) -> DataShape:
    """Image size and counts of `dataset`, from its metadata; raises DataError where it is missing or malformed."""
    source, path = find_source(dataset)
    return source.describe(path)
