"""Checks that the images of a data set are complete, before any trial starts.

Imports no torch, unless files of torchvision have to be unpacked.
"""

from __future__ import annotations

import logging
from pathlib import Path

from flexres_tune.datasets.cache import is_damaged, remove_entry
from flexres_tune.datasets.sources import read_images

log = logging.getLogger(__name__)


def verify_dataset(dataset: str) -> None:
    """Read all images once, as the first trial would.

    Files of torchvision are compared with its MD5 sums before they are unpacked, and every image of a folder is decoded. The result is cached for the trials. If it was cached before, the cache's own sums are compared,
    and a damaged entry is made again. 184 MB take a fraction of a second.

    Raises:
        DataError: an image is missing or damaged; names file and row.
    """
    arrays, _ = read_images(dataset)
    file = getattr(arrays.train_images, "filename", None)  # of the memory map; None if nothing could be cached
    if file is not None and is_damaged(entry := Path(file).parent):
        log.warning("%s: is damaged; it is made again", entry)
        del arrays
        remove_entry(entry)
        read_images(dataset)
