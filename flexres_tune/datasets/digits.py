"""Handwritten digits: 1,797 real images of 8x8 pixels, part of scikit-learn and therefore available offline.

Source: Alpaydin and Kaynak (1998), Optical Recognition of Handwritten Digits, UCI (its test part, which scikit-learn
contains).
"""

from __future__ import annotations

from flexres_tune.datasets.arrays import DataShape, ImageArrays, fixed_permutation, split_arrays
from flexres_tune.datasets.cache import cached_arrays
from flexres_tune.spec.images import ImageOptions

_NUM_TEST = _NUM_VAL = 300


def describe(path: str, options: ImageOptions) -> DataShape:
    """Shape of digits."""
    return DataShape(image_size=8, num_classes=10, num_train=1197, num_val=_NUM_VAL, num_test=_NUM_TEST)


def read(path: str, options: ImageOptions) -> tuple[ImageArrays, tuple[str, ...]]:
    """Grey levels 0..16 as uint8 0..255 in three equal channels; 300 images for test, 300 for validation."""
    # cached because importing scikit-learn takes a second, which is long for a short trial
    return cached_arrays("digits", read_sklearn), tuple("0123456789")


def read_sklearn() -> ImageArrays:
    """The images from scikit-learn, split, without the cache."""
    import numpy as np
    from sklearn.datasets import load_digits

    source = load_digits()
    order = fixed_permutation(len(source.target))
    levels = np.rint(source.images[order] * (255 / 16)).astype(np.uint8)
    images = np.repeat(levels[:, None], 3, axis=1)  # (1797, 3, 8, 8)
    labels = source.target[order].astype(np.int64)
    return split_arrays(images[_NUM_TEST:], labels[_NUM_TEST:], images[:_NUM_TEST], labels[:_NUM_TEST], _NUM_VAL)
