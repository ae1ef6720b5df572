"""bench sweep: the driver's own time, measured with trials that only report, against plain Ray Tune in one run."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from flexres_tune.bench.driver.pauses import time_pauses
from flexres_tune.bench.figures import Bench, Figure, ratios
from flexres_tune.bench.steps import say_step
from flexres_tune.cluster.connection import connect
from flexres_tune.cluster.resources import TrialResources
from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.results.paths import SweepPaths
from flexres_tune.search.lists import ListSearch
from flexres_tune.spec import SweepSpec, expand_trials
from flexres_tune.sweep.journal import Display
from flexres_tune.sweep.signals import Signals

NUM_CONCURRENT = 2


def bench_sweep(num_trials: int, growth: int, repeats: int) -> Bench:
    """Time for trials of NUM_REPORTS reports: our driver, Ray's defaults, Ray at its best.

    Args:
        growth: the last measurement runs this many times as many trials; 1 leaves it out.
    """
    from flexres_tune.bench.driver.noop import NUM_REPORTS, time_plain

    say_step("starting Ray, and a sweep to warm up")
    with connect(None) as _:
        time_ours(NUM_CONCURRENT)  # not measured: the first sweep also starts Ray's helper processes
        ours, tuned = [], []
        for number in range(1, repeats + 1):
            say_step(f"{num_trials} trials with our driver, then with Ray Tune at its best, {number} of {repeats}")
            ours.append(time_ours(num_trials))
            tuned.append(time_plain(num_trials, tuned=True))
        say_step(f"{num_trials} trials with Ray Tune's defaults")
        default = [time_plain(num_trials, tuned=False)]
        say_step("pauses")
        pauses = time_pauses(repeats, NullDisplay())
        figures = [
            Figure.of(f"ours, {num_trials} trials", "s", ours),
            Figure.of(f"Ray Tune at its best, {num_trials} trials", "s", tuned),
            Figure.of(f"Ray Tune's defaults, {num_trials} trials", "s", default),
            Figure.of("defaults / ours", "x", [default[0] / value for value in ours]),
            Figure.of("ours / best", "x", ratios(ours, tuned)),
            *pauses,
        ]
        if growth > 1:
            say_step(f"{growth * num_trials} trials with our driver")
            many = time_ours(growth * num_trials)
            figures += [
                Figure.of(f"ours, {growth * num_trials} trials", "s", [many]),
                Figure.of(f"time for {growth} times the trials", "x", [many / value for value in ours]),
            ]
    note = f"{NUM_REPORTS} reports per trial, {NUM_CONCURRENT} trials at once; the start of processes is included"
    return Bench("sweep: the driver", tuple(figures), (note,))


class NullDisplay(Display):
    """A display that shows nothing."""


def time_ours(num_trials: int) -> float:
    """Seconds that our driver takes for trials that only report, tables included, on the connected cluster."""
    from flexres_tune.bench.driver.noop import report_only

    with tempfile.TemporaryDirectory(prefix="flexres_tune_bench_", ignore_cleanup_errors=True) as folder:
        return run_ours(Path(folder), {"seeds": list(range(num_trials))}, NUM_CONCURRENT, NullDisplay(), report_only)


def run_ours(
    root: Path,
    trials: Mapping[str, Any],
    num_concurrent: int,
    display: Display,
    trainable: Callable[[dict[str, Any]], None],
) -> float:
    """Run trials that train nothing through our driver, on the connected cluster; returns the seconds that it took.

    Args:
        trials: the part of a sweep file that says which trials there are.
    """
    from flexres_tune.bench.driver.noop import NUM_REPORTS
    from flexres_tune.raytune.runner import TuneRun, run_trials

    spec = SweepSpec.model_validate(
        {
            "name": "bench",
            "base": {"model": "tiny", "dataset": "digits", "epochs": NUM_REPORTS},
            "early_terminate": {"type": "asha", "variant": "stopping", "grace_period": 1},
            **trials,
        }
    )
    run = TuneRun(
        spec=spec,
        search=ListSearch(expand_trials(spec, describe_dataset)),
        paths=SweepPaths(root, spec.name),
        resources=TrialResources(cpu=1, gpu=0, num_concurrent=num_concurrent, reason=""),
        signals=Signals(),
        display=display,
        trainable=trainable,
    )
    started = time.perf_counter()
    run_trials(run)
    return time.perf_counter() - started
