"""RemotePath: a path on object storage, with those methods of pathlib.Path that results need.

A folder is a prefix: it exists while an object below it exists. An object is written in one piece, so a reader sees the
old one, the new one, or none.
"""

from __future__ import annotations

import errno
import mimetypes
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from flexres_tune.errors import StorageError
from flexres_tune.storage.filesystem import describe_error, open_filesystem

if TYPE_CHECKING:
    from pyarrow.fs import FileInfo, FileSystem


@dataclass(frozen=True)
class Stat:
    """Size in bytes, and time of the last change by the server's clock; both 0 for a folder on object storage."""

    st_size: int
    st_mtime_ns: int


@dataclass(frozen=True)
class RemotePath:
    """`kind`://`key`[?`query`]; plain values, so that it can be sent to other processes.

    Every method that sends a request raises StorageError if the server does not answer or refuses, and
    FileNotFoundError if there is no such object.
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
        """The folder above; the parent of a bucket is the bucket."""
        return replace(self, key=self.key.rpartition("/")[0] or self.key)

    def with_name(self, name: str) -> RemotePath:
        return self.parent / name

    def resolve(self) -> RemotePath:
        """Itself: an address means the same on every machine."""
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

    def list_folder(self) -> dict[str, Stat | None]:
        """Names in the folder, each with the object's Stat, or None for a folder; one request per 1,000 names.

        On Google Cloud Storage everything below is listed, because pyarrow shows a folder there only if an object
        marks it.
        """
        from pyarrow.fs import FileSelector

        with self._explain_errors("listed"):
            infos = self._filesystem().get_file_info(FileSelector(self.key, recursive=self.kind == "gs"))
        found: dict[str, Stat | None] = {}
        for info in infos:
            name, _, below = info.path.removeprefix(self.key).strip("/").partition("/")
            if name:
                found[name] = _stat(info) if not below and info.type.name == "File" else None
        return found

    def mkdir(self, parents: bool = False, exist_ok: bool = False) -> None:
        """Do nothing: the first object in a folder creates it."""

    def read_bytes(self, max_bytes: int | None = None) -> bytes:
        """The content; an OSError if it has more than `max_bytes`."""
        with self._explain_errors("read"), self._filesystem().open_input_file(self.key) as file:
            size = file.size() if max_bytes is not None else 0
            if max_bytes is None or size <= max_bytes:
                return file.read()
        raise too_large(self, size, max_bytes)

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def write_bytes(self, content: bytes | memoryview) -> None:
        media_type = mimetypes.guess_type(self.name)[0] or "application/octet-stream"  # so that browsers show a report
        media_type += "; charset=utf-8" if media_type.startswith("text/") else ""
        try:
            with (
                self._explain_errors("written"),
                self._filesystem().open_output_stream(self.key, metadata={"Content-Type": media_type}) as file,
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
            with self._explain_errors("deleted"):
                self._filesystem().delete_file(self.key)
        except FileNotFoundError:
            if not missing_ok:
                raise

    def rename(self, target: RemotePath) -> None:
        """Copy, then delete: a process killed between the two leaves both."""
        with self._explain_errors("renamed"):
            self._filesystem().move(self.key, target.key)

    def _info(self) -> FileInfo:
        with self._explain_errors("looked up"):
            return self._filesystem().get_file_info(self.key)

    def _filesystem(self) -> FileSystem:
        return open_filesystem(self.kind, self.key.partition("/")[0], self.query)

    @contextmanager
    def _explain_errors(self, done: str) -> Iterator[None]:
        """Turn pyarrow's errors into FileNotFoundError or into StorageError("...: cannot be `done`: reason")."""
        import pyarrow as pa

        try:
            yield
        except FileNotFoundError:
            raise self._missing() from None
        except (OSError, pa.ArrowException) as error:
            if "No such file or directory" in str(error):  # GcsFileSystem raises a plain OSError for a missing folder
                raise self._missing() from None
            raise self._error(error, done) from error

    def _error(self, error: Exception, done: str) -> StorageError:
        reason = describe_error(error, self.kind, self.key.partition("/")[0], self.query)
        return StorageError(f"{self}: cannot be {done}: {reason}", reason)

    def _missing(self) -> FileNotFoundError:
        return FileNotFoundError(errno.ENOENT, "no such object", str(self))


def too_large(path: object, size: int, max_bytes: int) -> OSError:
    """The error of a file that is not read because of its size in bytes."""
    return OSError(errno.EFBIG, f"must be at most {max_bytes:,} bytes, but has {size:,}; move it away", str(path))


def _stat(info: FileInfo) -> Stat:
    return Stat(info.size or 0, info.mtime_ns or 0)
