"""SweepWriter: the only writer of a sweep's tables, on the driver; and what is done to the folder before and after."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from flexres_tune.errors import ResultsError, StorageError, describe_os_error
from flexres_tune.records import Decision, EpochRecord, TrialRecord
from flexres_tune.results.lock import sweep_lock
from flexres_tune.results.parts import Part, join, last_written, list_parts, make_part, read_part, write_part
from flexres_tune.results.paths import TABLES, SweepPaths
from flexres_tune.results.schema import table_schema
from flexres_tune.spec import TrialConfig
from flexres_tune.storage import AnyPath, atomic_write_bytes, is_remote, remove_temporary_files

FLUSH_INTERVAL_S = 2.0
TRIAL_INTERVAL_S = 0.25  # a finished trial appears this soon; short trials share a part instead of one fsync each
REMOTE_INTERVAL_S = 2.0  # on object storage, where a part is a request, which is paid for
REMOTE_MERGE_PERIOD = 16  # parts between two checks there for parts to merge, because each check lists the folder
FANOUT = 64  # parts of one size that are merged into one: a day of flushes leaves tens of files, not 43,200

log = logging.getLogger(__name__)


class SweepWriter:
    """Appends rows to a sweep's tables: buffered, then at most one new part per table and flush.

    A part that cannot be written (disk full) leaves its rows in the buffer and no file; the next flush tries again. Rows
    are ordered by sequence numbers, which continue from the parts in the folder, so the order does not depend on clocks.

    Raises:
        ResultsError: the folder cannot be created, read or written.
    """

    def __init__(self, paths: SweepPaths):
        self.paths = paths
        self._is_remote = is_remote(paths.root)
        self._rows: dict[str, list[dict]] = {name: [] for name in TABLES}
        self._last_flush = -math.inf
        self._next_sequence = {name: self._clean_up(paths.table(name)) for name in TABLES}
        self._attempts = self._load_attempts()
        self._replaced: set[tuple[str, int]] = set()  # epochs in the buffer whose older rows are in a part

    def __enter__(self) -> SweepWriter:
        return self

    def __exit__(self, *exc_info) -> None:
        self.flush()

    def add_epoch(self, record: EpochRecord, is_repeat: bool = False) -> None:
        """Buffer an epoch, unless the tables have it from the same or a later attempt.

        An epoch that a later attempt computed again, because the earlier one died after its last checkpoint, replaces
        the earlier row, which did not contribute to the trial's weights.

        Args:
            is_repeat: the epoch belongs to the history that a resumed trial reports again: it is written only if the
                driver was killed before writing it.
        """
        attempts = self._attempts.setdefault(record.trial_id, bytearray())
        if len(attempts) <= record.epoch:
            attempts.extend(bytes(record.epoch + 1 - len(attempts)))
        attempt = _byte(record.attempt)
        if attempt > attempts[record.epoch] and not (is_repeat and attempts[record.epoch]):
            if attempts[record.epoch]:
                self._replaced.add((record.trial_id, record.epoch))
            attempts[record.epoch] = attempt
            self._rows["epochs"].append(self._row(record))

    def add_decision(self, decision: Decision) -> None:
        """Buffer a decision of the scheduler."""
        self._rows["decisions"].append(self._row(decision))

    def add_trial(self, record: TrialRecord, config: TrialConfig) -> None:
        """Buffer the end of a trial. A later row of the same (trial_id, stage) replaces it.

        Raises:
            ResultsError: a value does not fit its column; the buffer is unchanged.
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
        """Buffer a trial's row and epochs from another sweep's tables, under this sweep's name.

        Columns that this version does not know are dropped.
        """
        for name, copied in (("epochs", epochs), ("trials", [row])):
            known = table_schema(name).names
            for each in copied:
                self._rows[name].append({column: each.get(column) for column in known} | {"sweep": self.paths.sweep})

    def flush(self) -> None:
        """Write the buffered rows, epochs before the trials they belong to: a trial's row never precedes its history.

        Raises:
            ResultsError: names the path and the reason; rows that were not written stay in the buffer.
        """
        for name in ("epochs", "decisions", "trials"):
            if rows := self._rows[name]:
                self._write(name, last_written(name, pa.Table.from_pylist(rows, table_schema(name))))
                rows.clear()
                if not self._is_remote or self._next_sequence[name] % REMOTE_MERGE_PERIOD == 0:
                    self._merge_small(name)

    @property
    def num_waiting(self) -> int:
        """Rows in the buffer."""
        return sum(map(len, self._rows.values()))

    def maybe_flush(self, now: float) -> None:
        """Flush if 2 s have passed since the last flush, or 0.25 s and a trial is in the buffer.

        Args:
            now: time.monotonic().

        Raises:
            ResultsError: as flush(). The next attempt is one interval later, so a full disk is not tried all the time.
        """
        trial_interval = REMOTE_INTERVAL_S if self._is_remote else TRIAL_INTERVAL_S
        interval = trial_interval if self._rows["trials"] else FLUSH_INTERVAL_S
        if now - self._last_flush >= interval and any(self._rows.values()):
            self._last_flush = now
            self.flush()

    def compact(self) -> None:
        """At the end of a sweep: write each table as one part without replaced rows, then delete the parts it covers.

        Raises:
            ResultsError: the merged part cannot be written; the old parts are still there.
        """
        self.flush()
        for name in TABLES:
            parts, _covered = list_parts(self.paths.table(name))
            if len(parts) > 1:
                self._merge(name, parts)

    def _row(self, record: EpochRecord | Decision | TrialRecord) -> dict:
        if record.sweep not in ("", self.paths.sweep):
            raise ResultsError(f"{self.paths.folder}: a row of sweep {record.sweep!r} does not belong here")
        row = {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
        return row | {"sweep": self.paths.sweep}

    def _write(self, name: str, table: pa.Table) -> None:
        sequence = self._next_sequence[name]
        if name == "epochs" and self._replaced:
            # Another program that reads all parts must not find an epoch twice, so the older row goes at once.
            self._merge(name, self._parts_since(self._replaced), table)
            self._replaced.clear()
        else:
            write_part(make_part(self.paths.table(name), sequence, sequence), table)
        self._next_sequence[name] = sequence + 1

    def _parts_since(self, keys: Collection[tuple[str, int]]) -> list[Part]:
        """Parts of `epochs`, from the oldest one that has a row of these (trial_id, epoch)."""
        parts, _covered = list_parts(self.paths.epochs)
        missing, begin = set(keys), len(parts)
        for index in reversed(range(len(parts))):
            if not missing:
                break
            with contextlib.suppress(ResultsError):  # a damaged part has no rows
                table = read_part(parts[index], "epochs", ("trial_id", "epoch"))
                found = missing.intersection(
                    zip(*(table[key].to_pylist() for key in ("trial_id", "epoch")), strict=True)
                )
                begin = index if found else begin
                missing -= found
        return parts[begin:]

    def _merge_small(self, name: str) -> None:
        """Merge the newest parts if there are FANOUT of one size. A failure loses nothing and is repeated later."""
        parts, _covered = list_parts(self.paths.table(name))
        for level in range(3):
            newest = [part for part in parts if part.num_covered < FANOUT ** (level + 1)]  # older parts are wider
            if sum(part.num_covered >= FANOUT**level for part in newest) >= FANOUT:
                with contextlib.suppress(ResultsError):
                    self._merge(name, newest)
                return

    def _merge(self, name: str, parts: list[Part], rows: pa.Table | None = None) -> None:
        """Merge consecutive parts into one, with new rows if there are any: then these parts are the newest.

        A damaged part is renamed to a hidden name and never deleted.
        """
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
        if rows is not None:
            tables.append(rows)
        if not tables:
            return
        last = good[-1].last if rows is None else self._next_sequence[name]
        merged = make_part(self.paths.table(name), good[0].first if good else last, last)
        if merged in good:
            return
        write_part(merged, last_written(name, join(name, tables)))
        for part in good:
            with contextlib.suppress(OSError):
                part.path.unlink()

    def _clean_up(self, folder: AnyPath) -> int:
        """Delete what a killed writer left (temporary files, merged parts); return the next sequence number."""
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
        """trial_id -> the attempt that computed each epoch, or 0 if no row has the epoch: one byte per epoch."""
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


def check_writable(paths: SweepPaths) -> None:
    """Write and delete a small file in each folder that a sweep writes to.

    Raises:
        ResultsError: one of them is read-only, full, or not a folder.
    """
    for folder in (*map(paths.table, TABLES), paths.checkpoints):
        probe = folder / ".probe"
        atomic_write_bytes(probe, b"a full disk may accept a name without content" * 100)
        probe.unlink(missing_ok=True)


def compact_if_needed(paths: SweepPaths) -> None:
    """Compact tables that a driver killed at the very end has left in several parts.

    Our reader does not need it. Others would see a trial's `interrupted` row next to the row that replaced it. Does
    nothing if another driver runs the sweep, or if the folder cannot be written.
    """
    if any(len(list_parts(paths.table(name))[0]) > 1 for name in TABLES):
        with contextlib.suppress(ResultsError), sweep_lock(paths):
            SweepWriter(paths).compact()


def _byte(attempt: int) -> int:
    return min(max(attempt, 1), 255)


def _utc(moment: datetime) -> datetime:
    """The moment in UTC; one without a time zone is taken as UTC, as records.py says, not as this machine's local time."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
