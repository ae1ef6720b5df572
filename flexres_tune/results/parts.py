"""Parts of a table: part-<first>-<last>.parquet, each written once, named for the sequence numbers it covers.

A part written by a flush covers one number; a merge covers those it was made of. Of two parts one of which
covers the other, the wider one holds all of the rows: a reader skips the narrower, so a driver killed between
writing a merged part and deleting the old ones leaves nothing doubled.
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
    first: int
    last: int
    stamp: tuple | None = field(default=None, compare=False)  # size and time, where the listing has said them

    @property
    def span(self) -> int:
        """How many sequence numbers it covers."""
        return self.last - self.first + 1

    def covers(self, other: Part) -> bool:
        return self != other and self.first <= other.first and other.last <= self.last


def make_part(folder: AnyPath, first: int, last: int) -> Part:
    return Part(folder / f"part-{first:08d}-{last:08d}.parquet", first, last)


def list_parts(folder: AnyPath) -> tuple[list[Part], list[Part]]:
    """(parts to read, in the order they were written; parts that a wider one covers). A missing folder has none."""
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
            Part(folder / name, int(m[1]), int(m[2]), stamp and (stamp.st_size, stamp.st_mtime_ns))
            for name, stamp in entries.items()
            if (m := _NAME.fullmatch(name))
        ),
        key=lambda part: (part.first, -part.last),
    )
    kept, covered = [], []
    for part in found:  # sorted so that a wider part stands before those it covers
        (covered if kept and kept[-1].covers(part) else kept).append(part)
    return kept, covered


def write_part(part: Part, table: pa.Table) -> None:
    """Write a part aside and rename it.

    Raises:
        ResultsError: the disk is full, read-only or failing; no file is left behind.
    """
    with atomic_write(part.path) as aside:
        # Checksums: without them noise inside a data page would be read as numbers.
        pq.write_table(table, aside, compression="zstd", write_page_checksum=True)


def read_part(part: Part, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A part's rows with the columns it has; columns unknown to this version are kept.

    Raises:
        FileNotFoundError: it was merged away since the folder was listed; list again.
        StorageError: the server does not answer; nothing is known of the part.
        ResultsError: it is damaged, or a column has a type that today's schema cannot take.
    """
    # Apart from parsing: a server that is away says nothing about the part.
    source = open_for_arrow(part.path)
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
    """Rows of all tables under today's schema first: a column that a part lacks is null in its rows."""
    schema = table_schema(name)
    if columns is not None:
        schema = pa.schema([schema.field(column) for column in columns])
    none = pa.Table.from_batches([], schema)  # schema.empty_table() would import pandas
    return pa.concat_tables([none, *tables], promote_options="permissive")


def last_written(name: str, table: pa.Table) -> pa.Table:
    """The table without rows that a later row of the same key replaces; the order is kept.

    Sorting integers instead of a window function: 1,000,000 epochs take a fraction of a second. Arrays cross between
    Arrow and NumPy as buffers, because to_numpy() and array() import pandas first: a quarter of a second a query.
    """
    import numpy as np

    if table.num_rows < 2:
        return table
    codes = np.zeros(table.num_rows, dtype=np.int64)
    for column in KEYS[name]:
        encoded = table[column].combine_chunks().dictionary_encode(null_encoding="encode")
        codes = codes * max(1, len(encoded.dictionary)) + np.from_dlpack(encoded.indices)
        # Renumbered densely, so that the product of three columns' sizes cannot leave 64 bits.
        codes = np.unique(codes, return_inverse=True)[1]
    _, from_end = np.unique(codes[::-1], return_index=True)
    if len(from_end) == table.num_rows:
        return table
    kept = np.sort(table.num_rows - 1 - from_end).astype(np.int64)
    return table.take(pa.Array.from_buffers(pa.int64(), len(kept), [None, pa.py_buffer(kept)]))
