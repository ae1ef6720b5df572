"""Any labelled images in Hugging Face's Parquet layout, as its folders lie on disk.

A folder, or folders in it, have Parquet files named for their split: `train.parquet`, `data/train-00000-of-00002.parquet`,
`train/0000.parquet`. The images are in the column `img` or `image` {bytes, path}, the labels in `label`, in the only
column of whole numbers, or in the one that `label_column` names.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from flexres_tune.datasets.arrays import DataShape, ImageArrays, channel_moments, split_arrays
from flexres_tune.datasets.cache import cached_arrays, hash_file
from flexres_tune.datasets.decode import check_decoded_size, decode_images, read_image_size
from flexres_tune.datasets.table import ImageTable, open_table
from flexres_tune.errors import DataError
from flexres_tune.spec.images import ImageOptions
from flexres_tune.text import excerpt

if TYPE_CHECKING:
    import numpy as np

_VAL_SHARE = 10  # one of ten training rows is held out: 5,000 of CIFAR-10's 50,000
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
    test: _Split | None  # None with `test: none`
    class_names: tuple[str, ...]

    @property
    def splits(self) -> tuple[_Split, ...]:
        """Those that it has: training, validation, test."""
        return tuple(split for split in (self.train, self.val, self.test) if split is not None)

    @property
    def num_held_out(self) -> int:
        """Training rows that are used for validation."""
        return 0 if self.val else len(self.train) // _VAL_SHARE


def describe(path: str, options: ImageOptions) -> DataShape:
    """Shape of the images in folder `path`: from the files' footers, the labels and the first image's header."""
    folder = _open(path, options)
    size = read_image_size(folder.train.files[0], options.resize)
    num_val = len(folder.val) if folder.val else folder.num_held_out
    num_train = len(folder.train) - folder.num_held_out
    return DataShape(size, len(folder.class_names), num_train, num_val, len(folder.test) if folder.test else 0)


def read(path: str, options: ImageOptions) -> tuple[ImageArrays, tuple[str, ...]]:
    """All images of the folder `path`, decoded once per machine; 10 % of its training rows are held out.

    If the folder has a validation split, that is used instead, and all training rows are trained on.

    Raises:
        DataError: the folder does not have this layout; names file and row.
    """
    folder = _open(path, options)

    def decode() -> ImageArrays:
        size = read_image_size(folder.train.files[0], options.resize)
        check_decoded_size(path, sum(map(len, folder.splits)), size)
        train, *others = [(decode_images(each.files, size, options.resize), each.labels) for each in folder.splits]
        val = others.pop(0) if folder.val else None
        test = others.pop(0) if folder.test else (train[0][:0], train[1][:0])
        if val is None:
            return split_arrays(*train, *test, num_val=folder.num_held_out)
        return ImageArrays(*train, *val, *test, moments=channel_moments(train[0]))

    return cached_arrays(_cache_key(folder, options), decode), folder.class_names


def cache_key(path: str, options: ImageOptions) -> str:
    """Key under which the decoded images of the folder `path` are stored. Raises as read()."""
    return _cache_key(_open(path, options), options)


def _cache_key(folder: _Folder, options: ImageOptions) -> str:
    """By content: a folder that was moved is not decoded again, and one that was changed is."""
    key = "-".join(split.digest() for split in folder.splits)
    if folder.val is None and not options and all(len(split.files) == 1 for split in folder.splits):
        return f"parquet-{key}"  # as older versions named it
    described = f"{key}|{[len(split.files) for split in folder.splits]}|{options.label_column or ''}"
    if options.resize or not options.has_test:
        described += f"|{options.resize}|{options.has_test}"
    return f"parquet-{hashlib.sha256(described.encode()).hexdigest()[:40]}"


def _open(path: str, options: ImageOptions) -> _Folder:
    """The splits of a folder, whose labels agree, and the names of the classes."""
    try:
        root = Path(path).expanduser()
        found = _find_files(root)
    except (OSError, RuntimeError) as error:  # a name that is too long; ~ of a user that does not exist
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"parquet:{excerpt(path)}: must be a folder, but: {reason}; give another path") from None
    if not options.has_test:
        found["test"] = []
    needed = ("train", "test") if options.has_test else ("train",)
    if missing := [split for split in needed if not found[split]]:
        hint = "; if there are no test images, write test: none" if missing == ["test"] else ""
        raise DataError(
            f"parquet:{path}: must be a folder with {' and '.join(f'{split}.parquet' for split in needed)}, or with Hugging "
            f"Face's names for them such as data/train-00000-of-00001.parquet, but {_what_is_there(root)}; looked for "
            f"{' and '.join(f'{split}.parquet' for split in missing)} in {root.absolute()}{hint}"
        )
    for split, files in found.items():
        if len(folders := sorted({str(file.parent) for file in files})) > 1:
            raise DataError(
                f"parquet:{path}: must have the files of {split} in one folder, but {', '.join(folders[:3])} have such "
                "files; name one of these folders"
            )
    splits = {
        split: _Split(tuple(open_table(file, options.label_column) for file in files)) if files else None
        for split, files in found.items()
    }
    train, val, test = splits["train"], splits["val"], splits["test"]
    if len(train) < _VAL_SHARE or (test is not None and not len(test)):
        raise DataError(
            f"{root}: the training split must have at least {_VAL_SHARE} rows, one in {_VAL_SHARE} of which is held "
            f"out, and the test split at least 1, but they have {len(train)} and {len(test or ())}; add images"
        )
    others = {name: split for name, split in (("test", test), ("validation", val)) if split is not None}
    return _Folder(train, val, test, _class_names(train, others))


def list_files(path: str) -> list[Path]:
    """The Parquet files that `read` would read.

    Raises:
        OSError: the folder cannot be read.
    """
    return [file for files in _find_files(Path(path).expanduser()).values() for file in files]


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
    if not found and any((folder / name).is_file() for name in ("dataset_dict.json", "dataset_info.json")):
        return "it holds what save_to_disk writes; write each split by its to_parquet, or load it by code of your own"
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
