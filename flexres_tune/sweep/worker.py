"""One trial in a worker process: job -> stream of reports, the last of which says how the trial ended.

Imports no ray, so the stream can be tested without it. Every fact that the tables need is part of a report, because
nothing runs in a trial after its last one: a stopped trial gets SystemExit at the report itself.

A test can make trials slow or let them fail: if the environment variable FLEXRES_TUNE_TRIAL_HOOK of a worker names
`module:function`, its trials report what function(job, reports) yields instead of `reports`, the stream of the real
trial. Nothing but this file reads the variable.
"""

from __future__ import annotations

import contextlib
import os
import pkgutil
import platform
import socket
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from flexres_tune.errors import DivergedError, FlexResError, StorageError
from flexres_tune.records import EpochMetrics, LabelRecord, PrecisionUsed, PredictionRecord, Predictions, TrialStatus
from flexres_tune.storage import is_remote, make_path
from flexres_tune.sweep.signals import REMOTE_STOP_PERIOD_S, STOP_PERIOD_S
from flexres_tune.sweep.spot import NodeLeavingError, SpotNotice, find_cloud

if TYPE_CHECKING:
    from flexres_tune.datasets.images import ImageData

TRIAL_HOOK = "FLEXRES_TUNE_TRIAL_HOOK"


@dataclass(frozen=True)
class TrialJob:
    """What a worker needs to run one trial: plain values, because it is sent to another process."""

    trial_id: str
    config: dict[str, Any]  # TrialConfig.to_dict()
    checkpoint: str | None  # fixed per trial_id; every attempt resumes from it if it exists
    checkpoint_period_s: float
    num_threads: int
    until_epoch: int | None = None  # epoch at which the trial pauses; None: it runs all its epochs
    folder: str = "."  # the command's working directory, to which relative data paths refer
    stop_file: str | None = None  # as soon as it exists, the trial saves a checkpoint and ends
    num_gpus: float = 0.0  # that Ray has assigned to it
    mps: bool = False  # whether NVIDIA's MPS serves it
    precisions: Mapping[str, PrecisionUsed] = field(default_factory=dict)  # of the sweep, by kind of device
    metrics: tuple[str, ...] = ()  # further ones; own code carries its source
    can_move: bool = False  # whether it can continue on another machine if the cloud takes this one away
    with_predictions: bool = False  # whether the last report has what the model says about each image


@dataclass(frozen=True)
class TrialFacts:
    """Where and with what a trial runs."""

    hostname: str | None = None
    device: str | None = None
    precision_used: str | None = None
    compile_used: bool | None = None
    execution: str | None = None
    peak_memory_bytes: int | None = None
    torch_version: str = ""
    python_version: str = ""
    problem: str | None = None  # a checkpoint that could not be written; the trial continues
    notice: str | None = None  # a defect of the node, shown once per sweep


@dataclass(frozen=True)
class TrialReport:
    """One message of a trial: an epoch's metrics, or its end, or both."""

    metrics: EpochMetrics | None
    facts: TrialFacts = field(default_factory=TrialFacts)
    status: TrialStatus | None = None  # None: the trial continues
    error: str | None = None
    is_repeat: bool = False  # an epoch from the checkpoint's history, computed by an earlier attempt
    predictions: tuple[PredictionRecord, ...] = ()  # of a trial that ran all its epochs
    labels: tuple[LabelRecord, ...] = ()  # of the same splits

    def without_predictions(self) -> TrialReport:
        """The report without what needs much memory."""
        return replace(self, predictions=(), labels=())


def run_job(job: TrialJob) -> Iterator[TrialReport]:
    """Reports of one trial. An exception inside becomes the last report, except two that are raised.

    After one of them CUDA is of no use: the process ends, Ray counts it as one that died, and the next trial gets a new
    process. The other one is NodeLeavingError.
    """
    facts = TrialFacts(hostname=socket.gethostname(), python_version=platform.python_version())
    try:
        if os.path.isdir(job.folder):  # Ray has moved this process to another folder
            os.chdir(job.folder)
        reports = _train(job, facts)
        hook = os.environ.get(TRIAL_HOOK)
        yield from pkgutil.resolve_name(hook)(job, reports) if hook else reports
    except NodeLeavingError:
        raise
    except DivergedError as error:
        yield TrialReport(None, facts, TrialStatus.DIVERGED, str(error))
    except FlexResError as error:
        yield TrialReport(None, facts, TrialStatus.FAILED, f"{type(error).__name__}: {error}")
    except Exception as error:  # the sweep continues, and the trial's row has the traceback
        status, text = _describe_failure(error)
        if status is None:
            raise
        yield TrialReport(None, facts, status, text)
    finally:
        if job.num_gpus:
            _release_gpu(job.num_gpus)


def _release_gpu(num_gpus: float) -> None:
    """Give back what the trial had: other processes may need it before this one trains again."""
    from flexres_tune.training.device import release_memory, trial_device

    with contextlib.suppress(RuntimeError):  # of a broken device
        release_memory(trial_device(num_gpus))


def _describe_failure(error: Exception) -> tuple[TrialStatus | None, str]:
    """(how the trial ended, its traceback); no status if the process cannot use its device any more."""
    try:
        from flexres_tune.training.device import is_device_broken, is_out_of_memory

        if is_device_broken(error):
            return None, ""
        status = TrialStatus.OUT_OF_MEMORY if is_out_of_memory(error) else TrialStatus.FAILED
        return status, traceback.format_exc()
    except MemoryError:  # under `ulimit -v` there may be too little even for this
        return TrialStatus.OUT_OF_MEMORY, f"MemoryError, after {type(error).__name__}: {error}"


def _train(job: TrialJob, facts: TrialFacts) -> Iterator[TrialReport]:
    import torch  # not above: the driver imports this module without torch

    from flexres_tune.datasets import load_trial_data
    from flexres_tune.spec import TrialConfig
    from flexres_tune.training import Checkpointer, Request, choose_execution, final_predictions, fit
    from flexres_tune.training import device as devices
    from flexres_tune.training.execution import precision_in_sweep
    from flexres_tune.training.mps import use_mps

    config = TrialConfig.model_validate(job.config)
    no_mps = use_mps() if job.mps else None  # before the first use of CUDA
    device = devices.trial_device(job.num_gpus)
    if device.type == "cpu":
        torch.set_num_threads(job.num_threads)  # OpenMP keeps it per thread, so each trial sets it in its own
    devices.limit_memory(device, job.num_gpus)
    problems: list[FlexResError] = []
    checkpoint = make_path(job.checkpoint) if job.checkpoint else None
    checkpointer = Checkpointer(checkpoint, job.checkpoint_period_s, problems.append)
    precision = checkpointer.precision(config.trial_id) or precision_in_sweep(job.precisions, device)
    execution = choose_execution(config, device, precision)
    devices.release_memory(device)
    devices.reset_peak_memory(device)
    facts = replace(
        facts,
        device=devices.device_name(device),
        precision_used=execution.precision,
        compile_used=execution.compile,
        execution=execution.label,
        torch_version=torch.__version__,
        notice=_notice(facts.hostname, bool(job.num_gpus) and device.type == "cpu", no_mps),
    )
    data = load_trial_data(config, device)
    with SpotNotice(find_cloud() if job.can_move else None) as is_leaving, StopCheck(job.stop_file) as stop_check:
        must_stop = EitherStop(stop_check, is_leaving)
        epochs = fit(config, data, execution, checkpointer, must_stop, Request(job.until_epoch, job.metrics))
        status = None
        for metrics in epochs:
            problem = str(problems[-1]) if problems else None
            peak = devices.peak_memory_bytes(device)
            facts = replace(facts, peak_memory_bytes=peak, problem=problem, execution=execution.label)
            if execution.failures:
                facts = replace(facts, notice=_no_graph(facts.hostname, execution.failures[0]))
            problems.clear()
            status = {job.until_epoch: TrialStatus.PAUSED, config.epochs: TrialStatus.COMPLETED}.get(metrics.epoch)
            report = TrialReport(metrics, facts, status, is_repeat=not must_stop.was_called)
            if job.with_predictions and status is TrialStatus.COMPLETED:
                predictions, labels = _records(job.trial_id, data, final_predictions(epochs))
                report = replace(report, predictions=predictions, labels=labels)
            yield report
        if is_leaving() and status is None:
            text = f"{facts.hostname}: {is_leaving.cloud} takes this machine away; its trials have saved and move"
            yield TrialReport(None, replace(facts, notice=text))
            raise NodeLeavingError


def _records(
    trial_id: str, data: ImageData, predictions: Mapping[str, Predictions | None]
) -> tuple[tuple[PredictionRecord, ...], tuple[LabelRecord, ...]]:
    """The rows of `predictions` and `labels` of a trial, by split."""
    rows, labels = [], []
    for split, found in predictions.items():
        if found is None:
            continue
        key = {"dataset": data.name, "split": split, "subset": data.subset if split == "val" else "fixed"}
        values = {name: value for name, value in vars(found).items() if name not in ("labels", "images")}
        rows.append(PredictionRecord(trial_id=trial_id, **key, **values))
        labels.append(LabelRecord(**key, image=found.images, label=found.labels, class_names=data.class_names))
    return tuple(rows), tuple(labels)


def _no_graph(hostname: str | None, failure: str) -> str:
    return f"{hostname}: {failure}; trials train eagerly there, which may be slower and changes no result"


def _notice(hostname: str | None, misses_gpu: bool, no_mps: str | None) -> str | None:
    """What is wrong with the node, in words; None: nothing."""
    if not misses_gpu:
        return no_mps and f"{hostname}: {no_mps}; trials that share a GPU take turns there"
    torch_version = version("torch")
    return (
        f"{hostname}: torch must see the GPU that a trial holds, but torch {torch_version} sees none, so trials train "
        "on the CPU there; run python -m flexres_tune.doctor for details, or use --set resources_per_trial.gpu=0"
    )


class EitherStop:
    """Whether to stop because of the stop file or because the machine leaves, which fit() asks before each step.

    Until its first call, no epoch was computed here.
    """

    def __init__(self, stop_check: StopCheck, is_leaving: SpotNotice):
        self._stop_check, self._is_leaving = stop_check, is_leaving
        self.was_called = False

    def __call__(self) -> bool:
        self.was_called = True
        return self._is_leaving() or self._stop_check()


class StopCheck:
    """Whether to stop, which fit() asks before each step. Until its first call, no epoch was computed here.

    On object storage a thread looks for the stop file, so that no step waits for a server, even one that is down.
    """

    def __init__(
        self, stop_file: str | None, period_s: float = STOP_PERIOD_S, remote_period_s: float = REMOTE_STOP_PERIOD_S
    ):
        self._stop_file = make_path(stop_file) if stop_file else None
        self._period_s, self._remote_period_s = period_s, remote_period_s
        self._checked_at = 0.0
        self._exists, self._has_ended = threading.Event(), threading.Event()
        self.was_called = False

    def __enter__(self) -> StopCheck:
        if self._stop_file is not None and is_remote(self._stop_file):
            threading.Thread(target=self._watch, name="stop file", daemon=True).start()
        return self

    def __exit__(self, *exc_info) -> None:
        self._has_ended.set()

    def __call__(self) -> bool:
        self.was_called = True
        now = time.monotonic()
        if self._stop_file is None or now - self._checked_at < self._period_s:
            return False
        self._checked_at = now
        return self._exists.is_set() if is_remote(self._stop_file) else self._stop_file.exists()

    def _watch(self) -> None:
        while not self._has_ended.wait(self._remote_period_s):
            try:
                if self._stop_file.exists():
                    return self._exists.set()
            except StorageError:
                continue
