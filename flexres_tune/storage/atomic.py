"""A file is written aside and renamed: .NAME.HOST.PID.tmp, in the same folder, then NAME."""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flexres_tune.errors import ResultsError, StorageError
from flexres_tune.storage.object_store import AnyPath, RemotePath

TEMPORARY_SUFFIX = (
    ".tmp"  # with the leading dot: no reader of the folder (pyarrow, pandas, Spark, a glob) takes it for the file
)


def temporary_path(path: Path) -> Path:
    """Where this process writes `path`.

    The host stands in the name since containers count their processes from 1: while a link is cut, a trial and its
    next attempt elsewhere would write into one file.
    """
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}{TEMPORARY_SUFFIX}")


@contextlib.contextmanager
def atomic_write(path: AnyPath) -> Iterator[Path]:
    """Yields the temporary path to write; renames it to `path` when the block ends well, removes it otherwise.

    Readers see the old file or the new one, whole, and never a torn one, whenever the writer is killed.

    Raises:
        ResultsError: the folder or file cannot be written (disk full, read-only, a file in its place).
        StorageError: the server does not answer, or refuses.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="flexres_tune_") as folder:
            aside = Path(folder) / path.name
            yield aside
            path.write_bytes(aside.read_bytes())
        return
    aside = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        with open(aside, "rb+") as file:
            os.fsync(file.fileno())  # else a power cut after the rename could leave a name without content
        os.replace(aside, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise ResultsError(f"{path}: cannot be written: {describe_os_error(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            aside.unlink(missing_ok=True)


def describe_os_error(error: OSError) -> str:
    """The system's reason and the way out where there is a usual one."""
    if isinstance(error, StorageError):
        return error.reason
    reason = error.strerror or str(error) or type(error).__name__
    way_out = {
        "ENOSPC": "free some space; nothing was lost, the rows wait in memory",
        "EDQUOT": "free some of your quota; nothing was lost, the rows wait in memory",
        "EROFS": "choose a writable folder with --storage",
        "ENOENT": "choose a writable folder with --storage",
        "EACCES": "choose a writable folder with --storage",
        "ENOTDIR": "a file stands where a folder must be; move it away or choose another folder with --storage",
        "EEXIST": "a file stands where a folder must be; move it away or choose another folder with --storage",
    }.get(_name(error))
    return f"{reason}; {way_out}" if way_out else reason


def _name(error: OSError) -> str:
    import errno

    return errno.errorcode.get(error.errno or 0, "")


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; some file systems refuse to, and nothing can be done about it."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
