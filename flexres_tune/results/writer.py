"""SweepWriter: the only writer of a sweep's tables, on the driver; and what is done to the folder before and after."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from flexres_tune.errors import ResultsError, StorageError
from flexres_tune.records import Decision, EpochRecord, LabelRecord, PredictionRecord, TrialRecord
from flexres_tune.results.lock import sweep_lock
from flexres_tune.results.parts import join, list_parts, read_part
from flexres_tune.results.paths import TABLES, SweepPaths
from flexres_tune.results.schema import KEYS, row_type, table_schema
from flexres_tune.results.table_writer import TableWriter
from flexres_tune.spec import TrialConfig
from flexres_tune.storage import atomic_write_bytes, is_remote

FLUSH_INTERVAL_S = 2.0
TRIAL_INTERVAL_S = 0.25  # a finished trial appears this soon; short trials share a part instead of one fsync each
REMOTE_INTERVAL_S = 2.0  # on object storage, where a part is a request, which is paid for
REST_FACTOR = 4.0  # after a flush that took t seconds, wait 4 t: in a large table, replacing rows takes long

log = logging.getLogger(__name__)


class SweepWriter:
    """Appends rows to a sweep's tables: buffered, then at most one new part per table and flush.

    A row replaces an earlier one of the same key in the same step in which it is written, so that a program that opens
    the folder finds each row once at any time; see TableWriter.

    Raises:
        ResultsError: the folder cannot be created, read or written.
    """

    def __init__(self, paths: SweepPaths):
        self.paths = paths
        self._is_remote = is_remote(paths.root)
        self._tables = {name: TableWriter(paths.table(name), name) for name in TABLES}
        self._last_flush = -math.inf
        self._flush_seconds = 0.0  # that the last flush took
        self._attempts = self._load_attempts()
        self._trials = self._load_trials()
        self._known = {name: set(self._load_columns(name, KEYS[name])) for name in ("predictions", "labels")}

    def __enter__(self) -> SweepWriter:
        return self

    def __exit__(self, *exc_info) -> None:
        self.flush()
        for table in self._tables.values():
            table.discard_old_folders(wait=True)

    def add_epoch(self, record: EpochRecord, is_repeat: bool = False) -> None:
        """Buffer an epoch, unless the tables have it from the same or a later attempt.

        An epoch that a later attempt computed again, because the earlier one died after its last checkpoint, replaces
        the earlier row, which did not contribute to the trial's weights.

        Args:
            is_repeat: the epoch belongs to the history that a resumed trial reports again: it is written only if the
                driver was killed before writing it.
        """
        attempt, before = _byte(record.attempt), self._attempt_of(record.trial_id, record.epoch)
        if attempt > before and not (is_repeat and before):
            self._add_epoch(self._row(record))

    def add_decision(self, decision: Decision) -> None:
        """Buffer a decision of the scheduler."""
        self._tables["decisions"].add(self._row(decision))

    def add_predictions(
        self, predictions: Sequence[PredictionRecord], labels: Sequence[LabelRecord], is_repeat: bool = False
    ) -> None:
        """Buffer what a trial says about each image, and the labels of these images unless the tables have them.

        is_repeat: an earlier attempt computed the trial's last epoch: the predictions are written only if the driver
        was killed before writing them.
        """
        for name, records in (("labels", labels), ("predictions", predictions)):
            for record in records:
                key = tuple(getattr(record, column) for column in KEYS[name])
                is_known = key in self._known[name]
                if not is_known or (name == "predictions" and not is_repeat):
                    self._known[name].add(key)
                    self._tables[name].add(self._row(record), is_known)

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
            pa.array([row], row_type("trials"))
        except (pa.ArrowException, OverflowError, UnicodeError, TypeError) as error:
            raise ResultsError(f"{self.paths.trials}: row of trial {record.trial_id}: {error}") from error
        self._add_trial(row)

    def copy_trial(
        self,
        row: Mapping[str, Any],
        epochs: Sequence[Mapping[str, Any]],
        predictions: Sequence[PredictionRecord] = (),
        labels: Sequence[LabelRecord] = (),
    ) -> None:
        """Buffer a trial's row, epochs and predictions from another sweep's tables, under this sweep's name.

        They replace its own. Columns that this version does not know are dropped.
        """
        self.add_predictions(predictions, labels)
        for epoch in epochs:
            self._add_epoch(self._copy("epochs", epoch))
        self._add_trial(self._copy("trials", row))

    def flush(self) -> None:
        """Write the buffered rows, those of `trials` last: a trial's row never precedes its epochs and predictions.

        Raises:
            ResultsError: names the path and the reason; rows that were not written stay in the buffer.
        """
        for name in sorted(TABLES, key="trials".__eq__):
            self._tables[name].flush()

    @property
    def num_waiting(self) -> int:
        """Rows in the buffer."""
        return sum(len(table.rows) for table in self._tables.values())

    def maybe_flush(self, now: float) -> None:
        """Flush if 2 s have passed since the last flush, or 0.25 s and a trial is in the buffer that is new.

        A row that replaces another one waits for 2 s, because a program that reads the old part at that moment is
        disturbed. A flush that took long is followed by a longer rest.

        Args:
            now: time.monotonic().

        Raises:
            ResultsError: as flush(). The next attempt is one interval later, so a full disk is not tried all the time.
        """
        trial_interval = REMOTE_INTERVAL_S if self._is_remote else TRIAL_INTERVAL_S
        is_urgent = self._tables["trials"].rows and not any(table.replaces_rows for table in self._tables.values())
        interval = trial_interval if is_urgent else FLUSH_INTERVAL_S
        if now - self._last_flush >= max(interval, REST_FACTOR * self._flush_seconds) and self.num_waiting:
            self._last_flush = now
            started = time.monotonic()
            try:
                self.flush()
            finally:
                self._flush_seconds = time.monotonic() - started

    def compact(self) -> None:
        """At the end of a sweep: merge the parts of each table, and wait until old parts are deleted.

        Raises:
            ResultsError: a merged part cannot be written; the old parts are still there.
        """
        self.flush()
        for table in self._tables.values():
            table.compact()
        for table in self._tables.values():
            table.discard_old_folders(wait=True)

    def _row(self, record: EpochRecord | Decision | TrialRecord | PredictionRecord | LabelRecord) -> dict:
        if record.sweep not in ("", self.paths.sweep):
            raise ResultsError(f"{self.paths.folder}: a row of sweep {record.sweep!r} does not belong here")
        return vars(record) | {"sweep": self.paths.sweep}

    def _copy(self, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row of another sweep as one of this sweep, with the columns that this version knows."""
        return {column: row.get(column) for column in table_schema(name).names} | {"sweep": self.paths.sweep}

    def _add_epoch(self, row: Mapping[str, Any]) -> None:
        trial_id, epoch = row["trial_id"], row["epoch"]
        self._tables["epochs"].add(row, is_known=self._attempt_of(trial_id, epoch) > 0)
        _set_attempt(self._attempts, trial_id, epoch, row["attempt"])

    def _attempt_of(self, trial_id: str, epoch: int) -> int:
        """The attempt that computed an epoch, 0 if there is no row of it."""
        attempts = self._attempts.get(trial_id, b"")
        return attempts[epoch] if epoch < len(attempts) else 0

    def _add_trial(self, row: Mapping[str, Any]) -> None:
        key = (row["trial_id"], row["stage"])
        self._tables["trials"].add(row, is_known=key in self._trials)
        self._trials.add(key)

    def _load_trials(self) -> set[tuple[str, str]]:
        """(trial_id, stage) of the rows of `trials`."""
        keys = list(self._load_columns("trials", KEYS["trials"]))
        known = set(keys)
        if len(known) < len(keys):
            self._tables["trials"].remove_duplicates()
        return known

    def _load_attempts(self) -> dict[str, bytearray]:
        """trial_id -> the attempt that computed each epoch, or 0 if no row has the epoch: one byte per epoch."""
        known: dict[str, bytearray] = {}
        has_duplicates = False
        for trial_id, epoch, attempt in self._load_columns("epochs", ("trial_id", "epoch", "attempt")):
            if 0 <= epoch <= 1_000_000:
                has_duplicates |= _set_attempt(known, trial_id, epoch, attempt) > 0
        if has_duplicates:
            self._tables["epochs"].remove_duplicates()
        return known

    def _load_columns(self, name: str, columns: Sequence[str]) -> Iterator[tuple]:
        """Values of these columns in all rows; a damaged part has no rows, so that those may be written again."""
        for part in self._tables[name].parts():
            try:
                table = join(name, [read_part(part, name, columns)], columns)
            except StorageError:
                raise
            except ResultsError as error:
                log.warning("%s", error)
                continue
            yield from zip(*(table[column].to_pylist() for column in columns), strict=True)


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
    """Compact tables that a driver killed at the very end has left in many parts.

    Does nothing if another driver runs the sweep, or if the folder cannot be written.
    """
    if not any(len(list_parts(paths.table(name))[0]) > 1 for name in TABLES):
        return
    with contextlib.suppress(ResultsError), sweep_lock(paths):
        tables = [TableWriter(paths.table(name), name) for name in TABLES]
        for table in tables:
            table.compact()
        for table in tables:
            table.discard_old_folders(wait=True)


def _byte(attempt: int) -> int:
    return min(max(attempt, 1), 255)


def _set_attempt(known: dict[str, bytearray], trial_id: str, epoch: int, attempt: int | None) -> int:
    """Note which attempt computed an epoch; returns the one before, 0 if there was none."""
    attempts = known.setdefault(trial_id, bytearray())
    if len(attempts) <= epoch:
        attempts.extend(bytes(epoch + 1 - len(attempts)))
    before, attempts[epoch] = attempts[epoch], _byte(attempt or 1)
    return before


def _utc(moment: datetime) -> datetime:
    """The moment in UTC; one without a time zone is taken as UTC, as records.py says, not as this machine's local time."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
