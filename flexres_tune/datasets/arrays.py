"""A data set on the host: its shape, and its uint8 images in a fixed split into training, validation and test.

The held-out images are the first of a fixed permutation of the source's training rows: a simple random sample (not
stratified), with a seed that belongs to the project and not to a trial, so that all trials of all sweeps are
evaluated on the same images. The rows are stored in that order: each split is one contiguous block, and a subset of
the training images is its first n.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
class HeldOut:
    """Which of the training rows are held out for validation, if they are not the source's own."""

    split: str = "fixed"  # fixed | by_seed | k_fold | none, see TrialConfig.val_split
    num_images: int | None = None  # None: as many as the source holds out
    seed: int = 0  # of the trial

    def __bool__(self) -> bool:
        return self.split != "fixed" or self.num_images is not None

    def subset(self, num_images: int, num_rows: int) -> str:
        """Name of the images that `order` holds out, as in the tables."""
        names = {"by_seed": f"seed {self.seed}", "k_fold": f"fold {self.fold(num_images, num_rows)}"}
        name = names.get(self.split, "fixed")
        return name if self.num_images is None else f"{name}, {num_images} images"

    def fold(self, num_images: int, num_rows: int) -> int:
        """Number of the fold, from 0; rows that remain after the last whole fold are always trained on."""
        return self.seed % (num_rows // num_images)

    def order(self, num_images: int, num_rows: int) -> np.ndarray:
        """All rows, the held-out ones first; fold 0 is the fixed split."""
        import numpy as np

        if self.split == "by_seed":
            seed = [_SPLIT_SEED, self.seed % 2**32, self.seed // 2**32]
            return np.random.RandomState(seed).permutation(num_rows)
        start = self.fold(num_images, num_rows) * num_images if self.split == "k_fold" else 0
        rows = fixed_permutation(num_rows)
        return np.concatenate([rows[start : start + num_images], rows[:start], rows[start + num_images :]])


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


def redraw(arrays: ImageArrays, rows: np.ndarray, num_val: int) -> ImageArrays:
    """The same images with the first `num_val` of `rows` held out; rows are those of the source, as in fixed_permutation."""
    import numpy as np

    place = np.argsort(fixed_permutation(len(rows)))[rows]  # where each row is in validation followed by training
    images = np.concatenate([arrays.val_images, arrays.train_images])[place]
    labels = np.concatenate([arrays.val_labels, arrays.train_labels])[place]
    return replace(
        arrays,
        val_images=images[:num_val],
        val_labels=labels[:num_val],
        train_images=images[num_val:],
        train_labels=labels[num_val:],
        moments=channel_moments(images[num_val:]),
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
