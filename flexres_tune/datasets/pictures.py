"""Single images of a data set by their numbers, if this machine has decoded it: for reports. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from flexres_tune.datasets.arrays import fixed_permutation
from flexres_tune.datasets.cache import stored_arrays
from flexres_tune.datasets.sources import stored_key
from flexres_tune.errors import FlexResError

if TYPE_CHECKING:
    import numpy as np


def stored_images(dataset: str, split: str, numbers: Sequence[int]) -> dict[int, np.ndarray]:
    """The images (3, H, W) uint8 of these numbers, see LabelRecord.image; {} if the data set is not stored here.

    Nothing is downloaded or decoded, and no code of others runs: a report may be written on any machine.
    """
    import numpy as np

    try:
        key = stored_key(str(dataset))
        arrays = None if key is None else stored_arrays(key)
    except (FlexResError, OSError):
        return {}
    if arrays is None:
        return {}
    if split == "test":
        return {number: arrays.test_images[number] for number in numbers if 0 <= number < len(arrays.test_images)}
    num_val = len(arrays.val_images)
    places = np.argsort(fixed_permutation(num_val + len(arrays.train_images)))
    found = {}
    for number in numbers:
        if 0 <= number < len(places):
            place = int(places[number])
            found[number] = arrays.val_images[place] if place < num_val else arrays.train_images[place - num_val]
    return found
