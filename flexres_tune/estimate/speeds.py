"""Speeds of trials: seconds per epoch, read from earlier trials of the same shape, or measured with `--measure`."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import statistics
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flexres_tune.datasets.cache import DataPaths
from flexres_tune.errors import ResultsError
from flexres_tune.records import TrialStatus
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.spec import TrialConfig
from flexres_tune.storage import atomic_write_text, is_remote, parse_json, read_file
from flexres_tune.text import format_duration, join_words

NUM_SWEEPS = 8  # other sweeps of the folder that are read, the newest: a dry run must answer at once
SETTINGS = (
    "dataset",
    "resize",
    "num_train_images",
    "batch_size",
    "augmentation",
)  # with the model, what an epoch's time depends on
OVERHEAD_S = 1.0  # of an assignment, if it is not known: the process loads data, and saves a checkpoint


START_S = 6.0  # of a stage, if it is not known: the trials' processes import torch
LEAST_START_S = 3.0  # by which a trial that waits for the start of its process exceeds the others


@dataclass(frozen=True)
class Speed:
    """How long a trial takes while all slots are busy: `epoch_s` per epoch, and `overhead_s` whenever it begins or continues.

    The first trials of each stage take `start_s` longer, and one that runs to its end takes `end_s` longer, because it
    measures itself on the test images.
    """

    epoch_s: float
    overhead_s: float
    num_trials: int = 0  # that it was read from; 0: it was measured
    source: str = ""  # sweep, or "measured"
    device: str = ""
    start_s: float = START_S
    end_s: float = 0.0

    def of_epoch(self, epoch: int, num_epochs: int) -> float:
        """Of an epoch; the last one of a trial takes longer."""
        return self.epoch_s + (self.end_s if epoch == num_epochs else 0.0)


Shape = tuple[str, ...]


def shape_of(config: TrialConfig) -> Shape:
    """What the time of an epoch depends on: model, data, batch size and augmentation."""
    return _shape(config.columns())


def _shape(row: Mapping[str, Any]) -> Shape:
    from flexres_tune.spec.architecture import Architecture

    names = (*Architecture.model_fields, *SETTINGS)
    return tuple(json.dumps(row.get(name), sort_keys=True, default=list) for name in names)


class SpeedBook:
    """Known speeds by shape."""

    def __init__(self, speeds: Mapping[Shape, Speed] | None = None):
        self._speeds = dict(speeds or {})

    def of(self, shape: Shape) -> Speed | None:
        return self._speeds.get(shape)

    def add(self, shape: Shape, speed: Speed) -> None:
        self._speeds[shape] = speed

    def describe(self, shapes: Collection[Shape]) -> str:
        """`0.2 s per epoch, as in 18 earlier trials of optim on AMD EPYC`."""
        used = [self._speeds[shape] for shape in shapes]
        low, high = min(s.epoch_s for s in used), max(s.epoch_s for s in used)
        each = _seconds(low) if _seconds(low) == _seconds(high) else f"{_seconds(low)} to {_seconds(high)}"
        sources = sorted({speed.source for speed in used})
        devices = join_words(sorted({speed.device for speed in used if speed.device}), "and")
        number = sum(speed.num_trials for speed in used)
        where = f" on {devices}" if devices else ""
        origin = f"in {number} earlier trials of {join_words(sources, 'and')}" if number else "measured"
        return f"{each} per epoch, {origin}{where}"


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 10 else format_duration(value)


def read_speeds(paths: SweepPaths, shapes: Collection[Shape], num_slots: int) -> SpeedBook:
    """Speeds of these shapes: from the sweep's own trials, then from those of other sweeps, then measured ones.

    Trials on this machine count before those on others. At most NUM_SWEEPS other sweeps are read.
    """
    book = SpeedBook()
    for sweep in _sweeps(paths):
        wanted = {shape for shape in shapes if book.of(shape) is None}
        if not wanted:
            break
        for shape, speed in _speeds_of(paths, sweep, wanted).items():
            book.add(shape, speed)
    for shape in shapes:
        if book.of(shape) is None and (speed := read_measured(shape, num_slots)) is not None:
            book.add(shape, speed)
    return book


def _sweeps(paths: SweepPaths) -> Iterable[str]:
    """The sweep itself, then others of its folder, the newest first."""
    if paths.folder.is_dir():
        yield paths.sweep
    if is_remote(paths.root) or not paths.root.is_dir():
        return
    plans = [(entry.stat().st_mtime, entry.parent.name) for entry in paths.root.glob("*/plan.json")]
    names = [name for _, name in sorted(plans, reverse=True) if name != paths.sweep]
    yield from names[:NUM_SWEEPS]


def _speeds_of(paths: SweepPaths, sweep: str, wanted: Collection[Shape]) -> dict[Shape, Speed]:
    from flexres_tune.spec.architecture import Architecture

    timing = [
        "train_seconds",
        "epochs_run",
        "started_at",
        "finished_at",
        "attempt",
        "reused_from",
        "hostname",
        "device",
        "status",
    ]
    columns = [*Architecture.model_fields, *SETTINGS, *timing]
    try:
        results = open_results(paths.root)
        table = results.trials(sweep)
        rows = table.select([name for name in columns if name in table.column_names]).to_pylist()
    except ResultsError:
        return {}
    found: dict[Shape, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        if row["epochs_run"] and row["train_seconds"] and (shape := _shape(row)) in wanted:
            found[shape].append(row)
    return {shape: _speed(sweep, rows) for shape, rows in found.items()}


def _speed(sweep: str, rows: Sequence[Mapping[str, Any]]) -> Speed:
    here = [row for row in rows if row["hostname"] == socket.gethostname()] or rows
    to_end, others = _overheads(here)
    # Of two, the lower one: the other one may have waited for its process.
    usual_to_end = statistics.median_low(to_end) if to_end else OVERHEAD_S
    usual = statistics.median_low(others) if others else min(OVERHEAD_S, usual_to_end)
    starts = [
        each - least
        for found, least in ((to_end, usual_to_end), (others, usual))
        for each in found
        if each > least + LEAST_START_S
    ]
    devices = Counter(row["device"] for row in here if row["device"])
    return Speed(
        epoch_s=sum(row["train_seconds"] for row in here) / sum(row["epochs_run"] for row in here),
        overhead_s=max(0.0, usual),
        end_s=max(0.0, usual_to_end - usual) if to_end else 0.0,
        num_trials=len(here),
        source=sweep,
        device=devices.most_common(1)[0][0] if devices else "",
        start_s=statistics.median(starts) if starts else START_S,
    )


def _overheads(rows: Iterable[Mapping[str, Any]]) -> tuple[list[float], list[float]]:
    """Seconds besides training: of trials that ran to their end at once, and of others that were begun once."""
    to_end: list[float] = []
    others: list[float] = []
    for row in rows:
        if row["attempt"] == 1 and not row["reused_from"] and row["finished_at"] and row["started_at"]:
            seconds = (row["finished_at"] - row["started_at"]).total_seconds() - row["train_seconds"]
            (to_end if row["status"] == TrialStatus.COMPLETED else others).append(seconds)
    return to_end, others


def read_measured(shape: Shape, num_slots: int) -> Speed | None:
    """What `--measure` has stored on this machine."""
    try:
        return Speed(**parse_json(read_file(_file(shape, num_slots))))
    except (OSError, ValueError, TypeError):
        return None


def store_measured(shape: Shape, num_slots: int, speed: Speed) -> None:
    """Store a measurement for later dry runs on this machine.

    Raises:
        OSError: the cache folder cannot be written.
    """
    atomic_write_text(_file(shape, num_slots), json.dumps(asdict(speed)))


def _file(shape: Shape, num_slots: int) -> Any:
    key = json.dumps([shape, num_slots, os.cpu_count(), os.environ.get("CUDA_VISIBLE_DEVICES")])
    digest = hashlib.sha256(key.encode()).hexdigest()[:24]
    return DataPaths.from_environment().root / "speeds" / f"epochs-{digest}.json"
