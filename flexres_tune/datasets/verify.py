"""Whether the images of a data set are whole, found out before any trial starts. Imports no torch, except where
CIFAR-10 has to be unpacked."""

from __future__ import annotations

import logging
from pathlib import Path

from flexres_tune.datasets.cache import forget, is_damaged
from flexres_tune.datasets.sources import find_source

log = logging.getLogger(__name__)


def verify_dataset(dataset: str) -> None:
    """Read all images once, as the first trial would.

    CIFAR-10's files are held against torchvision's MD5 sums before they are unpacked, and every image of a Parquet
    folder is decoded. What came of it is cached under the content it was made from, for the trials; from then on the
    cache's own sums are compared, and an entry that is damaged is made anew. 184 MB take a fraction of a second.

    Raises:
        DataError: what is missing or damaged, with file and row.
    """
    source, path = find_source(dataset)
    arrays, _ = source.read(path)
    file = getattr(arrays.train_images, "filename", None)  # of a memory map; None where nothing could be cached
    if file is not None and is_damaged(entry := Path(file).parent):
        log.warning("%s: is damaged; it is made anew", entry)
        del arrays
        forget(entry)
        source.read(path)
