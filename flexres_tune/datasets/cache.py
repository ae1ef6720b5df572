"""Decoded images on disk: read once a machine, then mapped into memory by every process of the node.

A cache entry is a folder of .npy files, named by the content it was made from, written aside and renamed. The
files are mapped copy-on-write, so trials share the system's page cache and start without decoding again
(tests/datasets/test_sharing.py). A cache that cannot be written costs time, never a trial.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from flexres_tune.datasets.arrays import ImageArrays

_SUMS = "sums.json"  # SHA-256 of each file: noise inside a page would otherwise be trained on
_FORMAT = 1  # raised when what an entry holds changes: other numbers are left unread
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataPaths:
    """Where downloaded and decoded images are kept."""

    root: Path

    @classmethod
    def from_environment(cls) -> DataPaths:
        """$FLEXRES_TUNE_DATA, else flexres_tune in $XDG_CACHE_HOME or ~/.cache."""
        if root := os.environ.get("FLEXRES_TUNE_DATA"):
            return cls(Path(root).expanduser())
        cache = os.environ.get("XDG_CACHE_HOME")
        return cls((Path(cache) if cache else Path.home() / ".cache") / "flexres_tune")

    @property
    def arrays(self) -> Path:
        """Folder of decoded data sets."""
        return self.root / "arrays"

    def entry(self, key: str) -> Path:
        """Folder of one decoded data set."""
        return self.arrays / f"{key}-v{_FORMAT}"

    def lock(self, name: str) -> Path:
        """File whose lock one process holds while it downloads or decodes."""
        return self.root / f"{name}.lock"


def cached_arrays(key: str, make: Callable[[], ImageArrays]) -> ImageArrays:
    """The arrays stored under `key`, or `make()`, stored for the next process."""
    paths = DataPaths.from_environment()
    if (found := _read(paths.entry(key))) is not None:
        return found
    with lock_if_possible(paths.lock(key)):
        if (found := _read(paths.entry(key))) is not None:  # another process made it while this one waited
            return found
        arrays = make()
        try:
            _write(paths.entry(key), arrays)
        except OSError as error:
            _log.warning("cannot keep decoded images in %s (%s): each process decodes them again", paths.arrays, error)
            return arrays
        mapped = _read(paths.entry(key))  # so that this process, too, shares the node's pages
        if mapped is None:
            return arrays
        del arrays
        _give_back_memory()
        return mapped


def is_damaged(entry: Path) -> bool:
    """Whether a file of an entry is not what was written; of an entry from before sums were kept this is not known."""
    try:
        sums = json.loads((entry / _SUMS).read_bytes())
        return any(hash_file(entry / name) != digest for name, digest in sums.items())
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError):
        return True


def forget(entry: Path) -> None:
    """Remove an entry; what reads it next makes it anew."""
    with lock_if_possible(entry.parent.parent / f"{entry.name.rpartition('-v')[0]}.lock"):
        shutil.rmtree(entry, ignore_errors=True)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def lock_if_possible(path: Path) -> Iterator[None]:
    """Hold the lock `path`; go on without it where the folder cannot be written."""
    from filelock import FileLock

    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):  # read-only folder, or a file system without locks
        yield
        return
    try:
        yield
    finally:
        lock.release()


def _give_back_memory() -> None:
    """Freed memory to the system: a trial's allocator is told to keep what it has (raytune/environment.py), and a
    decoded CIFAR-10 leaves 440 MB.
    """
    with contextlib.suppress(OSError, AttributeError):  # a C library without it
        ctypes.CDLL(None).malloc_trim(0)


def _read(entry: Path) -> ImageArrays | None:
    """The entry's arrays; None where it is absent, cut short or not of this form."""
    import numpy as np

    names = [field.name for field in dataclasses.fields(ImageArrays)]
    try:
        arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in names}
    except (OSError, ValueError, EOFError):
        return None
    return ImageArrays(**arrays)


def _write(entry: Path, arrays: ImageArrays) -> None:
    import numpy as np

    entry.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent))
    try:
        for field in dataclasses.fields(arrays):
            np.save(aside / f"{field.name}.npy", getattr(arrays, field.name), allow_pickle=False)
        sums = {file.name: hash_file(file) for file in sorted(aside.glob("*.npy"))}
        (aside / _SUMS).write_text(json.dumps(sums))
        aside.chmod(0o755)  # mkdtemp's folders are closed to others, with whom the cache may be shared
        if _read(entry) is not None:  # without locks, another node was first; processes may have its files mapped
            shutil.rmtree(aside)
            return
        if entry.exists():  # damaged
            shutil.rmtree(entry)
        os.rename(aside, entry)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
