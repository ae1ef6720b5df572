"""Parts of a table: part-<first>-<last>.parquet, each written once and named for the sequence numbers it covers.

A part that a flush writes covers one number; a merged part covers those of the parts it was made of. If one part covers
another, it contains all of the other's rows, and readers skip the other. So a driver that is killed between writing a
merged part and deleting the old ones leaves no row twice.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from flexres_tune.errors import ResultsError, StorageError, describe_os_error
from flexres_tune.results.schema import KEYS, table_schema
from flexres_tune.storage import AnyPath, atomic_write, list_folder, open_for_arrow

_NAME = re.compile(r"part-(\d{8,})-(\d{8,})\.parquet")


@dataclass(frozen=True)
class Part:
    """One Parquet file of a table."""

    path: AnyPath
    first: int  # sequence numbers that the part covers
    last: int
    version: tuple[int, int] = field(default=(0, 0), compare=False)  # (bytes, ns) of size and time, from the listing

    @property
    def num_covered(self) -> int:
        return self.last - self.first + 1

    def covers(self, other: Part) -> bool:
        return self != other and self.first <= other.first and other.last <= self.last


def make_part(folder: AnyPath, first: int, last: int) -> Part:
    return Part(folder / f"part-{first:08d}-{last:08d}.parquet", first, last)


def list_parts(folder: AnyPath) -> tuple[list[Part], list[Part]]:
    """(parts to read, in the order they were written; parts that another one covers). A missing folder has none.

    Raises:
        StorageError: the server does not answer.
        ResultsError: the folder cannot be read.
    """
    try:
        entries = list_folder(folder)
    except FileNotFoundError:
        return [], []
    except StorageError:
        raise
    except OSError as error:
        raise ResultsError(f"{folder}: cannot be read: {describe_os_error(error)}") from error
    found = sorted(
        (
            Part(folder / name, int(match[1]), int(match[2]), (stat.st_size, stat.st_mtime_ns))
            for name, stat in entries.items()
            if stat is not None and (match := _NAME.fullmatch(name))
        ),
        key=lambda part: (part.first, -part.last),
    )
    kept, covered = [], []
    for part in found:  # in this order a wider part precedes those it covers
        (covered if kept and kept[-1].covers(part) else kept).append(part)
    return kept, covered


def write_part(part: Part, table: pa.Table) -> None:
    """Write a part, complete or not at all.

    Raises:
        ResultsError: the disk is full, read-only or failing; no file is left.
    """
    with atomic_write(part.path) as temporary:
        # Page checksums: without them, noise inside a data page would be read as numbers.
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_part(part: Part, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A part's rows, with those of `columns` that it has, or with all; columns unknown to this version are kept.

    Raises:
        FileNotFoundError: the part was merged and deleted since the folder was listed; list again.
        StorageError: the server does not answer, so nothing is known about the part.
        ResultsError: the part is damaged, or a column has a type that does not fit today's schema.
    """
    source = open_for_arrow(part.path)  # outside of the try: a server that does not answer does not mean damage
    try:
        with pq.ParquetFile(source, page_checksum_verification=True) as file:
            known = None if columns is None else [c for c in columns if c in file.schema_arrow.names]
            table = file.read(known)
            pa.unify_schemas([table_schema(name), table.schema], promote_options="permissive")
            table.validate(full=True)
            return table
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError, OverflowError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise ResultsError(f"{part.path}: skipped, damaged or not a part of this table: {reason}") from error


def join(name: str, tables: Sequence[pa.Table], columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of all tables, with the columns of today's schema first; a column that a part lacks is null in its rows."""
    schema = table_schema(name)
    if columns is not None:
        schema = pa.schema([schema.field(column) for column in columns])
    empty = pa.Table.from_batches([], schema)  # schema.empty_table() would import pandas
    return pa.concat_tables([empty, *tables], promote_options="permissive")


def last_written(name: str, table: pa.Table) -> pa.Table:
    """The table without rows that a later row of the same key replaces; the order is kept.

    Sorts integers instead of using a window function: 1,000,000 epochs take a fraction of a second. Arrays cross between
    Arrow and NumPy as buffers, because to_numpy() and pa.array() import pandas: a quarter of a second per query.
    """
    import numpy as np

    if table.num_rows < 2:
        return table
    codes = np.zeros(table.num_rows, dtype=np.int64)
    for column in KEYS[name]:
        encoded = table[column].combine_chunks().dictionary_encode(null_encoding="encode")
        codes = codes * max(1, len(encoded.dictionary)) + np.from_dlpack(encoded.indices)
        # Renumbered densely, so that the product of three columns' sizes fits into 64 bits.
        codes = np.unique(codes, return_inverse=True)[1]
    _, from_end = np.unique(codes[::-1], return_index=True)
    if len(from_end) == table.num_rows:
        return table
    kept = np.sort(table.num_rows - 1 - from_end).astype(np.int64)
    return table.take(pa.Array.from_buffers(pa.int64(), len(kept), [None, pa.py_buffer(kept)]))
