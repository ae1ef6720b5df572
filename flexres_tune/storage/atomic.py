"""Atomic writes: content goes to a temporary file in the same folder, which then replaces the file.

Readers see the old file or the new one, complete, whenever the writer is killed. An object of object storage is written
in one request, which gives the same guarantee without a temporary object.
"""

from __future__ import annotations

import contextlib
import os
import platform
import tempfile
from collections.abc import Iterator
from pathlib import Path

from flexres_tune.errors import StorageError, describe_os_error
from flexres_tune.storage.object_store import RemotePath
from flexres_tune.storage.paths import AnyPath

TEMPORARY_SUFFIX = ".tmp"


def temporary_path(path: Path) -> Path:
    """.NAME.HOST.PID.tmp in the folder of `path`: the leading dot hides it from pyarrow, pandas, Spark and globs.

    The host is part of the name because containers count their processes from 1: while a link is down, a trial and its
    next attempt on another node would otherwise write to the same file.
    """
    return path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}{TEMPORARY_SUFFIX}")


@contextlib.contextmanager
def atomic_write(path: AnyPath) -> Iterator[Path]:
    """Yield a temporary path to write to, which replaces `path` if the block succeeds and is removed if it fails.

    Raises:
        StorageError: the folder or file cannot be written (disk full, read-only, a file in place of a folder), or the
            server does not answer or refuses.
    """
    if isinstance(path, RemotePath):
        with tempfile.TemporaryDirectory(prefix="flexres_tune_") as folder:
            temporary = Path(folder) / path.name
            yield temporary
            path.write_bytes(temporary.read_bytes())
        return
    temporary = temporary_path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # otherwise a power cut after the rename could leave a name without content
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        reason = describe_os_error(error)
        raise StorageError(f"{path}: cannot be written: {reason}", reason) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def atomic_write_bytes(path: AnyPath, content: bytes | memoryview) -> None:
    """Write a whole file, as `atomic_write` does; an object is sent from memory."""
    if isinstance(path, RemotePath):
        return path.write_bytes(content)
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def atomic_write_text(path: AnyPath, text: str) -> None:
    """Write a whole file in UTF-8 with the line ends that `text` has, as `atomic_write` does."""
    atomic_write_bytes(path, text.encode())


def remove_temporary_files(folder: AnyPath, prefix: str = "") -> None:
    """Delete what killed processes left of files whose names begin with `prefix`; object storage has no such files.

    Nobody may be writing in the folder.
    """
    if not isinstance(folder, RemotePath):
        for temporary in folder.glob(f".{prefix}*{TEMPORARY_SUFFIX}"):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the rename durable. Some file systems refuse to sync a folder; the rename is then as durable as they are."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
