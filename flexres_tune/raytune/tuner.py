"""One Tuner.fit in a thread of its own: there Ray leaves the signal handlers alone, and the main thread has them."""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray import tune
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.search import ConcurrencyLimiter

from flexres_tune.cluster.ray_processes import TUNE_THREAD, dead_ray_processes
from flexres_tune.cluster.resources import TrialResources
from flexres_tune.raytune.adapters import DriverSide, JournalScheduler, SourceSearcher
from flexres_tune.raytune.concurrency import ConcurrencyUpdater
from flexres_tune.storage import AnyPath, is_remote
from flexres_tune.sweep.journal import Journal
from flexres_tune.sweep.signals import REMOTE_SAVE_S, SAVE_S, WIND_DOWN_S, Signals


@dataclass
class Outcome:
    """How Tune ended, where it did not end by itself."""

    error: Exception | None = None
    dead: list[str] = field(default_factory=list)  # Ray's own processes that died


class _StopAll(DriverSide, tune.Stopper):
    """Ends the experiment once a signal has come and the trials had the time to save where they are."""

    def __init__(self, interrupt: Signals, save_s: float):
        self._interrupt = interrupt
        self._save_s = save_s

    def __call__(self, trial_id: str, result: dict) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._interrupt.seconds_since >= self._save_s


class Silence(DriverSide, TrialProgressCallback):
    """Takes the place of Ray's own lines about trials: with verbose=0, too, one is printed for each trial that ends
    before its first result.
    """

    def on_trial_result(self, *args, **info) -> None: ...

    def on_trial_error(self, *args, **info) -> None: ...

    def on_trial_complete(self, *args, **info) -> None: ...


def run_tuner(
    journal: Journal,
    searcher: SourceSearcher,
    callbacks: Sequence[tune.Callback],
    share: TrialResources,
    interrupt: Signals,
    stop_file: AnyPath,
    trainable: Callable[[dict[str, Any]], None],
    max_failures: int,
    verbose: bool,
    num_slots: Callable[[], int] | None,
    on_message: Callable[[str], None],
) -> Outcome:
    """Run what the searcher hands out. Tune's thread is left behind where it does not end in time: it may wait for a
    process that no longer answers, and the journal takes nothing more from it.
    """
    if not verbose:
        for name in ("ray.tune", "ray.train", "ray.air"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    folder = tempfile.mkdtemp(prefix="flexres_tune_ray_")  # Ray wants one; nothing in it is ours
    limiter = ConcurrencyLimiter(searcher, share.num_concurrent)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": share.cpu, "gpu": share.gpu}),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=limiter,
            scheduler=JournalScheduler(journal),
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=folder,
            callbacks=[*callbacks, *([] if verbose else [Silence()])],
            stop=_StopAll(interrupt, REMOTE_SAVE_S if is_remote(stop_file) else SAVE_S),
            failure_config=tune.FailureConfig(max_failures=max_failures),
            verbose=0,
        ),
    )
    outcome = Outcome()
    is_marked = False

    def run() -> None:
        try:
            tuner.fit()
        except Exception as error:  # handed to the main thread, which has rows to write first
            outcome.error = error

    thread = threading.Thread(target=run, name=TUNE_THREAD, daemon=True)
    thread.start()
    try:
        with ConcurrencyUpdater(limiter, num_slots, on_message):
            while thread.is_alive() and interrupt.seconds_since < WIND_DOWN_S:
                thread.join(0.1)
                if interrupt.requested and not is_marked:
                    with contextlib.suppress(OSError):  # a full disk: the trials are ended where they are
                        stop_file.touch()
                        is_marked = True
                if dead_ray_processes():
                    break
        outcome.dead = dead_ray_processes()  # also where Tune has noticed first, and raised something
    finally:
        if is_marked:
            with contextlib.suppress(OSError):
                stop_file.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    return outcome
