"""One sweep, run: what is missing goes to Ray Tune, what happens goes to the tables."""

from __future__ import annotations

import logging
import math
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ray import tune

from flexres_tune.errors import FlexResError
from flexres_tune.raytune.callback import JournalCallback
from flexres_tune.raytune.cluster import TrialShare
from flexres_tune.raytune.driver_side import DriverSide
from flexres_tune.raytune.interrupt import Interrupt
from flexres_tune.raytune.job import TrialJob
from flexres_tune.raytune.journal import Journal, TrialState
from flexres_tune.raytune.memory import WITHOUT_SCORE, Memory
from flexres_tune.raytune.schedulers import JournalScheduler
from flexres_tune.raytune.search import SourceSearcher
from flexres_tune.raytune.sources import TrialSource
from flexres_tune.raytune.trainable import train_trial
from flexres_tune.raytune.versions import git_commit, versions
from flexres_tune.records import TrialStatus
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import PlannedTrial, SweepSpec

CHECKPOINT_PERIOD_S = 10.0  # what a killed trial loses at most, beside its current epoch


@dataclass(frozen=True)
class RunOptions:
    """How to run, beside what the sweep says; none of it changes a result."""

    max_failures: int = 2  # a trial whose process dies is started again so often
    checkpoint_period_s: float = CHECKPOINT_PERIOD_S
    verbose: bool = False


def run_trials(
    spec: SweepSpec,
    source: TrialSource,
    memory: Memory,
    paths: SweepPaths,
    share: TrialShare,
    interrupt: Interrupt,
    on_change: Callable[[TrialState], None],
    options: RunOptions,
) -> dict[str, TrialState]:
    """Run a source's trials on a connected cluster until it has no more, or until interrupted.

    Returns:
        Every trial that was started, by trial_id; each has its row in the tables.

    Raises:
        FlexResError: Ray Tune itself failed; finished trials are in the tables, the others are `interrupted`.
    """
    with SweepWriter(paths) as writer:
        journal = Journal(spec, writer, versions(), git_commit())
        journal.replay(memory.epochs, {trial_id: row["epochs"] for trial_id, row in memory.rows.items()})

        def make_job(trial: PlannedTrial) -> TrialJob:
            trial_id = trial.config.trial_id
            return TrialJob(
                trial_id=trial_id,
                config=trial.config.to_dict(),
                checkpoint=str(paths.checkpoint(trial_id).resolve()),
                checkpoint_period_s=options.checkpoint_period_s,
                num_threads=share.num_threads,
                folder=os.getcwd(),
            )

        searcher = SourceSearcher(source, make_job)
        callback = JournalCallback(
            journal,
            writer,
            searcher,
            source,
            first_attempt=lambda trial_id: memory.attempts.get(trial_id, 0) + 1,
            score=lambda state: score_of(spec, state),
            on_change=on_change,
        )
        error = _fit(journal, searcher, callback, share, interrupt, options)
        for state in journal.finish_interrupted():
            on_change(state)
        _prune_checkpoints(paths, journal)
        writer.flush()
        writer.compact()
    if error is not None:
        raise FlexResError(f"Ray Tune ended the sweep early: {type(error).__name__}: {error}") from error
    return journal.states


def score_of(spec: SweepSpec, state: TrialState) -> float | None:
    """What a search method hears of a trial: its best value of the metric, higher is better; None if it has none.

    A trial that the scheduler stopped counts with what it reached.
    """
    if not state.history or (state.record and state.record.status in WITHOUT_SCORE):
        return None
    scores = (spec.metric.score(getattr(metrics, spec.metric.name)) for metrics in state.history.values())
    return max(filter(math.isfinite, scores), default=None)


class _StopAll(DriverSide, tune.Stopper):
    """Ends the experiment once a signal has come."""

    def __init__(self, interrupt: Interrupt):
        self._interrupt = interrupt

    def __call__(self, trial_id: str, result: dict) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._interrupt.requested


def _fit(
    journal: Journal,
    searcher: SourceSearcher,
    callback: JournalCallback,
    share: TrialShare,
    interrupt: Interrupt,
    options: RunOptions,
) -> Exception | None:
    """Tuner.fit in a thread of its own: there Ray leaves the signal handlers alone, and the main thread has them."""
    if not options.verbose:
        for name in ("ray.tune", "ray.train", "ray.air"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    folder = tempfile.mkdtemp(prefix="flexres_tune_ray_")  # Ray wants one; nothing in it is ours
    tuner = tune.Tuner(
        tune.with_resources(train_trial, {"cpu": share.cpu, "gpu": share.gpu}),
        tune_config=tune.TuneConfig(
            num_samples=-1,
            search_alg=searcher,
            scheduler=JournalScheduler(journal),
            max_concurrent_trials=share.num_concurrent,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=folder,
            callbacks=[callback],
            stop=_StopAll(interrupt),
            failure_config=tune.FailureConfig(max_failures=options.max_failures),
            verbose=0,
        ),
    )
    caught: list[Exception] = []

    def fit() -> None:
        try:
            tuner.fit()
        except Exception as error:  # handed to the main thread, which has rows to write first
            caught.append(error)

    thread = threading.Thread(target=fit, name="tune", daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(0.1)
    shutil.rmtree(folder, ignore_errors=True)
    return caught[0] if caught else None


def _prune_checkpoints(paths: SweepPaths, journal: Journal) -> None:
    """Only a trial that will go on needs its checkpoint."""
    for trial_id, state in journal.states.items():
        if state.record is not None and TrialStatus(state.record.status).is_final:
            paths.checkpoint(trial_id).unlink(missing_ok=True)
