"""run_trials: one search, run by Ray Tune on the connected cluster, with all that happens written to the tables."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ray import tune
from ray.tune.execution import class_cache
from ray.tune.search import ConcurrencyLimiter

from flexres_tune.cluster.idle_machines import IdleMachines
from flexres_tune.cluster.ray_processes import TUNE_THREAD, RayLostError, dead_ray_processes
from flexres_tune.cluster.resources import NodeResources, TrialResources, read_autoscaler_config
from flexres_tune.cluster.shared_cluster import SharedCluster
from flexres_tune.cluster.shared_machine import SharedMachine
from flexres_tune.errors import FlexResError
from flexres_tune.provenance import git_commit, versions
from flexres_tune.raytune.adapters import JournalCallback, JournalScheduler, NoRayOutput, SearchAdapter, StopAll
from flexres_tune.raytune.concurrency import ConcurrencyUpdater
from flexres_tune.raytune.loggers import make_logger
from flexres_tune.raytune.steering import SteeringCallback
from flexres_tune.raytune.trainable import train_trial
from flexres_tune.raytune.watchdog import Watchdog
from flexres_tune.records import PrecisionUsed, TrialStatus
from flexres_tune.results.holder import Holder
from flexres_tune.results.lock import find_holder
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from flexres_tune.search.base import Assignment, History, Search
from flexres_tune.spec import PlannedTrial, SweepSpec
from flexres_tune.storage import AnyPath, is_remote
from flexres_tune.sweep.backpressure import Backpressure
from flexres_tune.sweep.checkpoints import CheckpointRetention, checkpoint_period_s
from flexres_tune.sweep.fail_fast import FailFast
from flexres_tune.sweep.history import read_reports
from flexres_tune.sweep.journal import Display, Journal, TrialState
from flexres_tune.sweep.options import RunOptions
from flexres_tune.sweep.signals import REMOTE_SAVE_S, SAVE_S, Signals
from flexres_tune.sweep.steering import Inbox, identity
from flexres_tune.sweep.worker import TrialJob
from flexres_tune.text import plural

CREDENTIALS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SECURITY_TOKEN", "AWS_SESSION_TOKEN")


@dataclass(frozen=True)
class TuneRun:
    """One run of Ray Tune: what is trained, where, and who is told."""

    spec: SweepSpec
    search: Search
    paths: SweepPaths
    resources: TrialResources  # of each trial, and how many run at once
    signals: Signals
    display: Display
    history: History = field(default_factory=History)  # of earlier runs
    judged: Sequence[PlannedTrial] = ()  # the sweep's trials with which new ones are compared
    options: RunOptions = field(default_factory=RunOptions)
    fail_fast: FailFast = field(default_factory=FailFast)
    node: NodeResources | None = None  # this machine; None: it is not shared with sweeps in another Ray
    precisions: Mapping[str, PrecisionUsed] = field(default_factory=dict)  # of `precision: auto`, by kind of device
    measure_slots: Callable[[], int] | None = None  # how many trials the cluster can hold now; None: it cannot grow
    check_reload: Callable[[], str] = lambda: "it has none"  # the problems of the sweep file as it is now
    num_later: int = 0  # trials of the stages that follow, which may use the same machines
    trainable: Callable[[dict[str, Any]], None] = train_trial  # benchmarks and tests run another one


def run_trials(run: TuneRun) -> dict[str, TrialState]:
    """Run the search until it has no more trials, the first ones all fail alike, or a signal arrives.

    Returns:
        Every trial that was started, by trial_id; each has its row in the tables.

    Raises:
        RayLostError: Ray's own processes died.
        FlexResError: Ray Tune itself failed; finished trials are in the tables, the others are `interrupted`.
        ResultsError: interrupted while rows could not be written.
    """
    past = read_reports(run.paths, run.spec.metric)
    writer = SweepWriter(run.paths)
    journal = Journal(run.spec, writer, versions(), git_commit())
    journal.replay(past, run.judged)
    backpressure = Backpressure(writer, journal.lock, run.display.message)
    scores = past.scores(run.history, run.spec.metric)
    retention = CheckpointRetention(run.paths, run.spec.metric, run.history.trials, scores)
    stop_file = run.paths.folder.resolve() / f".stop-{uuid.uuid4().hex[:12]}"  # a new name: an old file stops nobody

    shared = _share(run, lambda: searcher.most_at_once)

    def on_change(state: TrialState) -> None:
        if state.record is not None:
            shared.ended(state.trial_id)
        retention.update(state)
        run.fail_fast.update(state)
        run.display.update(state)

    def make_job(assignment: Assignment) -> TrialJob:
        shared.started(assignment.trial.config.trial_id)
        return _make_job(run, assignment, stop_file)

    searcher = SearchAdapter(
        run.search,
        make_job=make_job,
        on_decision=journal.record_decision,
        must_wait=lambda: journal.is_closed or backpressure.must_wait() or not shared.may_start(),
        is_over=lambda: run.signals.requested or run.fail_fast.error is not None,
        on_lost=shared.ended,
    )
    limiter = ConcurrencyLimiter(searcher, run.resources.num_concurrent)
    watchdog = Watchdog(journal, run.options.trial_timeout_s)
    attempts = past.num_attempts(run.history)
    callback = JournalCallback(journal, limiter, watchdog, attempts, on_change, run.display.message)
    loggers = [make_logger(name, run.paths, run.display.message) for name in run.options.loggers]
    inbox = Inbox(run.paths, identity(find_holder(run.paths) or Holder()))
    steering = SteeringCallback(inbox, journal, run.search, run.signals, run.check_reload, run.display.message)
    callbacks = [callback, steering, *loggers]
    with backpressure, shared, inbox, _idle_machines(run, searcher, journal):
        error = _run_tuner(run, journal, limiter, shared, callbacks, stop_file)
    for state in journal.close():
        on_change(state)
    backpressure.finish(run.signals)
    retention.close()
    with contextlib.suppress(FlexResError):  # many small parts are read like a single one
        writer.compact()
    if error is not None and not run.signals.requested:
        raise error
    return journal.states


def _share(run: TuneRun, most_at_once: Callable[[], int]) -> SharedMachine | SharedCluster:
    """This sweep's place among others that run at once."""
    if run.node is None:
        return SharedCluster(run.spec.name, run.resources.num_concurrent, most_at_once, run.display.message)
    return SharedMachine(run.node, run.spec.name, run.resources, run.display.message)


def _idle_machines(run: TuneRun, searcher: SearchAdapter, journal: Journal) -> IdleMachines:
    """Ends the machines that neither this search nor what follows it can use, if Ray's autoscaler started them."""

    def most_at_once() -> int:
        if run.signals.requested:  # the same command may be typed again
            return run.resources.num_concurrent
        records = [state.record for state in list(journal.states.values())]
        num_to_repeat = sum(each is not None and each.status == TrialStatus.OUT_OF_MEMORY for each in records)
        return max(searcher.most_at_once, run.num_later, num_to_repeat)

    config = read_autoscaler_config() if run.node is None else None
    return IdleMachines(config, run.resources, most_at_once, run.display.message)


def _num_to_keep(run: TuneRun, searcher: SearchAdapter, shared: SharedMachine | SharedCluster) -> int:
    """How many idle processes to keep for trials that will continue: none that would take room from another sweep."""
    if not run.spec.early_terminate.pauses:
        return 0
    room = run.resources.num_concurrent if shared.num_free is None else shared.num_free
    return min(room, searcher.num_to_come)


def _say_stopping(run: TuneRun, journal: Journal) -> None:
    running = sum(state.record is None for state in list(journal.states.values()))
    run.display.message(f"stopping: saving {plural(running, 'trial')} ...")


def _make_job(run: TuneRun, assignment: Assignment, stop_file: AnyPath) -> TrialJob:
    config = assignment.trial.config
    return TrialJob(
        trial_id=config.trial_id,
        config=config.to_dict(),
        checkpoint=str(run.paths.checkpoint(config.trial_id).resolve()),
        checkpoint_period_s=checkpoint_period_s(run.resources.num_concurrent),
        num_threads=run.resources.num_threads,
        until_epoch=assignment.until_epoch,
        folder=os.getcwd(),
        stop_file=str(stop_file),
        num_gpus=run.resources.gpu,
        mps=run.resources.mps,
        precisions=dict(run.precisions),
        metrics=run.spec.metrics,
        with_predictions=run.spec.predictions,
        can_move=run.node is None,
    )


def _run_tuner(
    run: TuneRun,
    journal: Journal,
    limiter: ConcurrencyLimiter,
    shared: SharedMachine | SharedCluster,
    callbacks: Sequence[tune.Callback],
    stop_file: AnyPath,
) -> FlexResError | None:
    """Tuner.fit in a thread of its own, because in the main thread Ray would replace the signal handlers.

    Returns why the sweep ended early, None if it did not: the caller raises it after all rows are written.

    The thread is left behind if it does not end in time after a signal, or if Ray's own processes died: it may wait
    for an answer that never comes. The journal, which is closed then, ignores what the thread still does.
    """
    if not run.options.verbose:
        for name in ("ray.tune", "ray.train", "ray.air"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    _do_not_send_credentials()
    folder = tempfile.mkdtemp(prefix="flexres_tune_ray_")  # Ray requires one; we read nothing in it
    stopper = StopAll(run.signals, REMOTE_SAVE_S if is_remote(stop_file) else SAVE_S)
    scheduler = JournalScheduler(journal, lambda: _num_to_keep(run, limiter.searcher, shared))
    tuner = _make_tuner(run, scheduler, limiter, callbacks, stopper, folder)
    errors: list[FlexResError] = []

    def fit() -> None:
        try:
            tuner.fit()
        except Exception as error:
            errors.append(FlexResError(f"Ray Tune ended the sweep early: {type(error).__name__}: {error}"))
            errors[0].__cause__ = error

    thread = threading.Thread(target=fit, name=TUNE_THREAD, daemon=True)
    thread.start()
    has_stop_file = has_answered = False
    try:
        with ConcurrencyUpdater(limiter, run.measure_slots, run.display.message):
            while (
                thread.is_alive() and run.signals.seconds_since < run.signals.wind_down_s and not dead_ray_processes()
            ):
                thread.join(0.1)
                if run.signals.requested and not has_answered:
                    has_answered = True
                    _say_stopping(run, journal)
                if run.signals.requested and not has_stop_file:
                    with contextlib.suppress(OSError):  # a full disk: StopAll stops the trials, without a checkpoint
                        stop_file.touch()
                        has_stop_file = True
        if dead := dead_ray_processes():  # Tune may have noticed first, and raised an error
            errors.insert(0, RayLostError(f"Ray's own processes ({', '.join(dead)}) died"))
    finally:
        if has_stop_file:
            with contextlib.suppress(OSError):
                stop_file.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    return errors[0] if errors else None


def _do_not_send_credentials() -> None:
    """Let each trial have the credentials of its node, which docs/object-storage.md asks for.

    Ray Tune would send those of this process to each trial, and write them to the logs of its session.
    """
    class_cache.ENV_VARS_TO_PROPAGATE.difference_update(CREDENTIALS)


def _make_tuner(
    run: TuneRun,
    scheduler: JournalScheduler,
    limiter: ConcurrencyLimiter,
    callbacks: Sequence[tune.Callback],
    stopper: StopAll,
    folder: str,
) -> tune.Tuner:
    return tune.Tuner(
        tune.with_resources(run.trainable, {"cpu": run.resources.cpu, "gpu": run.resources.gpu}),
        tune_config=tune.TuneConfig(
            num_samples=-1,  # until the searcher has finished
            search_alg=limiter,
            scheduler=scheduler,
            reuse_actors=True,
            trial_dirname_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(
            name="sweep",
            storage_path=folder,
            progress_reporter=tune.CLIReporter(),  # the one for notebooks clears what we have printed below the cell
            callbacks=[*callbacks, *([] if run.options.verbose else [NoRayOutput()])],
            stop=stopper,
            failure_config=tune.FailureConfig(max_failures=run.options.max_failures),
            verbose=0,
        ),
    )
