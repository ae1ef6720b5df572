"""Any labelled square images in Hugging Face's Parquet layout, as its folders lie on disk.

A folder, or folders in it, have Parquet files named for their split: `train.parquet`, `data/train-00000-of-00002.parquet`,
`train/0000.parquet`. The images are in the column `img` or `image` {bytes, path}, the labels in `label`, in the only
column of whole numbers, or in the one that `parquet:PATH?label_column=NAME` names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flexres_tune.datasets.arrays import DataShape, ImageArrays, channel_moments, split_arrays
from flexres_tune.datasets.cache import cached_arrays, hash_file
from flexres_tune.datasets.decode import decode_images, read_image_size
from flexres_tune.datasets.table import ImageTable, open_table
from flexres_tune.errors import DataError
from flexres_tune.text import excerpt

if TYPE_CHECKING:
    import numpy as np

_VAL_SHARE = 10  # one of ten training rows is held out: 5,000 of CIFAR-10's 50,000
MAX_DECODED_BYTES = 16 * 2**30
_LABEL_COLUMN = re.compile(r"(?P<folder>.+)\?label_column=(?P<column>[^?]+)")
# the names of splits that Hugging Face's loader knows, at the beginning of a file's or folder's name
_SPLITS = {
    "train": re.compile(r"train(ing)?([-_.].*)?$", re.IGNORECASE),
    "val": re.compile(r"(validation|valid|val|dev)([-_.].*)?$", re.IGNORECASE),
    "test": re.compile(r"(test(ing)?|eval(uation)?)([-_.].*)?$", re.IGNORECASE),
}


@dataclass(frozen=True)
class _Split:
    """The files of one split, in the order of their names."""

    files: tuple[ImageTable, ...]

    def __len__(self) -> int:
        return sum(map(len, self.files))

    @cached_property
    def labels(self) -> np.ndarray:
        """(N,) int64, of all files."""
        import numpy as np

        return np.concatenate([file.labels for file in self.files])

    def place(self, row: int) -> str:
        """`folder/train-00001.parquet: row 7`: the file of a row of the split, and its row there."""
        for file in self.files:
            if row < len(file):
                return f"{file.path}: row {row}"
            row -= len(file)
        raise IndexError(row)

    def digest(self) -> str:
        """Of the content of all files."""
        return "-".join(hash_file(file.path)[:20] for file in self.files)


@dataclass(frozen=True)
class _Folder:
    """An opened folder."""

    train: _Split
    val: _Split | None  # None: a tenth of the training rows is held out
    test: _Split
    class_names: tuple[str, ...]

    @property
    def num_held_out(self) -> int:
        """Training rows that are used for validation."""
        return 0 if self.val else len(self.train) // _VAL_SHARE


def describe(path: str) -> DataShape:
    """Shape of the images in folder `path`: from the files' footers, the labels and the first image's header."""
    folder = _open(path)
    size = read_image_size(folder.train.files[0])
    num_val = len(folder.val) if folder.val else folder.num_held_out
    num_train = len(folder.train) - folder.num_held_out
    return DataShape(size, len(folder.class_names), num_train, num_val, len(folder.test))


def read(path: str) -> tuple[ImageArrays, tuple[str, ...]]:
    """All images of the folder `path`, decoded once per machine; 10 % of its training rows are held out.

    If the folder has a validation split, that is used instead, and all training rows are trained on.

    Raises:
        DataError: the folder does not have this layout; names file and row.
    """
    folder = _open(path)
    splits = [split for split in (folder.train, folder.val, folder.test) if split]

    def decode() -> ImageArrays:
        size = read_image_size(folder.train.files[0])
        num_images = sum(map(len, splits))
        num_bytes = num_images * 3 * size * size
        if num_bytes > MAX_DECODED_BYTES:
            raise DataError(
                f"{path}: decoded images must fit in {MAX_DECODED_BYTES / 2**30:.0f} GiB, but "
                f"{num_images:,} of {size}x{size} need {num_bytes / 2**30:.0f} GiB; use fewer or smaller"
            )
        decoded = [(decode_images(split.files, size), split.labels) for split in splits]
        if folder.val is None:
            return split_arrays(*decoded[0], *decoded[1], num_val=folder.num_held_out)
        train, val, test = decoded
        return ImageArrays(*train, *val, *test, moments=channel_moments(train[0]))

    return cached_arrays(_cache_key(path, folder, splits), decode), folder.class_names


def cache_key(path: str) -> str:
    """Key under which the decoded images of the folder `path` are stored. Raises as read()."""
    folder = _open(path)
    return _cache_key(path, folder, [split for split in (folder.train, folder.val, folder.test) if split])


def _cache_key(path: str, folder: _Folder, splits: Sequence[_Split]) -> str:
    """By content: a folder that was moved is not decoded again, and one that was changed is."""
    key = "-".join(split.digest() for split in splits)
    column = _LABEL_COLUMN.fullmatch(path)
    if folder.val is None and not column and all(len(split.files) == 1 for split in splits):
        return f"parquet-{key}"  # as older versions named it
    described = f"{key}|{[len(split.files) for split in splits]}|{column['column'] if column else ''}"
    return f"parquet-{hashlib.sha256(described.encode()).hexdigest()[:40]}"


def _open(path: str) -> _Folder:
    """The splits of a folder, whose labels agree, and the names of the classes."""
    match = _LABEL_COLUMN.fullmatch(path)
    name, label_column = (match["folder"], match["column"]) if match else (path, None)
    try:
        root = Path(name).expanduser()
        found = _find_files(root)
    except (OSError, RuntimeError) as error:  # a name that is too long; ~ of a user that does not exist
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"parquet:{excerpt(path)}: must be a folder, but: {reason}; give another path") from None
    if missing := [split for split in ("train", "test") if not found[split]]:
        raise DataError(
            f"parquet:{path}: must be a folder with train.parquet and test.parquet, or with Hugging Face's names for them "
            f"such as data/train-00000-of-00001.parquet, but {_what_is_there(root)}; looked for "
            f"{' and '.join(f'{split}.parquet' for split in missing)} in {root.absolute()}"
        )
    for split, files in found.items():
        if len(folders := sorted({str(file.parent) for file in files})) > 1:
            raise DataError(
                f"parquet:{path}: must have the files of {split} in one folder, but {', '.join(folders[:3])} have such "
                "files; name one of these folders"
            )
    splits = {split: _Split(tuple(open_table(file, label_column) for file in files)) for split, files in found.items()}
    train, test = splits["train"], splits["test"]
    val = splits["val"] if found["val"] else None
    if len(train) < _VAL_SHARE or not len(test):
        raise DataError(
            f"{root}: the training split must have at least {_VAL_SHARE} rows, one in {_VAL_SHARE} of which is held "
            f"out, and the test split at least 1, but they have {len(train)} and {len(test)}; add images"
        )
    others = {"test": test} | ({"validation": val} if val else {})
    return _Folder(train, val, test, _class_names(train, others))


def list_files(path: str) -> list[Path]:
    """The Parquet files that `read` would read.

    Raises:
        OSError: the folder cannot be read.
    """
    match = _LABEL_COLUMN.fullmatch(path)
    found = _find_files(Path(match["folder"] if match else path).expanduser())
    return [file for files in found.values() for file in files]


def _find_files(root: Path) -> dict[str, list[Path]]:
    """Parquet files by split. A file is named for its split, or else the folder is that it lies in."""
    found: dict[str, list[Path]] = {split: [] for split in _SPLITS}
    files = sorted(file for file in root.rglob("*.parquet") if file.is_file())
    for file in files:
        for name in (file.name, file.parent.name if file.parent != root else ""):
            split = next((split for split, pattern in _SPLITS.items() if pattern.match(name)), None)
            if split is not None:
                found[split].append(file)
                break
    return found


def _what_is_there(folder: Path) -> str:
    if folder.is_file():
        return "it is a file"
    if not folder.is_dir():
        return "there is no such folder"
    found = sorted(str(file.relative_to(folder)) for file in folder.rglob("*.parquet"))[:5]
    return f"it holds {', '.join(found)}" if found else "it holds no Parquet file"


def _class_names(train: _Split, others: Mapping[str, _Split]) -> tuple[str, ...]:
    """Names of classes 0 to K-1. Checks that labels are from 0 to K-1, and that all splits have the same classes."""
    import numpy as np

    classes = np.unique(train.labels)
    if len(classes) < 2:
        raise DataError(
            f"{train.files[0].path}: must have at least two classes, but all {len(train)} rows have label {classes[0]}"
        )
    names = train.files[0].class_names
    if names is None:
        if classes[-1] != len(classes) - 1:
            gap = next(i for i, c in enumerate(classes) if c != i)
            row = int(np.argmax(train.labels == classes[gap]))
            raise DataError(
                f"{train.place(row)}: labels must be 0 to K-1 without a gap, but no row has {gap} and this "
                f"one has {classes[gap]}; renumber the classes, or name all of them in the schema's metadata"
            )
        names = tuple(map(str, range(len(classes))))
    for name, split in {"training": train, **others}.items():
        if (split.labels >= len(names)).any():
            row = int(np.argmax(split.labels >= len(names)))
            raise DataError(
                f"{split.place(row)}: label must be below the number of classes, {len(names)} in "
                f"{train.files[0].path.name}, but is {split.labels[row]}; the files do not belong together, or a label "
                "is wrong"
            )
        if (strange := ~np.isin(split.labels, classes)).any():
            row = int(np.argmax(strange))
            raise DataError(
                f"{split.place(row)}: the {name} split must have the training split's classes, but label "
                f"{split.labels[row]} is in no row of {train.files[0].path.name}"
            )
    return names
