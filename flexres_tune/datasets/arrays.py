"""A data set on the host: its shape, and its uint8 images in a fixed split into training, validation and test.

The held-out images are the first of a fixed permutation of the source's training rows: a simple random sample (not
stratified), with a seed that belongs to the project and not to a trial, so that all trials of all sweeps are
evaluated on the same images. The rows are stored in that order: each split is one contiguous block, and a subset of
the training images is its first n.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_SPLIT_SEED = 20_171_122  # never change it: old and new results would not be comparable
_CHUNK = 4096  # images per step while moments are summed: limits the extra memory


@dataclass(frozen=True)
class DataShape:
    """What is known of a data set without loading it."""

    image_size: int  # pixels, height and width
    num_classes: int
    num_train: int  # without the held-out validation images
    num_val: int
    num_test: int


@dataclass(frozen=True)
class ImageArrays:
    """The images, labels and pixel statistics of one data set."""

    train_images: np.ndarray  # (N, 3, H, W) uint8
    train_labels: np.ndarray  # (N,) int64
    val_images: np.ndarray
    val_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    moments: np.ndarray  # (2, 3) float64: mean and standard deviation of the training pixels, in [0, 1]


def fixed_permutation(n: int) -> np.ndarray:
    """The permutation of n rows, the same in every process and every version."""
    import numpy as np

    # RandomState and not Generator: numpy guarantees only for this one that later versions give the same numbers
    return np.random.RandomState(_SPLIT_SEED).permutation(n)


def split_arrays(
    images: np.ndarray, labels: np.ndarray, test_images: np.ndarray, test_labels: np.ndarray, num_val: int
) -> ImageArrays:
    """Permute the training rows and hold out the first `num_val` for validation."""
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

    The sums are exact, in integers, one chunk at a time: no floating-point copy of the data set is made.
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
    std = np.sqrt(np.maximum(variance, 1))  # at least one grey level: or a constant channel would divide by zero
    return np.stack([mean, std]) / 255
