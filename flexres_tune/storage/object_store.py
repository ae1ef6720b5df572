"""RemotePath: a place on object storage, with those methods of pathlib.Path that results need.

A folder is a prefix: it is there while something lies in it. An object is written in one piece, so that a reader sees
the old one, the new one, or none; nothing needs to be renamed.
"""

from __future__ import annotations

import errno
import mimetypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from flexres_tune.errors import StorageError
from flexres_tune.storage.filesystem import connect, reason

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem


@dataclass(frozen=True)
class Stat:
    """Size in bytes and time of the last change, by the server's clock; a folder has neither."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True)
class RemotePath:
    """`kind`://`key`[?`query`]; plain values, as it crosses process borders.

    Every method that asks the server raises StorageError where it does not answer or refuses, and FileNotFoundError
    where it has no such object.
    """

    kind: str  # s3 | gs
    key: str  # bucket/folder/name
    query: str = ""  # how to reach the server, as in the address

    def __str__(self) -> str:
        return f"{self.kind}://{self.key}" + (f"?{self.query}" if self.query else "")

    def __truediv__(self, name: str) -> RemotePath:
        return replace(self, key=f"{self.key}/{name}")

    @property
    def name(self) -> str:
        return self.key.rpartition("/")[2]

    @property
    def parent(self) -> RemotePath:
        """The folder above; a bucket's is itself."""
        return replace(self, key=self.key.rpartition("/")[0] or self.key)

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def resolve(self) -> RemotePath:
        """Itself: an address means the same everywhere."""
        return self

    def exists(self) -> bool:
        return self._info().type.name != "NotFound"

    def is_dir(self) -> bool:
        return self._info().type.name == "Directory"

    def stat(self) -> Stat:
        info = self._info()
        if info.type.name == "NotFound":
            raise self._missing()
        return _stat(info)

    def listing(self) -> dict[str, Stat | None]:
        """Names in the folder, and of each object its size and time, in one request a thousand; None for a folder.

        On Google Cloud Storage everything below is listed: pyarrow shows a folder there only if an object marks it.
        """
        from pyarrow.fs import FileSelector

        with self._asking("listed"):
            infos = self._files().get_file_info(FileSelector(self.key, recursive=self.kind == "gs"))
        found: dict[str, Stat | None] = {}
        for info in infos:
            name, _, below = info.path.removeprefix(self.key).strip("/").partition("/")
            if name:
                found[name] = _stat(info) if not below and info.type.name == "File" else None
        return found

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Nothing: a folder comes with its first object."""

    def read_bytes(self) -> bytes:
        with self._asking("read"), self._files().open_input_file(self.key) as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes) -> None:
        kind = mimetypes.guess_type(self.name)[0] or "application/octet-stream"  # a browser asks for a report's
        kind += "; charset=utf-8" if kind.startswith("text/") else ""
        try:
            with (
                self._asking("written"),
                self._files().open_output_stream(self.key, metadata={"Content-Type": kind}) as file,
            ):
                file.write(content)
        except FileNotFoundError as error:
            raise self._error(OSError(f"NO_SUCH_BUCKET {error}"), "written") from error

    def write_text(self, text: str, encoding: str = "utf-8") -> None:
        self.write_bytes(text.encode(encoding))

    def touch(self) -> None:
        self.write_bytes(b"")

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with self._asking("deleted"):
                self._files().delete_file(self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rename(self, target: RemotePath) -> None:
        """Copy, then delete: killed between the two, both are there."""
        with self._asking("renamed"):
            self._files().move(self.key, target.key)

    def _info(self) -> FileInfo:
        with self._asking("looked up"):
            return self._files().get_file_info(self.key)

    def _files(self) -> FileSystem:
        return connect(self.kind, self.key.partition("/")[0], self.query)

    @contextmanager
    def _asking(self, done: str) -> Iterator[None]:
        import pyarrow as pa

        try:
            yield
        except FileNotFoundError:
            raise self._missing() from None
        except (OSError, pa.ArrowException) as error:
            if "No such file or directory" in str(error):  # GcsFileSystem's of a folder, without the type
                raise self._missing() from None
            raise self._error(error, done) from error

    def _error(self, error: Exception, done: str) -> StorageError:
        why = reason(error, self.kind, self.key.partition("/")[0], self.query)
        return StorageError(f"{self}: cannot be {done}: {why}", why)

    def _missing(self) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, "no such object", str(self))


AnyPath = Path | RemotePath


def names(folder: AnyPath) -> list[str]:
    """What lies in a folder.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    return os.listdir(folder) if isinstance(folder, Path) else list(folder.listing())


def folder_names(folder: AnyPath) -> list[str]:
    """The folders in a folder.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    if isinstance(folder, Path):
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.is_dir()]
    return [name for name, stat in folder.listing().items() if stat is None]


def _stat(info: FileInfo) -> Stat:
    return Stat(info.size or 0, info.mtime_ns or 0)
