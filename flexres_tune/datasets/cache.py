"""Cache of decoded images on disk: decoded once per machine, then mapped into memory by every process.

An entry is a folder of .npy files, named by the content that it was made from. It is written to a temporary folder and
renamed. The files are mapped copy-on-write, so trials share the system's page cache and start without decoding
(tests/datasets/test_sharing.py). A cache that cannot be written costs time, but no trial fails.
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
from flexres_tune.storage import open_file, parse_json, read_file

_SUMS = "sums.json"  # SHA-256 of each file: without it, a damaged page would be trained on as noise
_FORMAT = 1  # of an entry; entries of another format are not read
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DataPaths:
    """Where downloaded and decoded images are stored."""

    root: Path

    @classmethod
    def from_environment(cls) -> DataPaths:
        """$FLEXRES_TUNE_DATA, or else flexres_tune in $XDG_CACHE_HOME or ~/.cache."""
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
        """Lock file that one process holds while it downloads or decodes."""
        return self.root / f"{name}.lock"


def cached_arrays(key: str, make: Callable[[], ImageArrays]) -> ImageArrays:
    """The arrays stored under `key`; if there are none, those of make(), which are stored for the next process."""
    paths = DataPaths.from_environment()
    if (found := _read(paths.entry(key))) is not None:
        return found
    with lock_if_possible(paths.lock(key)):
        if (found := _read(paths.entry(key))) is not None:  # another process stored it while this one waited
            return found
        arrays = make()
        try:
            write_entry(paths.entry(key), arrays)
        except OSError as error:
            _log.warning("cannot store decoded images in %s (%s): each process decodes them again", paths.arrays, error)
            return arrays
        mapped = _read(paths.entry(key))  # so that this process shares the pages too
        if mapped is None:
            return arrays
        del arrays
        _release_memory()
        return mapped


def stored_arrays(key: str) -> ImageArrays | None:
    """The arrays stored under `key`; None if there are none, or if they cannot be read."""
    return _read(DataPaths.from_environment().entry(key))


def is_damaged(entry: Path) -> bool:
    """Whether a file of the entry differs from what was written. An entry without sums, of an older version, passes."""
    try:
        sums = parse_json(read_file(entry / _SUMS))
        return any(hash_file(entry / name) != digest for name, digest in sums.items())
    except FileNotFoundError:
        return False
    except (OSError, ValueError, AttributeError):
        return True


def remove_entry(entry: Path) -> None:
    """Remove an entry; the next reader makes it again."""
    with lock_if_possible(entry.parent.parent / f"{entry.name.rpartition('-v')[0]}.lock"):
        shutil.rmtree(entry, ignore_errors=True)


def hash_file(path: Path) -> str:
    """SHA-256 of a file's content, in hex."""
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def lock_if_possible(path: Path) -> Iterator[None]:
    """Context that holds the lock `path`; if the folder cannot be written, it runs without the lock."""
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


def _release_memory() -> None:
    """Return freed memory to the system: 440 MB after decoding CIFAR-10.

    A trial's allocator is set to keep freed memory (PROCESS_ENVIRONMENT in cluster/connection.py).
    """
    with contextlib.suppress(OSError, AttributeError):  # the C library has no malloc_trim
        ctypes.CDLL(None).malloc_trim(0)


def _read(entry: Path) -> ImageArrays | None:
    """The entry's arrays; None if the entry is missing, truncated or not readable."""
    import numpy as np

    names = [field.name for field in dataclasses.fields(ImageArrays)]
    try:
        arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="c", allow_pickle=False) for name in names}
    except (OSError, ValueError, EOFError):
        return None
    return ImageArrays(**arrays)


def write_entry(entry: Path, arrays: ImageArrays) -> None:
    """Write an entry, unless another process has written it in the meantime.

    Raises:
        OSError: the folder cannot be written.
    """
    import numpy as np

    entry.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{entry.name}.", dir=entry.parent))
    try:
        for field in dataclasses.fields(arrays):
            np.save(temporary / f"{field.name}.npy", getattr(arrays, field.name), allow_pickle=False)
        sums = {file.name: hash_file(file) for file in sorted(temporary.glob("*.npy"))}
        (temporary / _SUMS).write_text(json.dumps(sums))
        temporary.chmod(0o755)  # mkdtemp denies other users access, but they may share the cache
        if _read(entry) is not None:  # another node was first; processes may have mapped its files
            shutil.rmtree(temporary)
            return
        if entry.exists():  # damaged
            shutil.rmtree(entry)
        os.rename(temporary, entry)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
