"""TableWriter: appends rows to one table of a sweep as parts, and keeps the parts few and every row in them once."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.errors import ResultsError, StorageError, describe_os_error
from flexres_tune.results.parts import Part, join, last_written, list_parts, make_part, num_rows, read_part, write_part
from flexres_tune.results.schema import KEYS, row_type, table_schema
from flexres_tune.storage import (
    AnyPath,
    FolderUpdateUnsupported,
    discard_folder,
    is_remote,
    old_folders,
    remove_temporary_files,
    update_folder,
)

FANOUT = 64  # parts of one size that are merged into one: a day of flushes leaves tens of files, not 43,200
# A full part has one of these sizes. A part that is at least half full is not merged while the sweep runs, so that a
# merge needs little memory and each row is written a few times only. 20 million epochs are about 40 parts.
FULL_PART_BYTES = 32 * 2**20
FULL_PART_ROWS = 500_000
REMOTE_MERGE_PERIOD = 16  # parts between two checks on object storage for parts to merge: each check lists the folder
# A reader that has opened the old folder has listed it after this time, also on a busy machine.
GRACE_S = 1.0

log = logging.getLogger(__name__)

Key = tuple[Any, ...]  # values of the columns KEYS[name]


class TableWriter:
    """Buffers rows of one table, and writes them as one part per flush.

    A part that cannot be written (disk full) leaves its rows in the buffer and no file; the next flush tries again.
    Rows are ordered by sequence numbers, which continue from the parts in the folder: the order needs no clock.

    On a file system that can exchange two folders (ext4, XFS, Btrfs, tmpfs), a flush that replaces rows and a merge of
    parts each happen in one step, so every listing of the folder has each row once.

    Raises:
        ResultsError: the folder cannot be created, read or written.
    """

    def __init__(self, folder: AnyPath, name: str):
        self.folder = folder
        self.name = name
        self.rows: list[Mapping[str, Any]] = []
        self._buffered: set[Key] = set()
        self._replaced: set[Key] = set()  # keys in the buffer whose older rows are in a part
        self._is_remote = is_remote(folder)
        self._can_exchange = not self._is_remote
        self._old_folders: list[tuple[Path, float]] = []  # with the time when they were replaced
        self._num_rows: dict[str, int] = {}  # by name of a part
        self._next_sequence = self._clean_up()

    def parts(self) -> list[Part]:
        """The parts of the table, in the order they were written."""
        return list_parts(self.folder)[0]

    def add(self, row: Mapping[str, Any], is_known: bool = False) -> None:
        """Buffer a row. `is_known` says that the table has one of the same key, which this one replaces."""
        key = tuple(row[column] for column in KEYS[self.name])
        if is_known and key not in self._buffered:
            self._replaced.add(key)
        self._buffered.add(key)
        self.rows.append(row)

    @property
    def replaces_rows(self) -> bool:
        """Whether a buffered row replaces one that is in a part, so that old parts change."""
        return bool(self._replaced)

    def flush(self) -> None:
        """Write the buffered rows as a part, and merge parts if there are many.

        Raises:
            ResultsError: names the path and the reason; the rows stay in the buffer.
        """
        self.discard_old_folders()
        if not self.rows:
            return
        rows = pa.RecordBatch.from_struct_array(pa.array(self.rows, row_type(self.name)))
        table = last_written(self.name, pa.Table.from_batches([rows], table_schema(self.name)))
        part = make_part(self.folder, self._next_sequence, self._next_sequence)
        if old := list(self._parts_with(self._replaced)):
            self._change(old, lambda: self._rewrite(old, (part, table)))
        else:
            self._write(part, table)
        self._next_sequence += 1
        self.rows.clear()
        self._buffered.clear()
        self._replaced.clear()
        if not self._is_remote or self._next_sequence % REMOTE_MERGE_PERIOD == 0:
            with contextlib.suppress(ResultsError):  # loses nothing, and is tried again at the next flush
                self._merge(self._parts_to_merge())

    def compact(self) -> None:
        """Merge the parts into one, or into several full ones, without rows that others replace.

        Raises:
            ResultsError: a merged part cannot be written; the old parts are still there.
        """
        for parts in self._groups_to_compact():
            self._merge(parts)

    def remove_duplicates(self) -> None:
        """Merge all parts: an older version, or a writer that was killed on object storage, has left rows twice."""
        self._merge(self.parts())

    def discard_old_folders(self, wait: bool = False) -> None:
        """Delete folders that were exchanged at least GRACE_S ago, or all of them after waiting for that time."""
        while self._old_folders:
            old, since = self._old_folders[0]
            remaining = since + GRACE_S - time.monotonic()
            if remaining > 0 and not wait:
                return
            time.sleep(max(remaining, 0))
            discard_folder(old, self.folder)
            self._old_folders.pop(0)

    def _parts_to_merge(self) -> list[Part]:
        """The newest parts if there are FANOUT of one size, or if together they make a full part."""
        newest: list[Part] = []
        for part in reversed(self.parts()):
            if self._fullness(part) >= 0.5:
                break
            newest.insert(0, part)
        if sum(map(self._fullness, newest)) >= 1:
            return newest
        for level in range(3):
            small = [part for part in newest if part.num_covered < FANOUT ** (level + 1)]  # older parts are wider
            if sum(part.num_covered >= FANOUT**level for part in small) >= FANOUT:
                return small
        return []

    def _groups_to_compact(self) -> list[list[Part]]:
        """Consecutive parts, as many as make a full part; without groups of one."""
        groups: list[list[Part]] = [[]]
        for part in self.parts():
            if sum(map(self._fullness, [*groups[-1], part])) > 1:
                groups.append([])
            groups[-1].append(part)
        return [group for group in groups if len(group) > 1]

    def _fullness(self, part: Part) -> float:
        """Size of a part as a fraction of a full one."""
        if part.path.name not in self._num_rows:
            self._num_rows[part.path.name] = 0 if self._is_remote else num_rows(part)
        return max(part.num_bytes / FULL_PART_BYTES, self._num_rows[part.path.name] / FULL_PART_ROWS)

    def _write(self, part: Part, table: pa.Table) -> None:
        write_part(part, table)
        self._num_rows[part.path.name] = table.num_rows

    def _parts_with(self, keys: Collection[Key]) -> Iterator[Part]:
        """Parts that have rows of these keys, newest first; and damaged ones, which may have had them."""
        missing = set(keys)
        for part in reversed(self.parts() if keys else []):
            if not missing:
                return
            try:
                table = _read(part, self.name, KEYS[self.name])
            except _DamagedPart:
                yield part
                continue
            rows = table.filter(_is_in_first_column(self.name, table, missing))
            if found := missing.intersection(_row_keys(self.name, rows)):
                yield part
                missing -= found

    def _rewrite(self, old: Sequence[Part], new: tuple[Part, pa.Table]) -> Iterator[tuple[Part, pa.Table | None]]:
        """The new part, then the old ones without the rows that it replaces; None as the table of a damaged part.

        The new one is first: if the parts are not changed in one step, a row may be there twice, but is never missing.
        """
        yield new
        for part in old:
            try:
                table = _read(part, self.name)
            except _DamagedPart:
                yield part, None
                continue
            kept = _without(self.name, table, self._replaced)
            if kept.num_rows:
                yield make_part(self.folder, part.first, part.last, part.revision + 1), kept

    def _merge(self, parts: Sequence[Part]) -> None:
        """Merge consecutive parts into one, with the last row of each key."""
        if len(parts) < 2:
            return

        def merged() -> Iterator[tuple[Part, pa.Table | None]]:
            good: list[tuple[Part, pa.Table]] = []
            for part in parts:
                try:
                    good.append((part, _read(part, self.name)))
                except _DamagedPart:
                    yield part, None
            if good:
                # Not the numbers of a damaged part, which may be greater than those that are still to come.
                (first, _), (last, _) = good[0], good[-1]
                revision = 0 if len(good) > 1 else first.revision + 1
                part = make_part(self.folder, first.first, last.last, revision)
                yield part, last_written(self.name, join(self.name, [table for _, table in good]))

        self._change(parts, merged)

    def _change(self, old: Sequence[Part], make_new: Callable[[], Iterator[tuple[Part, pa.Table | None]]]) -> None:
        """Write new parts and delete the old ones, in one step if possible. A damaged part is hidden, never deleted."""
        if self._can_exchange:
            try:
                with update_folder(self.folder, {part.path.name for part in old}) as following:
                    for part, table in make_new():
                        if table is None:
                            hidden = following / _hidden_name(part)
                            hidden.unlink(missing_ok=True)  # of an earlier part of this name
                            hidden.hardlink_to(part.path)
                        else:
                            self._write(replace(part, path=following / part.path.name), table)
                self._old_folders.append((following, time.monotonic()))
                return
            except FolderUpdateUnsupported:
                self._can_exchange = False
        kept = set()
        for part, table in make_new():
            kept.add(part.path.name)
            if table is None:
                with contextlib.suppress(OSError):
                    part.path.rename(part.path.with_name(_hidden_name(part)))
            else:
                self._write(part, table)
        for part in old:
            if part.path.name not in kept:
                with contextlib.suppress(OSError):
                    part.path.unlink()

    def _clean_up(self) -> int:
        """Delete what a killed writer left (temporary files, old folders and parts); return the next sequence number."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            parts, covered = list_parts(self.folder)
            for part in covered:
                part.path.unlink(missing_ok=True)
            remove_temporary_files(self.folder, "part-")
            if not self._is_remote:  # a writer that was killed a moment ago may have left a folder that somebody reads
                self._old_folders = [(old, time.monotonic()) for old in old_folders(self.folder)]
                self.discard_old_folders()
        except OSError as error:
            raise ResultsError(f"{self.folder}: cannot be written: {describe_os_error(error)}") from error
        return max((part.last for part in parts), default=0) + 1


class _DamagedPart(Exception):
    """A part that cannot be read, and never will be."""


def _read(part: Part, name: str, columns: Sequence[str] | None = None) -> pa.Table:
    """As read_part(), with an error of its own for a damaged part, after a warning."""
    try:
        return read_part(part, name, columns)
    except StorageError:
        raise
    except ResultsError as error:
        log.warning("%s; to be kept as %s", error, _hidden_name(part))
        raise _DamagedPart from error


def _hidden_name(part: Part) -> str:
    return f".{part.path.name}.damaged"


def _row_keys(name: str, table: pa.Table) -> Iterator[Key]:
    return zip(*(table[column].to_pylist() for column in KEYS[name]), strict=True)


def _is_in_first_column(name: str, table: pa.Table, keys: Collection[Key]) -> pa.ChunkedArray:
    """Mask of the rows whose first key column has a value of these keys: few rows, and quick to find."""
    column = table[KEYS[name][0]]
    return pc.is_in(column, pa.array(list({key[0] for key in keys}), column.type))


def _without(name: str, table: pa.Table, keys: Collection[Key]) -> pa.Table:
    """The rows that have none of these keys."""
    candidates = pc.indices_nonzero(_is_in_first_column(name, table, keys))
    rows = candidates.to_pylist()
    found = [row for row, key in zip(rows, _row_keys(name, table.take(candidates)), strict=True) if key in keys]
    return table.filter(pc.invert(pc.is_in(pa.arange(0, table.num_rows), pa.array(found, pa.int64()))))
