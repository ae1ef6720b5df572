"""Images in folders, one per class, as torchvision's ImageFolder reads them: `image_folder:PATH`.

PATH has the folders `train` and `test`, and perhaps `val`, with a folder per class in each; or the folders of the
classes themselves, which are then divided: a tenth of the images for testing, and as everywhere a tenth of the others
for validation. The division depends on the names of the files alone.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from flexres_tune.datasets.arrays import DataShape, ImageArrays, channel_moments, fixed_permutation, split_arrays
from flexres_tune.datasets.cache import cached_arrays
from flexres_tune.datasets.decode import check_decoded_size, decode_images, read_image_size
from flexres_tune.errors import DataError
from flexres_tune.spec.images import ImageOptions
from flexres_tune.storage import open_file
from flexres_tune.text import excerpt, join_words

if TYPE_CHECKING:
    import numpy as np

SHARE = 10  # one of ten images is held out for validation, and for testing if the folder has no `test`
_SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp"})
# images that this package does not decode: to leave them out without a word would change the data set
_OTHER_SUFFIXES = frozenset({".gif", ".tif", ".tiff", ".ppm", ".pgm", ".jp2", ".heic", ".avif", ".ico"})


@dataclass(frozen=True)
class _Files:
    """Files of images, in the order of their labels and names."""

    paths: tuple[Path, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def place(self, row: int) -> str:
        return str(self.paths[row])

    def iter_encoded(self, batch_size: int = 128) -> Iterator[list[bytes | None]]:
        for first in range(0, len(self.paths), batch_size):
            yield [_read_file(path) for path in self.paths[first : first + batch_size]]

    def take(self, rows: Sequence[int]) -> _Files:
        """The files of these rows, in their order."""
        return _Files(tuple(self.paths[row] for row in rows), tuple(self.labels[row] for row in rows))

    def label_array(self) -> np.ndarray:
        """(N,) int64."""
        import numpy as np

        return np.asarray(self.labels, np.int64)


@dataclass(frozen=True)
class _Folder:
    """An opened folder."""

    train: _Files
    val: _Files | None  # None: a tenth of the training images is held out
    test: _Files
    class_names: tuple[str, ...]
    digest: str  # of names, sizes and times of all files

    @property
    def num_held_out(self) -> int:
        """Training images that are used for validation."""
        return 0 if self.val else max(1, len(self.train) // SHARE)


def describe(path: str, options: ImageOptions) -> DataShape:
    """Shape of the images in folder `path`: from the names of files and the first image's header."""
    folder = _open(path, options)
    num_val = len(folder.val) if folder.val else folder.num_held_out
    num_train = len(folder.train) - folder.num_held_out
    size = read_image_size(folder.train, options.resize)
    return DataShape(size, len(folder.class_names), num_train, num_val, len(folder.test))


def read(path: str, options: ImageOptions) -> tuple[ImageArrays, tuple[str, ...]]:
    """All images of the folder, decoded once per machine.

    Raises:
        DataError: the folder does not have this layout, or an image cannot be decoded; names the file.
    """
    folder = _open(path, options)

    def decode() -> ImageArrays:
        size = read_image_size(folder.train, options.resize)
        splits = [split for split in (folder.train, folder.val, folder.test) if split is not None]
        check_decoded_size(f"image_folder:{path}", sum(map(len, splits)), size)
        decoded = [(decode_images([split], size, options.resize), split.label_array()) for split in splits]
        if folder.val is None:
            return split_arrays(*decoded[0], *decoded[1], num_val=folder.num_held_out)
        train, val, test = decoded
        return ImageArrays(*train, *val, *test, moments=channel_moments(train[0]))

    return cached_arrays(_key(folder, options), decode), folder.class_names


def cache_key(path: str, options: ImageOptions) -> str:
    """Key under which the decoded images of the folder are stored. Raises as read()."""
    return _key(_open(path, options), options)


def list_files(path: str) -> list[Path]:
    """All files of images below the folder.

    Raises:
        OSError: the folder cannot be read.
    """
    return [Path(folder, name) for folder, _, names in os.walk(Path(path).expanduser()) for name in sorted(names)]


def _key(folder: _Folder, options: ImageOptions) -> str:
    text = f"{folder.digest}|{options.resize}|{options.has_test}"
    return f"image-folder-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def _open(path: str, options: ImageOptions) -> _Folder:
    try:
        root = Path(path).expanduser()
        if root.is_dir():
            return _open_folder(root, options)
        reason = "it is a file" if root.is_file() else f"there is no such folder: {root.absolute()}"
    except (OSError, RuntimeError) as error:  # a name that is too long; ~ of a user that does not exist
        reason = error.strerror if isinstance(error, OSError) else str(error)
    raise DataError(
        f"image_folder:{excerpt(path)}: must be a folder with a folder per class, but {reason}; give another path"
    )


def _open_folder(root: Path, options: ImageOptions) -> _Folder:
    found = {split: _named(root, names) for split, names in _SPLITS.items()}
    if found["train"] is not None and _subfolders(found["train"]):
        return _open_splits(root, found, options)
    classes = _class_folders(root)
    files = _list_images(root, classes)
    _check_classes(root, files, classes)
    if len(files) < 2 * SHARE:
        raise DataError(
            f"{root}: must have at least {2 * SHARE} images, to be divided, but has {len(files)}; add images"
        )
    order = fixed_permutation(len(files))
    num_test = len(files) // SHARE if options.has_test else 0
    # sorted: the rows of a split are in the order of their names, as those of a folder `train` are
    test, train = sorted(order[:num_test].tolist()), sorted(order[num_test:].tolist())
    return _Folder(files.take(train), None, files.take(test), classes, _digest(root, files))


def _open_splits(root: Path, found: dict[str, Path | None], options: ImageOptions) -> _Folder:
    if not options.has_test:
        found = {**found, "test": None}
    elif found["test"] is None:
        raise DataError(
            f"image_folder:{root}: must have a folder test beside {found['train'].name}, but has "
            f"{join_words([path.name for path in _subfolders(root)], 'and')}; add it, or write test: none"
        )
    classes = _class_folders(found["train"])
    splits: dict[str, _Files] = {}
    for split, folder in found.items():
        if folder is None:
            continue
        if strange := sorted({path.name for path in _subfolders(folder)} - set(classes)):
            raise DataError(
                f"{folder}: must have the classes of {found['train'].name}, but also has {', '.join(strange[:3])}; remove "
                "it there, or add the class to the training images"
            )
        splits[split] = _list_images(folder, classes)
    _check_classes(found["train"], splits["train"], classes)
    for split, files in splits.items():
        if len(files) < (SHARE if split == "train" else 1):
            raise DataError(
                f"{found[split]}: must have at least {SHARE if split == 'train' else 1} images, but has {len(files)}; add "
                "images"
            )
    digest = "-".join(_digest(root, files) for files in splits.values())
    return _Folder(splits["train"], splits.get("val"), splits.get("test", _Files((), ())), classes, digest)


def _named(root: Path, names: Sequence[str]) -> Path | None:
    matching = [path for path in _subfolders(root) if path.name.lower() in names]
    if len(matching) > 1:
        raise DataError(
            f"{root}: must have one folder of a split, but has {join_words([p.name for p in matching], 'and')}"
        )
    return matching[0] if matching else None


def _subfolders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _class_folders(folder: Path) -> tuple[str, ...]:
    """Names of the classes, sorted as torchvision sorts them."""
    names = tuple(path.name for path in _subfolders(folder))
    if len(names) < 2:
        raise DataError(
            f"{folder}: must have a folder per class, at least two, but has {', '.join(names) or 'none'}; a split has its "
            "classes below train, val and test"
        )
    return names


def _list_images(folder: Path, classes: Sequence[str]) -> _Files:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        found = _images_below(folder / name)
        paths += found
        labels += [label] * len(found)
    return _Files(tuple(paths), tuple(labels))


def _check_classes(folder: Path, files: _Files, classes: Sequence[str]) -> None:
    if missing := sorted(set(range(len(classes))) - set(files.labels)):
        raise DataError(
            f"{folder / classes[missing[0]]}: must have images, because a folder here is a class, but has none "
            f"({', '.join(sorted(_SUFFIXES))}); add some, or remove the folder"
        )


def _images_below(folder: Path) -> list[Path]:
    found: list[Path] = []
    seen: set[str] = set()  # a link to a folder above would never end
    for where, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(where)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        for name in sorted(names):
            suffix = os.path.splitext(name)[1].lower()
            if name.startswith("."):
                continue
            if suffix in _OTHER_SUFFIXES:
                raise DataError(
                    f"{Path(where, name)}: images must be {', '.join(sorted(_SUFFIXES))} files, but this is {suffix}; "
                    "convert or remove it"
                )
            if suffix in _SUFFIXES:
                found.append(Path(where, name))
    return found


def _digest(root: Path, files: _Files) -> str:
    """Of names, sizes and times: to read all images in every process of a trial would take too long."""
    total = hashlib.sha256()
    for path, label in zip(files.paths, files.labels, strict=True):
        state = path.stat()
        total.update(f"{os.path.relpath(path, root)}|{label}|{state.st_size}|{state.st_mtime_ns}\n".encode())
    return total.hexdigest()


def _read_file(path: Path) -> bytes:
    try:
        with open_file(path) as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{path}: must be a readable file, but is not: {error.strerror or error}") from None
