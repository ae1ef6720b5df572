"""bench scale: what many trials at once cost the driver.

Trials on fake CPUs sleep and report; to the driver they look like trials on a GPU.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from flexres_tune.bench.driver.sweep import run_ours
from flexres_tune.bench.figures import Bench, Figure
from flexres_tune.sweep.journal import Display, TrialState

RAY_PROCESSES = ("raylet", "gcs_server")


@dataclass(frozen=True)
class Mark:
    """What the driver had used when a number of trials had ended."""

    num_trials: int
    num_reports: int
    seconds: float
    cpu_s: float  # of the driver, all of its threads
    resident_bytes: int  # of the driver
    ray_cpu_s: float  # of the raylet and the GCS


class Marks(Display):
    """A display that shows nothing, and takes a Mark when the given numbers of trials have ended."""

    def __init__(self, at: Collection[int]):
        self._at = frozenset(at)
        self._started = time.perf_counter()
        self._driver = psutil.Process()
        self._ray = [child for child in self._driver.children(recursive=True) if child.name() in RAY_PROCESSES]
        self._num_trials = self._num_reports = 0
        self._num_seen: dict[str, int] = {}
        self.marks: list[Mark] = []

    def mark(self) -> Mark:
        """What has been used so far."""
        ray_cpu_s = sum(map(_cpu_s, self._ray))
        seconds = time.perf_counter() - self._started
        resident_bytes = self._driver.memory_info().rss
        return Mark(self._num_trials, self._num_reports, seconds, _cpu_s(self._driver), resident_bytes, ray_cpu_s)

    def update(self, state: TrialState) -> None:
        """A trial has started, reported or ended."""
        seen = self._num_seen.pop(state.trial_id, 0)
        self._num_reports += len(state.history) - seen
        if state.record is None:
            self._num_seen[state.trial_id] = len(state.history)
            return
        self._num_trials += 1
        if self._num_trials in self._at:
            self.marks.append(self.mark())


def _cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def bench_scale(num_slots: int, num_trials: int, growth: int, epoch_s: float) -> Bench:
    """`num_trials * growth` trials, `num_slots` at once: the driver during the first `num_trials` and during the last.

    Counting begins when `num_slots` further trials have ended: until then processes start, which takes time of the
    machine but not of the driver.
    """
    from flexres_tune.bench.driver.fake_cluster import fake_cluster
    from flexres_tune.bench.driver.noop import NUM_REPORTS, sleep_and_report

    total = num_slots + num_trials * growth
    at = (num_slots, num_slots + num_trials, total - num_trials, total)
    with fake_cluster([(num_slots, 0)]), tempfile.TemporaryDirectory(prefix="flexres_tune_bench_") as folder:
        started = Path(folder, "started")
        started.mkdir()
        display = Marks(at)
        lr = {"values": [(k + 1) / (total + 1) for k in range(total)]}
        trainable = sleep_and_report(epoch_s, num_slots, started)
        run_ours(Path(folder), {"parameters": [{"lr": lr}]}, num_slots, display, trainable)
        marks = [*display.marks, display.mark()]  # the last one when the tables are closed
    closed, last, first = marks[-1], marks[-3:-1], marks[:2]
    figures = [*_figures(f"first {num_trials}", *first)]
    if growth > 1:
        figures += _figures(f"last {num_trials} of {num_trials * growth}", *last)
        figures.append(Figure.of("CPU per trial, last / first", "x", [_cpu_ms(*last) / _cpu_ms(*first)]))
        grown = (last[1].resident_bytes - first[1].resident_bytes) / (last[1].num_trials - first[1].num_trials)
        figures.append(Figure.of("driver's memory grows by", "kB/trial", [grown / 1000]))
    figures.append(Figure.of("from the last trial to the end", "s", [closed.seconds - last[1].seconds]))
    slept = f"{epoch_s:g} s" if epoch_s else "no time"
    note = f"{num_slots} trials at once on fake CPUs, {NUM_REPORTS} reports each, an epoch sleeps {slept}"
    return Bench("scale: the driver", tuple(figures), (note,))


def _figures(which: str, start: Mark, end: Mark) -> list[Figure]:
    seconds, reports = end.seconds - start.seconds, end.num_reports - start.num_reports
    cpu_s, ray_cpu_s = end.cpu_s - start.cpu_s, end.ray_cpu_s - start.ray_cpu_s
    values: Mapping[tuple[str, str], float] = {
        ("seconds", "s"): seconds,
        ("reports", "/s"): reports / seconds,
        ("driver's CPU", "% of a core"): 100 * cpu_s / seconds,
        ("driver's CPU per trial", "ms"): _cpu_ms(start, end),
        ("driver's CPU per report", "ms"): 1000 * cpu_s / reports,
        ("raylet's and GCS's CPU", "% of a core"): 100 * ray_cpu_s / seconds,
        ("driver's memory", "MB"): end.resident_bytes / 1e6,
    }
    return [Figure.of(f"{which}: {name}", unit, [value]) for (name, unit), value in values.items()]


def _cpu_ms(start: Mark, end: Mark) -> float:
    return 1000 * (end.cpu_s - start.cpu_s) / (end.num_trials - start.num_trials)
