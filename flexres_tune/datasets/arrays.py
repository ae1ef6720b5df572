"""What a source gives: uint8 images split once and for all into training, validation and test.

The held-out images are the first of a fixed permutation of the source's training rows: drawn simply at random (not
stratified), by a seed that belongs to the project and not to a trial, so that all trials of all sweeps are
judged on the same images. The rows come out in that order, so each split is one contiguous block and a subset of
the training images is its first n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_SPLIT_SEED = 20_171_122  # never changed: another value would make old and new results incomparable
_CHUNK = 4096  # images a step while moments are summed: bounds the extra memory


@dataclass(frozen=True)
class DataShape:
    """What can be said of a data set without loading it."""

    image_size: int  # pixels, height and width
    num_classes: int
    num_train: int  # images left for training after the validation images are held out
    num_val: int
    num_test: int


@dataclass(frozen=True)
class ImageArrays:
    """One data set on the host."""

    train_images: np.ndarray  # (N, 3, H, W) uint8
    train_labels: np.ndarray  # (N,) int64
    val_images: np.ndarray
    val_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    moments: np.ndarray  # (2, 3) float64: mean and standard deviation of the training pixels, in [0, 1]


def fixed_permutation(n: int) -> np.ndarray:
    """The permutation of n rows that every trial shares."""
    import numpy as np

    # RandomState and not Generator: numpy promises that only this stream stays the same in later versions
    return np.random.RandomState(_SPLIT_SEED).permutation(n)


def split_arrays(
    images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray, num_val: int
) -> ImageArrays:
    """Hold out the first `num_val` of the permuted training rows."""
    order = fixed_permutation(len(images))
    val, train = order[:num_val], order[num_val:]
    train_images = images[train]
    return ImageArrays(
        train_images=train_images,
        train_labels=labels[train],
        val_images=images[val],
        val_labels=labels[val],
        test_images=test_images,
        test_labels=test_labels,
        moments=channel_moments(train_images),
    )


def channel_moments(images: np.ndarray) -> np.ndarray:
    """Mean and population standard deviation of each channel over all pixels, in [0, 1]: (2, 3).

    Summed exactly, in integers, a chunk at a time: no floating-point copy of the set is made.
    """
    import numpy as np

    total, squares = np.zeros(3, np.int64), np.zeros(3, np.int64)
    for start in range(0, len(images), _CHUNK):
        chunk = images[start : start + _CHUNK].astype(np.uint32)
        total += chunk.sum((0, 2, 3), dtype=np.int64)
        squares += (chunk * chunk).sum((0, 2, 3), dtype=np.int64)
    num_pixels = images.shape[0] * images.shape[2] * images.shape[3]
    mean = total / num_pixels
    variance = squares / num_pixels - mean**2
    std = np.sqrt(np.maximum(variance, 1))  # at least one grey level: a constant channel must not divide by zero
    return np.stack([mean, std]) / 255
