"""One trial as a worker process runs it: job -> stream of reports, the last of which says how it ended.

Nothing here imports ray, so the stream can be tested without it. Every fact the tables need travels inside a report,
because nothing runs in a trial after its last one: a stopped trial gets SystemExit at the report itself.
"""

from __future__ import annotations

import os
import platform
import socket
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from flexres_tune.errors import DivergedError, FlexResError, StorageError
from flexres_tune.records import EpochMetrics, TrialStatus
from flexres_tune.storage import is_remote, make_path
from flexres_tune.sweep.signals import REMOTE_STOP_PERIOD_S, STOP_PERIOD_S


@dataclass(frozen=True)
class TrialJob:
    """What a worker needs to run one trial; plain values, as it crosses process borders."""

    trial_id: str
    config: dict[str, Any]  # TrialConfig.to_dict()
    checkpoint: str | None  # the trial's one place; a trial that starts looks there, whoever started it and why
    checkpoint_period_s: float
    num_threads: int
    folder: str = "."  # where the command was typed: relative data paths mean what they mean there
    stop_file: str | None = None  # once it is there, the trial saves where it is and ends
    num_gpus: float = 0.0  # that Ray has lent it


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
    problem: str | None = None  # what the trial goes on in spite of: a checkpoint that cannot be written
    notice: str | None = None  # what is amiss with its node, and is said once


@dataclass(frozen=True)
class TrialReport:
    """One message of a trial: an epoch's metrics, or its end, or both."""

    metrics: EpochMetrics | None
    facts: TrialFacts = field(default_factory=TrialFacts)
    status: TrialStatus | None = None  # None: the trial goes on
    error: str | None = None
    is_repeat: bool = False  # an epoch of the checkpoint's history, computed by an earlier attempt


def run_job(job: TrialJob) -> Iterator[TrialReport]:
    """Reports of one trial. Whatever goes wrong inside becomes the last report: an exception never leaves."""
    facts = TrialFacts(hostname=socket.gethostname(), python_version=platform.python_version())
    try:
        if os.path.isdir(job.folder):  # Ray has moved this process to a folder of its own
            os.chdir(job.folder)
        yield from _train(job, facts)
    except DivergedError as error:
        yield TrialReport(None, facts, TrialStatus.DIVERGED, str(error))
    except FlexResError as error:
        yield TrialReport(None, facts, TrialStatus.FAILED, f"{type(error).__name__}: {error}")
    except Exception as error:  # the sweep goes on; the row carries the traceback
        from flexres_tune.training.device import is_out_of_memory

        status = TrialStatus.OUT_OF_MEMORY if is_out_of_memory(error) else TrialStatus.FAILED
        yield TrialReport(None, facts, status, traceback.format_exc())


def _train(job: TrialJob, facts: TrialFacts) -> Iterator[TrialReport]:
    import torch  # here, so that importing this module costs the driver nothing

    from flexres_tune.datasets import load_dataset
    from flexres_tune.spec import TrialConfig
    from flexres_tune.training import device as devices
    from flexres_tune.training import fit
    from flexres_tune.training.execution import choose_execution

    config = TrialConfig.model_validate(job.config)
    device = devices.pick_device()
    if device.type == "cpu":
        torch.set_num_threads(job.num_threads)  # per thread under OpenMP, hence here and for every trial
    execution = choose_execution(config, device)
    devices.reset_peak_memory(device)
    facts = replace(
        facts,
        device=devices.device_name(device),
        precision_used=execution.precision,
        compile_used=execution.compile,
        execution=execution.label,
        torch_version=torch.__version__,
        notice=_no_gpu(facts.hostname, torch.__version__) if job.num_gpus and device.type == "cpu" else None,
    )
    data = load_dataset(config.dataset, device, config.num_train_images)
    checkpoint = make_path(job.checkpoint) if job.checkpoint else None
    with _Steps(job.stop_file) as steps:
        problems: list[FlexResError] = []
        for metrics in fit(config, data, execution, checkpoint, job.checkpoint_period_s, steps, problems.append):
            problem = str(problems[-1]) if problems else None
            facts = replace(facts, peak_memory_bytes=devices.peak_memory_bytes(device), problem=problem)
            problems.clear()
            is_last = metrics.epoch == config.epochs
            status = TrialStatus.COMPLETED if is_last else None
            yield TrialReport(metrics, facts, status, is_repeat=not steps.have_begun)


def _no_gpu(hostname: str | None, torch_version: str) -> str:
    return (
        f"{hostname}: torch must see the GPU that a trial holds, but torch {torch_version} sees none, so trials train "
        "on the CPU there; python -m flexres_tune.doctor says more, and --set resources_per_trial.gpu=0 asks for none"
    )


class _Steps:
    """fit's question before each step: whether to stop. Until it is first asked, no epoch has been computed here.

    On object storage a thread looks, so that no step waits for a server, and least of all for one that is away.
    """

    def __init__(self, stop_file: str | None):
        self._stop_file = make_path(stop_file) if stop_file else None
        self._looked_at = 0.0
        self._is_there, self._is_over = threading.Event(), threading.Event()
        self.have_begun = False

    def __enter__(self) -> _Steps:
        if self._stop_file is not None and is_remote(self._stop_file):
            threading.Thread(target=self._watch, name="stop file", daemon=True).start()
        return self

    def __exit__(self, *exc_info) -> None:
        self._is_over.set()

    def __call__(self) -> bool:
        self.have_begun = True
        now = time.monotonic()
        if self._stop_file is None or now - self._looked_at < STOP_PERIOD_S:
            return False
        self._looked_at = now
        return self._is_there.is_set() if is_remote(self._stop_file) else self._stop_file.exists()

    def _watch(self) -> None:
        while not self._is_over.wait(REMOTE_STOP_PERIOD_S):
            try:
                if self._stop_file.exists():
                    return self._is_there.set()
            except StorageError:
                continue
