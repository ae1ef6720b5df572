"""Parts of a table: part-<first>-<last>.parquet, each written once and named for the sequence numbers it covers.

A part that a flush writes covers one number; a merged part covers those of the parts it was made of. If some rows of a
part are replaced by newer ones, the rest is written as part-<first>-<last>-<revision>.parquet.

Old parts give way to new ones in one step if the file system can do that. If it cannot, or on object storage, both are
there for a while: a part that covers another one has all its rows that count, and readers skip the other.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from flexres_tune.errors import ResultsError, StorageError, describe_os_error
from flexres_tune.results.schema import KEYS, REQUIRED, table_schema
from flexres_tune.storage import AnyPath, atomic_write, list_folder, open_for_arrow
from flexres_tune.text import escape

# A sweep does not reach these: 100,000 trials of 200 epochs. A damaged or hostile part may ask for any amount of memory.
MAX_ROWS = 20_000_000
MAX_BYTES = 4 * 2**30  # uncompressed, and of text per column
MAX_VALUES = 500_000_000  # per column: 33,000 trials that predict 15,000 images each

_NAME = re.compile(r"part-(\d{8,})-(\d{8,})(?:-(\d{1,9}))?\.parquet")


@dataclass(frozen=True)
class Part:
    """One Parquet file of a table."""

    path: AnyPath
    first: int  # sequence numbers that the part covers
    last: int
    revision: int = 0
    version: tuple[int, int] = field(default=(0, 0), compare=False)  # (bytes, ns) of size and time, from the listing

    @property
    def num_covered(self) -> int:
        return self.last - self.first + 1

    @property
    def num_bytes(self) -> int:
        return self.version[0]

    def covers(self, other: Part) -> bool:
        """Whether every row of the other part is in this one, or was replaced."""
        if (self.first, self.last) == (other.first, other.last):
            return self.revision > other.revision
        return self.first <= other.first and other.last <= self.last


def make_part(folder: AnyPath, first: int, last: int, revision: int = 0) -> Part:
    suffix = f"-{revision}" if revision else ""
    return Part(folder / f"part-{first:08d}-{last:08d}{suffix}.parquet", first, last, revision)


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
            Part(folder / name, int(match[1]), int(match[2]), int(match[3] or 0), (stat.st_size, stat.st_mtime_ns))
            for name, stat in entries.items()
            if stat is not None and (match := _NAME.fullmatch(name))
        ),
        key=lambda part: (part.first, -part.last, -part.revision),
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


def num_rows(part: Part) -> int:
    """Number of rows by the part's footer; 0 if it cannot be read."""
    try:
        with open_for_arrow(part.path) as source:
            return pq.read_metadata(source).num_rows
    except (OSError, pa.ArrowException, ValueError):
        return 0


def read_part(part: Part, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """A part's rows, with those of `columns` that it has, or with all; columns unknown to this version are kept.

    Raises:
        FileNotFoundError: the part was merged and deleted since the folder was listed; list again.
        StorageError: the server does not answer, so nothing is known about the part.
        ResultsError: the part is damaged, is no regular file, is larger than any sweep's, lacks a key, or has a column
            of a type that does not fit today's schema.
    """
    try:
        with open_for_arrow(part.path) as source:
            table = _with_whole_numbers(_read_checked(source, name, columns), table_schema(name))
        pa.unify_schemas([table_schema(name), table.schema], promote_options="permissive")
        table.validate(full=True)
        if empty := [key for key in REQUIRED[name] if key in table.column_names and table[key].null_count]:
            raise ValueError(f"rows without a {empty[0]}")
        return table
    except (FileNotFoundError, StorageError):
        raise
    except (OSError, pa.ArrowException, ValueError, TypeError, KeyError, OverflowError) as error:
        reason = ((isinstance(error, OSError) and error.strerror) or str(error) or type(error).__name__).splitlines()[0]
        reason = escape(reason[:200])  # Arrow quotes bytes of the file
        raise ResultsError(f"{part.path}: skipped, damaged or not a part of this table: {reason}") from error


def _with_whole_numbers(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table with integers in each column that has them in the schema: `permissive` would let floats pass as they are.

    Raises:
        ArrowInvalid: a value is no whole number.
    """
    for index, found in enumerate(table.schema):
        place = schema.get_field_index(found.name)
        if place >= 0 and pa.types.is_floating(found.type) and pa.types.is_integer(schema.field(place).type):
            kind = schema.field(place).type
            table = table.set_column(index, found.with_type(kind), table.column(index).cast(kind))
    return table


def _read_checked(source: BinaryIO | pa.BufferReader, name: str, columns: Sequence[str] | None) -> pa.Table:
    """The columns of a part that passes its checks.

    Raises:
        ValueError: the footer or the memory that the rows need is beyond that of a sweep.
    """
    with pq.ParquetFile(source, page_checksum_verification=True) as file:
        footer, schema = file.metadata, file.schema_arrow
        size = sum(footer.row_group(index).total_byte_size for index in range(footer.num_row_groups))
        if footer.num_rows > MAX_ROWS or size > MAX_BYTES:
            raise ValueError(
                f"must have at most {MAX_ROWS:,} rows and {MAX_BYTES:,} bytes, but has {footer.num_rows:,} rows"
            )
        if (num_values := _max_values(footer)) > MAX_VALUES:
            raise ValueError(f"must have at most {MAX_VALUES:,} values per column, but has {num_values:,}")
        # Arrow writes the schema twice. Pages have checksums and the footer has none: a changed name shows only here.
        written = (footer.metadata or {}).get(b"ARROW:schema")
        if written and pa.ipc.read_schema(pa.py_buffer(base64.b64decode(written))).names != schema.names:
            raise ValueError("the names of its columns are damaged")
        if missing := [key for key in REQUIRED[name] if key not in schema.names]:
            raise ValueError(f"has no column {missing[0]}")
        known = None if columns is None else [column for column in columns if column in schema.names]
        if footer.num_rows * size <= MAX_BYTES:  # no value is larger than all values together
            return file.read(known)
    return _read_as_dictionaries(source, schema, known)


def _max_values(footer: pq.FileMetaData) -> int:
    """The largest number of values of a column. A list of a billion equal numbers has a few encoded bytes."""
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    totals = (sum(group.column(index).num_values for group in groups) for index in range(footer.num_columns))
    return max(totals, default=0)


def _read_as_dictionaries(source: BinaryIO | pa.BufferReader, schema: pa.Schema, columns: list[str] | None) -> pa.Table:
    """As ParquetFile.read(), but a long text in a million rows takes memory only after its size was checked."""
    with pq.ParquetFile(source) as file:
        leaves = [file.schema.column(index) for index in range(len(file.schema))]
    texts = [leaf.path for leaf in leaves if leaf.physical_type == "BYTE_ARRAY"]
    table = pq.ParquetFile(source, page_checksum_verification=True, read_dictionary=texts).read(columns)
    for column in table.columns:
        size = sum(_text_bytes(chunk) for chunk in column.chunks)
        if size > MAX_BYTES:
            raise ValueError(f"must have at most {MAX_BYTES:,} bytes of text per column, but has {size:,}")
    return table.cast(pa.schema([schema.field(name) for name in table.column_names]))


def _text_bytes(array: pa.Array) -> int:
    """Bytes that the texts of an array would take, at any depth, if each were stored as often as it occurs."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return pc.sum(pc.binary_length(array.dictionary).take(array.indices)).as_py() or 0
    if pa.types.is_struct(kind):
        return sum(_text_bytes(array.field(index)) for index in range(kind.num_fields))
    if pa.types.is_map(kind):
        return _text_bytes(array.keys) + _text_bytes(array.items)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _text_bytes(array.values)
    return 0


def join(name: str, tables: Sequence[pa.Table], columns: Sequence[str] | None = None) -> pa.Table:
    """The rows of all tables, with the columns of today's schema first; a column that a part lacks is null in its rows."""
    schema = table_schema(name)
    if columns is not None:
        schema = pa.schema([schema.field(column) for column in columns])
    empty = pa.Table.from_batches([], schema)  # schema.empty_table() would import pandas
    return pa.concat_tables([empty, *tables], promote_options="permissive")


def last_written(name: str, table: pa.Table) -> pa.Table:
    """The table without rows that a later row of the same key replaces; the order is kept."""
    if table.num_rows and len(pc.unique(table[KEYS[name][0]])) == table.num_rows:
        return table  # a quick answer, as for a million trials
    rows = table.select(KEYS[name]).append_column("row", pa.arange(0, table.num_rows))
    last = rows.group_by(list(KEYS[name])).aggregate([("row", "max")])["row_max"].combine_chunks()
    return table if len(last) == table.num_rows else table.take(last.sort())
