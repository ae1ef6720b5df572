"""Paths: a folder on this machine (pathlib.Path) or on object storage (RemotePath), made from text and read the same way.

Both have the methods that results need (`/`, exists, is_dir, stat, mkdir, read_bytes, read_text, write_bytes, unlink,
rename). The functions here cover what differs, so that only this room asks which of the two a path is.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeGuard
from urllib.parse import parse_qsl

from flexres_tune.errors import ResultsError
from flexres_tune.storage.filesystem import credentials_advice
from flexres_tune.storage.object_store import RemotePath, Stat, too_large
from flexres_tune.text import excerpt

if TYPE_CHECKING:
    import pyarrow as pa

AnyPath = Path | RemotePath

MAX_NAME_BYTES = 255  # of a file or folder, on every usual file system
MAX_PATH_CHARACTERS = 3000  # Linux allows 4,096 bytes; the rest is for the names of our own files

# What may follow the `?` of an address: how to reach the server. No credentials: addresses are printed and saved.
SETTINGS = {
    "s3": ("endpoint_override", "scheme", "region", "anonymous"),
    "gs": ("endpoint_override", "scheme", "anonymous"),
}
_KINDS = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFLNK: "a link"}
MAX_RECORD_BYTES = 64 * 2**20  # of a file in JSON; in plan.json a trial takes 130
_OTHER_KINDS = ("abfs", "abfss", "az", "azure", "gcs", "hdfs", "http", "https", "ftp", "sftp", "file", "s3a", "s3n")
_RULE = "must be a folder, s3://BUCKET/FOLDER or gs://BUCKET/FOLDER"


def is_remote(path: AnyPath) -> TypeGuard[RemotePath]:
    """Whether a path is on object storage, where each look is a request that takes time and is paid for."""
    return isinstance(path, RemotePath)


def list_folder(folder: AnyPath) -> dict[str, Stat | None]:
    """Names in a folder, each with the size and time of the file, or None for a folder.

    Raises:
        OSError: the folder does not exist or cannot be read.
    """
    if isinstance(folder, RemotePath):
        return folder.list_folder()
    found: dict[str, Stat | None] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            found[entry.name] = None if entry.is_dir() else Stat(0, 0)
            with contextlib.suppress(FileNotFoundError):  # deleted since it was listed
                if found[entry.name] is not None:
                    status = entry.stat()
                    found[entry.name] = Stat(status.st_size, status.st_mtime_ns)
    return found


def change_marker(path: AnyPath) -> object:
    """A value that changes when the file is written, or when names are added to the folder or removed from it.

    Raises:
        OSError: the path does not exist or cannot be read.
    """
    time_ns = path.stat().st_mtime_ns
    return sorted(list_folder(path)) if is_remote(path) and not time_ns else time_ns


def open_file(path: Path, flags: int = os.O_RDONLY, mode: str = "rb") -> BinaryIO:
    """Open a regular file. Anything else with its name is refused at once, and never waited for.

    A results folder may come from a stranger: opening a named pipe would wait forever, and a device has no end.

    Raises:
        OSError: the path does not exist, cannot be opened, or is not a regular file.
    """
    try:
        handle = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY, 0o666)
    except OSError:
        if not os.path.lexists(path) or stat.S_ISREG(kind := os.lstat(path).st_mode):
            raise
    else:
        kind = os.fstat(handle).st_mode
        if stat.S_ISREG(kind):
            return os.fdopen(handle, mode)
        os.close(handle)
    found = _KINDS.get(stat.S_IFMT(kind), "a device")
    raise OSError(errno.EINVAL, f"must be a regular file, but is {found}; move it away", str(path))


def read_file(path: AnyPath, max_bytes: int = MAX_RECORD_BYTES) -> bytes:
    """The content of a regular file or an object that has at most `max_bytes`.

    Raises:
        OSError: it does not exist, is larger, cannot be read, or the server does not answer (a StorageError).
    """
    if isinstance(path, RemotePath):
        return path.read_bytes(max_bytes)
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > max_bytes:
            raise too_large(path, size, max_bytes)
        return file.read(size)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text that somebody else may have written.

    Raises:
        ValueError: it is not JSON, or is nested too deep.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("lists and mappings are nested too deep") from None


def open_for_arrow(path: AnyPath) -> BinaryIO | pa.BufferReader:
    """What pyarrow reads: the opened file, or the whole content of an object, fetched in one request.

    Raises:
        OSError: as open_file(); or an object that does not exist, or a server that does not answer.
    """
    if not isinstance(path, RemotePath):
        return open_file(path)
    import pyarrow as pa

    return pa.BufferReader(path.read_bytes())


def make_path(text: AnyPath | str) -> AnyPath:
    """The path that a folder's name or an address names. Opens nothing and sends no request.

    Raises:
        ResultsError: an address of a kind that is not supported, an incomplete one, or a name that no folder can have.
    """
    if isinstance(text, Path | RemotePath):
        return text
    kind, colon, rest = text.partition(":")
    if not colon or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]+", kind):
        return _parse_local(text)
    if kind not in SETTINGS:
        if kind.lower() in (*_OTHER_KINDS, *SETTINGS) or rest.startswith("//"):
            raise ResultsError(f"{text}: {_RULE}, but is an address of kind {kind}:; {_remedy(kind.lower())}")
        return _parse_local(text)
    return _parse_address(text, kind, rest)


def _parse_local(text: str) -> Path:
    path = Path(text)
    longest = max((len(os.fsencode(name)) for name in path.parts), default=0)
    if longest > MAX_NAME_BYTES or len(text) > MAX_PATH_CHARACTERS:
        raise ResultsError(
            f"{excerpt(text)}: a path must have at most {MAX_PATH_CHARACTERS} characters and {MAX_NAME_BYTES} bytes "
            f"between two slashes, but has {len(text)} and {longest}; give a shorter one"
        )
    return path


def _parse_address(text: str, kind: str, rest: str) -> RemotePath:
    location, _, query = rest.partition("?")
    segments = [segment for segment in location.split("/") if segment]
    if not location.startswith("//") or not segments or location.startswith("///"):
        raise ResultsError(f"{text}: {_RULE}, but names no bucket after two slashes; give {kind}://BUCKET/FOLDER")
    if "@" in segments[0]:
        raise ResultsError(
            f"{kind}://...@{segments[0].rpartition('@')[2]}: must contain no credentials, because addresses are "
            f"printed and saved in plan.json, but has text before the @; {credentials_advice(kind)}"
        )
    if {".", ".."} & set(segments):
        raise ResultsError(f"{text}: must not contain . or .. because object storage has no parent folders; remove it")
    settings = parse_qsl(query, keep_blank_values=True)
    if unknown := [name for name, value in settings if name not in SETTINGS[kind] or not value]:
        raise ResultsError(
            f"{kind}:{location}: the settings after the ? must be among {', '.join(SETTINGS[kind])}, each with =VALUE, "
            f"but got {unknown[0]!r}; {credentials_advice(kind)}"
        )
    if "@" in dict(settings).get("endpoint_override", ""):
        raise ResultsError(
            f"{kind}:{location}: endpoint_override must be HOST:PORT without credentials, because addresses are printed "
            f"and saved in plan.json, but has text before the @; {credentials_advice(kind)}"
        )
    return RemotePath(kind, "/".join(segments), query)


def _remedy(kind: str) -> str:
    return {
        "s3": "write it in lower case",
        "gs": "write it in lower case",
        "s3a": "write s3://",
        "s3n": "write s3://",
        "gcs": "write gs://",
        "file": "remove file://",
    }.get(kind, "use one of those and copy the results from there later")
