"""One sweep, run: what is missing goes to Ray Tune, what happens goes to the tables."""

from __future__ import annotations

import contextlib
import math
import os
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flexres_tune.cluster.ray_processes import RayLostError
from flexres_tune.cluster.resources import TrialResources
from flexres_tune.errors import FlexResError
from flexres_tune.provenance import git_commit, versions
from flexres_tune.raytune.adapters import JournalCallback, SourceSearcher
from flexres_tune.raytune.loggers import make_logger
from flexres_tune.raytune.trainable import train_trial
from flexres_tune.raytune.tuner import run_tuner
from flexres_tune.raytune.watchdog import Watchdog
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from flexres_tune.search.sources import TrialSearch
from flexres_tune.spec import PlannedTrial, SweepSpec
from flexres_tune.sweep.backpressure import Backpressure
from flexres_tune.sweep.checkpoints import CheckpointRetention, checkpoint_period_s
from flexres_tune.sweep.history import WITHOUT_SCORE, History
from flexres_tune.sweep.journal import Display, Journal, TrialState
from flexres_tune.sweep.signals import Signals
from flexres_tune.sweep.worker import TrialJob


@dataclass(frozen=True)
class RunOptions:
    """How to run, beside what the sweep says; none of it changes a result."""

    max_failures: int = 2  # a trial whose process dies is started again so often
    trial_timeout_s: float | None = None  # a trial that reports nothing for so long is ended
    loggers: tuple[str, ...] = ()  # names in raytune/loggers.py, checked
    verbose: bool = False
    num_slots: Callable[[], int] | None = None  # trials that the cluster can hold now; None: as many as at the start
    trainable: Callable[[dict[str, Any]], None] = train_trial  # `bench sweep` runs one that only reports


def run_trials(
    spec: SweepSpec,
    source: TrialSearch,
    memory: History,
    budgets: Mapping[str, int],
    paths: SweepPaths,
    share: TrialResources,
    interrupt: Signals,
    display: Display,
    options: RunOptions,
) -> dict[str, TrialState]:
    """Run a source's trials on a connected cluster until it has no more, or until interrupted.

    Args:
        budgets: number of epochs of the sweep's trials that earlier runs may have judged, by trial_id.

    Returns:
        Every trial that was started, by trial_id; each has its row in the tables.

    Raises:
        RayLostError: Ray's own processes died.
        FlexResError: Ray Tune itself failed; finished trials are in the tables, the others are `interrupted`.
        ResultsError: interrupted while rows could not be written.
    """
    writer = SweepWriter(paths)
    journal = Journal(spec, writer, versions(), git_commit())
    backpressure = Backpressure(writer, journal.lock, display.message)
    journal.replay(memory.epochs, budgets, memory.decisions)
    stop_file = paths.folder.resolve() / f".stop-{uuid.uuid4().hex[:12]}"  # a name of its own: none is left from before

    def make_job(trial: PlannedTrial) -> TrialJob:
        trial_id = trial.config.trial_id
        return TrialJob(
            trial_id=trial_id,
            config=trial.config.to_dict(),
            checkpoint=str(paths.checkpoint(trial_id).resolve()),
            checkpoint_period_s=checkpoint_period_s(share.num_concurrent),
            num_threads=share.num_threads,
            folder=os.getcwd(),
            stop_file=str(stop_file),
            num_gpus=share.gpu,
        )

    keeper = CheckpointRetention(paths, memory.rows)

    def on_change(state: TrialState) -> None:
        keeper.update(state)
        display.update(state)

    searcher = SourceSearcher(source, make_job, backpressure.must_wait, is_over=lambda: interrupt.requested)
    callback = JournalCallback(
        journal,
        Watchdog(journal, options.trial_timeout_s),
        searcher,
        source,
        first_attempt=lambda trial_id: memory.attempts.get(trial_id, 0) + 1,
        score=lambda state: score_of(spec, state),
        on_change=on_change,
        on_message=display.message,
    )
    callbacks = [callback, *(make_logger(name, paths, display.message) for name in options.loggers)]
    with backpressure:
        outcome = run_tuner(
            journal,
            searcher,
            callbacks,
            share,
            interrupt,
            stop_file,
            options.trainable,
            options.max_failures,
            options.verbose,
            options.num_slots,
            display.message,
        )
    for state in journal.close():
        on_change(state)
    backpressure.finish(interrupt)
    keeper.close()
    with contextlib.suppress(FlexResError):  # the small parts are as good as one
        writer.compact()
    if outcome.dead and not interrupt.requested:
        raise RayLostError(f"Ray's own processes ({', '.join(outcome.dead)}) died")
    if outcome.error is not None and not interrupt.requested:
        error = outcome.error
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
