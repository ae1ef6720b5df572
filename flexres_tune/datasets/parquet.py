"""Any labelled square images in Hugging Face's Parquet layout: `img` or `image` {bytes, path}, integer `label`."""

from __future__ import annotations

from pathlib import Path

from flexres_tune.datasets.arrays import DataShape, ImageArrays, split_arrays
from flexres_tune.datasets.cache import cached_arrays, hash_file
from flexres_tune.datasets.decode import decode_images, read_image_size
from flexres_tune.datasets.table import ImageTable, open_table
from flexres_tune.errors import DataError
from flexres_tune.text import excerpt

_VAL_SHARE = 10  # one of ten training rows is held out: 5,000 of CIFAR-10's 50,000
MAX_DECODED_BYTES = 16 * 2**30


def describe(path: str) -> DataShape:
    """Shape of the images in folder `path`: from the files' footers, the labels and the first image's header."""
    train, test, class_names = _open(path)
    size = read_image_size(train)
    num_val = len(train) // _VAL_SHARE
    return DataShape(size, len(class_names), len(train) - num_val, num_val, len(test))


def read(path: str) -> tuple[ImageArrays, tuple[str, ...]]:
    """All images of the folder `path`, decoded once per machine; 10 % of its training rows are held out.

    Raises:
        DataError: the folder does not have this layout; names file and row.
    """
    train, test, class_names = _open(path)

    def decode() -> ImageArrays:
        size = read_image_size(train)
        num_bytes = (len(train) + len(test)) * 3 * size * size
        if num_bytes > MAX_DECODED_BYTES:
            raise DataError(
                f"{path}: decoded images must fit in {MAX_DECODED_BYTES / 2**30:.0f} GiB, but "
                f"{len(train) + len(test):,} of {size}x{size} need {num_bytes / 2**30:.0f} GiB; use fewer or smaller"
            )
        return split_arrays(
            decode_images(train, size),
            train.labels,
            decode_images(test, size),
            test.labels,
            num_val=len(train) // _VAL_SHARE,
        )

    # by content: a folder that was moved is not decoded again, and one that was changed is
    key = f"parquet-{hash_file(train.path)[:20]}-{hash_file(test.path)[:20]}"
    return cached_arrays(key, decode), class_names


def _open(path: str) -> tuple[ImageTable, ImageTable, tuple[str, ...]]:
    """The tables of training and test, whose labels agree, and the names of the classes."""
    try:
        folder = Path(path).expanduser()
        files = [folder / "train.parquet", folder / "test.parquet"]
        missing = [file.name for file in files if not file.is_file()]
    except (OSError, RuntimeError) as error:  # a name that is too long; ~ of a user that does not exist
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"parquet:{excerpt(path)}: must be a folder, but: {reason}; give another path") from None
    if missing:
        raise DataError(
            f"parquet:{path}: must be a folder with train.parquet and test.parquet, but {_what_is_there(folder)}; "
            f"looked for {' and '.join(missing)} in {folder.absolute()}"
        )
    train, test = map(open_table, files)
    if len(train) < _VAL_SHARE or not len(test):
        raise DataError(
            f"{folder}: train.parquet must have at least {_VAL_SHARE} rows, one in {_VAL_SHARE} of which is held "
            f"out, and test.parquet at least 1, but they have {len(train)} and {len(test)}; add images"
        )
    return train, test, _class_names(train, test)


def _what_is_there(folder: Path) -> str:
    if folder.is_file():
        return "it is a file"
    if not folder.is_dir():
        return "there is no such folder"
    found = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.parquet"))[:5]
    return f"it holds {', '.join(found)}" if found else "it holds no Parquet file"


def _class_names(train: ImageTable, test: ImageTable) -> tuple[str, ...]:
    """Names of classes 0 to K-1. Checks that labels are from 0 to K-1, and that both splits have the same classes."""
    import numpy as np

    classes = np.unique(train.labels)
    if len(classes) < 2:
        raise DataError(
            f"{train.path}: must have at least two classes, but all {len(train)} rows have label {classes[0]}"
        )
    names = train.class_names
    if names is None:
        if classes[-1] != len(classes) - 1:
            gap = next(i for i, c in enumerate(classes) if c != i)
            row = int(np.argmax(train.labels == classes[gap]))
            raise DataError(
                f"{train.path}: row {row}: labels must be 0 to K-1 without a gap, but no row has {gap} and this "
                f"one has {classes[gap]}; renumber the classes, or name all of them in the schema's metadata"
            )
        names = tuple(map(str, range(len(classes))))
    for table in (train, test):
        if (table.labels >= len(names)).any():
            row = int(np.argmax(table.labels >= len(names)))
            raise DataError(
                f"{table.path}: row {row}: label must be below the number of classes, {len(names)} in "
                f"{train.path.name}, but is {table.labels[row]}; the files do not belong together, or a label is wrong"
            )
    if (strange := ~np.isin(test.labels, classes)).any():
        row = int(np.argmax(strange))
        raise DataError(
            f"{test.path}: row {row}: the test split must have the training split's classes, but label "
            f"{test.labels[row]} is in no row of {train.path.name}"
        )
    return names
