"""SweepWriter: the one writer of a sweep's tables, on the driver."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from flexres_tune.errors import ResultsError, StorageError, describe_os_error
from flexres_tune.records import Decision, EpochRecord, TrialRecord
from flexres_tune.results.parts import Part, join, last_written, list_parts, make_part, read_part, write_part
from flexres_tune.results.paths import TABLES, SweepPaths
from flexres_tune.results.schema import table_schema
from flexres_tune.spec import TrialConfig
from flexres_tune.storage import AnyPath, is_remote, remove_temporary_files

FLUSH_INTERVAL_S = 2.0
TRIAL_INTERVAL_S = 0.25  # a finished trial shows up this soon; short trials share a part instead of an fsync each
REMOTE_INTERVAL_S = 2.0  # on object storage, where a part is a request and is paid for
REMOTE_MERGE_PERIOD = 16  # parts between two looks there for what to merge: each lists the folder
FANOUT = 64  # parts of a size that are merged into one: a day of flushes leaves tens of files, not 43,200

log = logging.getLogger(__name__)


class SweepWriter:
    """Appends rows to a sweep's tables: buffered, then at most one new part a table and flush.

    A part that could not be written (disk full) leaves its rows in the buffer and no file: free space and flush
    again. Order is by sequence number and goes on from what lies in the folder, so the clock decides nothing.

    Raises:
        ResultsError: the folder cannot be made, read or written.
    """

    def __init__(self, paths: SweepPaths):
        self.paths = paths
        self._is_remote = is_remote(paths.root)
        self._rows: dict[str, list[dict]] = {name: [] for name in TABLES}
        self._last_flush = -math.inf
        self._next: dict[str, int] = {}
        for name in TABLES:
            self._next[name] = self._tidy(paths.table(name))
        self._attempts = self._load_attempts()

    def __enter__(self) -> SweepWriter:
        return self

    def __exit__(self, *exc_info) -> None:
        self.flush()

    def add_epoch(self, record: EpochRecord, is_repeat: bool = False) -> None:
        """Buffer an epoch, unless the tables already have it from the same or a later attempt.

        What a later attempt computed anew, because the one before died after its last checkpoint, replaces the row
        that led nowhere.

        Args:
            is_repeat: the epoch is of the history that a resumed trial reports again: written only where the driver
                was killed before it had written it.
        """
        attempts = self._attempts.setdefault(record.trial_id, bytearray())
        if len(attempts) <= record.epoch:
            attempts.extend(bytes(record.epoch + 1 - len(attempts)))
        attempt = _byte(record.attempt)
        if attempt > attempts[record.epoch] and not (is_repeat and attempts[record.epoch]):
            attempts[record.epoch] = attempt
            self._rows["epochs"].append(self._row(record))

    def add_decision(self, decision: Decision) -> None:
        """Buffer what the scheduler decided."""
        self._rows["decisions"].append(self._row(decision))

    def add_trial(self, record: TrialRecord, config: TrialConfig) -> None:
        """Buffer a trial's end. A later row of the same (trial_id, stage) replaces it.

        Raises:
            ResultsError: a value that its column cannot take; the buffer stays as it was, able to be written.
        """
        row = self._row(record) | config.columns()
        row["error"] = None if record.error is None else record.error.encode("utf-8", "replace").decode()
        row["versions"] = dataclasses.asdict(record.versions)
        for moment in ("started_at", "finished_at"):
            row[moment] = _utc(row[moment])
        try:
            pa.Table.from_pylist([row], table_schema("trials"))
        except (pa.ArrowException, OverflowError, UnicodeError, TypeError) as error:
            raise ResultsError(f"{self.paths.trials}: row of trial {record.trial_id}: {error}") from error
        self._rows["trials"].append(row)

    def copy_trial(self, row: Mapping[str, Any], epochs: Sequence[Mapping[str, Any]]) -> None:
        """Buffer a trial's row and its epochs as another sweep's tables have them, under this sweep's name.

        Columns that this version does not know are left out.
        """
        for name, copied in (("epochs", epochs), ("trials", [row])):
            known = table_schema(name).names
            for each in copied:
                self._rows[name].append({column: each.get(column) for column in known} | {"sweep": self.paths.sweep})

    def flush(self) -> None:
        """Write what is buffered, epochs before the trials they belong to: a trial's row comes with its history.

        Raises:
            ResultsError: names the path and the reason; rows not written stay buffered.
        """
        for name in ("epochs", "decisions", "trials"):
            if rows := self._rows[name]:
                self._write(name, last_written(name, pa.Table.from_pylist(rows, table_schema(name))))
                rows.clear()
                if not self._is_remote or self._next[name] % REMOTE_MERGE_PERIOD == 0:
                    self._merge_small(name)

    @property
    def num_waiting(self) -> int:
        """Rows in the buffer."""
        return sum(map(len, self._rows.values()))

    def maybe_flush(self, now: float) -> None:
        """Flush if 2 s have passed since the last flush, or 0.25 s and a trial waits; `now` as time.monotonic().

        Raises:
            ResultsError: as flush(); tried again after the same interval, so a full disk is not hammered.
        """
        at_once = REMOTE_INTERVAL_S if self._is_remote else TRIAL_INTERVAL_S
        waiting = at_once if self._rows["trials"] else FLUSH_INTERVAL_S
        if now - self._last_flush >= waiting and any(self._rows.values()):
            self._last_flush = now
            self.flush()

    def compact(self) -> None:
        """At a sweep's end: each table as one part, without replaced rows; then the parts it covers are deleted.

        Raises:
            ResultsError: the merged part could not be written; the old ones are still there.
        """
        self.flush()
        for name in TABLES:
            parts, _ = list_parts(self.paths.table(name))
            if len(parts) > 1:
                self._merge(name, parts)

    def _row(self, record: EpochRecord | Decision | TrialRecord) -> dict:
        if record.sweep not in ("", self.paths.sweep):
            raise ResultsError(f"{self.paths.folder}: a row of sweep {record.sweep!r} does not belong here")
        row = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
        return row | {"sweep": self.paths.sweep}

    def _write(self, name: str, table: pa.Table) -> None:
        sequence = self._next[name]
        write_part(make_part(self.paths.table(name), sequence, sequence), table)
        self._next[name] = sequence + 1

    def _merge_small(self, name: str) -> None:
        """Merge the newest parts once there are FANOUT of a size; a failure costs nothing and is tried later."""
        parts, _ = list_parts(self.paths.table(name))
        for level in range(3):
            newest = [part for part in parts if part.span < FANOUT ** (level + 1)]  # older parts are wider
            if sum(part.span >= FANOUT**level for part in newest) >= FANOUT:
                with contextlib.suppress(ResultsError):
                    self._merge(name, newest)
                return

    def _merge(self, name: str, parts: list[Part]) -> None:
        """Parts that follow each other -> one; a damaged one is set aside under a hidden name, never deleted."""
        tables, good = [], []
        for part in parts:
            try:
                tables.append(read_part(part, name))
                good.append(part)
            except StorageError:
                raise
            except ResultsError as error:
                hidden = part.path.with_name(f".{part.path.name}.damaged")
                log.warning("%s; kept as %s", error, hidden.name)
                with contextlib.suppress(OSError):
                    part.path.rename(hidden)
        if not good:
            return
        merged = make_part(self.paths.table(name), good[0].first, good[-1].last)
        if merged in good:
            return
        write_part(merged, last_written(name, join(name, tables)))
        for part in good:
            with contextlib.suppress(OSError):
                part.path.unlink()

    def _tidy(self, folder: AnyPath) -> int:
        """Remove what a dead writer left (temporary files, parts already merged); the next sequence number."""
        try:
            folder.mkdir(parents=True, exist_ok=True)
            parts, covered = list_parts(folder)
            for part in covered:
                part.path.unlink(missing_ok=True)
            remove_temporary_files(folder, "part-")
        except OSError as error:
            raise ResultsError(f"{folder}: cannot be written: {describe_os_error(error)}") from error
        return max((part.last for part in parts), default=0) + 1

    def _load_attempts(self) -> dict[str, bytearray]:
        """trial_id -> attempt that computed each epoch, 0 where there is none: a byte an epoch."""
        columns = ("trial_id", "epoch", "attempt")
        known: dict[str, bytearray] = {}
        for part in list_parts(self.paths.epochs)[0]:
            try:
                table = join("epochs", [read_part(part, "epochs", columns)], columns)
            except StorageError:
                raise
            except ResultsError as error:
                log.warning("%s", error)  # its epochs count as missing, so a trial that resumes reports them again
                continue
            for trial_id, epoch, attempt in zip(*(table[column].to_pylist() for column in columns), strict=True):
                if trial_id is None or epoch is None or not 0 <= epoch <= 1_000_000:
                    continue
                attempts = known.setdefault(trial_id, bytearray())
                if len(attempts) <= epoch:
                    attempts.extend(bytes(epoch + 1 - len(attempts)))
                attempts[epoch] = _byte(attempt or 1)
        return known


def _byte(attempt: int) -> int:
    return min(max(attempt, 1), 255)


def _utc(moment: datetime) -> datetime:
    """A moment without a zone is taken as UTC, as records.py says, and not as this machine's local time."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
