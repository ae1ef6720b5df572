"""Precision of a sweep: what `precision: auto` stands for, decided once, before the first trial, for all its trials.

A sweep compares what it varies. If each trial chose its precision by a measurement of its own, a sweep over optimizers
or batch sizes would also compare fp32 with bf16. So the model and batch size on which the sweep's trials do most of
their work are measured once, on a device that runs nothing else, and all trials on that kind of device use the answer.
It is written to plan.json. `training.execution.precision_in_sweep` says what other kinds of devices use.
"""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from flexres_tune.datasets import describe_dataset
from flexres_tune.errors import FlexResError, ResultsError
from flexres_tune.records import PrecisionUsed
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import read_plan
from flexres_tune.spec import PlannedTrial, SweepSpec, TrialConfig, count_flops
from flexres_tune.spec.expand import count_trials, example_trials

ANY_DEVICE = "any device"  # in place of a kind of device, if the decision needed no measurement
TOO_SHORT = "fp32 (the sweep is too short to measure bf16)"
MIN_MEASURED_FLOPS = 5e12  # of the whole sweep: about 50 s on two cores, where measuring takes 2 to 5 s
COLUMNS = ["precision", "device", "precision_used"]  # of `trials`

Precisions = dict[str, PrecisionUsed]  # by kind of device (`training.device.device_name`), the first decision first


@dataclass(frozen=True)
class Measurement:
    """What a worker has found out for a model and batch size."""

    device: str  # kind of its device
    precision: PrecisionUsed
    images_per_second: Mapping[str, float]  # by Execution.label; empty if the device has only one precision


def recorded_precisions(paths: SweepPaths) -> Precisions:
    """What a sweep has decided: the precisions of its plan, and for other devices those of its rows.

    The plan of an older version has none: then the precision that most rows have is used.
    """
    if not paths.folder.is_dir():
        return {}
    try:
        plan = read_plan(paths)
    except ResultsError:  # damaged: the command writes it again
        plan = None
    results = open_results(paths.root)
    rows = results.trials(paths.sweep).select(COLUMNS).to_pylist() if paths.sweep in results.sweeps() else []
    precisions = dict(plan.precisions) if plan else {}
    for device, precision in most_used_precisions(rows).items():
        precisions.setdefault(device, precision)
    return precisions


def most_used_precisions(rows: Iterable[Mapping[str, Any]]) -> Precisions:
    """By device, the precision that most rows of `trials` with `precision: auto` have; the most used device first."""
    counts = Counter(
        (row["device"], row["precision_used"])
        for row in rows
        if row["precision"] == "auto" and row["device"] and row["precision_used"] in get_args(PrecisionUsed)
    )
    precisions: Precisions = {}
    for (device, precision), _ in counts.most_common():
        precisions.setdefault(device, precision)
    return precisions


def has_precision_of(precisions: Precisions, row: Mapping[str, Any]) -> bool:
    """Whether a row of `trials` of another sweep has the precision that this sweep has decided, if it has."""
    if row["precision"] != "auto" or not precisions:
        return True
    first = next(iter(precisions.values()))
    return row["precision_used"] == precisions.get(row["device"], first)


def decide_precisions(
    spec: SweepSpec, trials: Sequence[PlannedTrial], measure: Callable[[TrialConfig], Measurement]
) -> tuple[Precisions, str]:
    """(the decision, the decision and its reason in words).

    Nothing is decided if every trial names its precision, and nothing is measured if the sweep is too short.

    Args:
        trials: those known before the sweep runs.
        measure: `measure_precision` on a device that runs nothing else. If it raises FlexResError, fp32 is used.
    """
    config, flops = heaviest_work(spec, trials)
    if config is None:
        return {}, ""
    if flops < MIN_MEASURED_FLOPS:
        return {ANY_DEVICE: "fp32"}, TOO_SHORT
    started = time.perf_counter()
    try:
        found = measure(config)
    except FlexResError as error:
        return {ANY_DEVICE: "fp32"}, f"fp32 (bf16 could not be measured: {error})"
    seconds = time.perf_counter() - started
    rates = ", ".join(f"{label}: {rate:,.0f}" for label, rate in found.images_per_second.items())
    reason = f"images/s measured in {seconds:.1f} s: {rates}" if rates else "the device has no bf16 units"
    return {found.device: found.precision}, f"{found.precision} on {found.device} ({reason})"


def expected_precision(spec: SweepSpec, trials: Sequence[PlannedTrial], recorded: Precisions) -> str:
    """What a dry run says about the precision, without a measurement."""
    config, flops = heaviest_work(spec, trials)
    if config is None:
        return ", ".join(sorted({trial.config.precision for trial in trials})) + ", as in the sweep file"
    if recorded:
        return f"{describe_precisions(recorded)}, as in its earlier trials"
    return TOO_SHORT if flops < MIN_MEASURED_FLOPS else "auto: measured once before the first trial, for all trials"


def heaviest_work(spec: SweepSpec, trials: Sequence[PlannedTrial]) -> tuple[TrialConfig | None, float]:
    """Of the trials with `precision: auto`: one with the model and batch size that do most work, and the FLOPs of all.

    None if there is no such trial. Examples stand for the trials that a sweep of method tpe will draw.
    """
    if spec.method == "tpe":
        trials = example_trials(spec, describe_dataset)
    describe = functools.cache(describe_dataset)  # it opens files
    flops: Counter[Any] = Counter()
    configs: dict[Any, TrialConfig] = {}
    for config in (trial.config for trial in trials if trial.config.precision == "auto"):
        shape = describe(config.images)
        key = (config.batch_size, config.model, shape.image_size, shape.num_classes)
        per_image = 3 * count_flops(config.model, shape.num_classes, shape.image_size)
        flops[key] += per_image * config.epochs * (config.num_train_images or shape.num_train)
        configs.setdefault(key, config)
    if not flops:
        return None, 0.0
    heaviest = max(flops, key=lambda key: (flops[key], key[0]))  # of equal work, the largest batch
    return configs[heaviest], flops.total() * max(1.0, count_trials(spec) / len(trials))


def measure_precision(config: dict[str, Any], num_threads: int, folder: str, num_gpus: float) -> Measurement:
    """Measure a model and batch size on the device of this process, a worker.

    Args:
        config: TrialConfig.to_dict() of a trial that has them.
        num_threads: CPU threads of a trial.
        folder: the command's working directory, to which relative data paths refer.
        num_gpus: that Ray has assigned to this process; 0: the CPU is measured.
    """
    import torch  # not above: the driver imports this module without torch

    from flexres_tune.training.autotune.choose import choose_precision
    from flexres_tune.training.device import device_name, trial_device

    if os.path.isdir(folder):
        os.chdir(folder)
    device = trial_device(num_gpus)
    if device.type == "cpu":
        torch.set_num_threads(num_threads)
    return Measurement(device_name(device), *choose_precision(TrialConfig.model_validate(config), device))


def describe_precisions(precisions: Mapping[str, PrecisionUsed]) -> str:
    """`bf16 on AMD EPYC`."""
    if ANY_DEVICE in precisions and len(set(precisions.values())) == 1:
        return precisions[ANY_DEVICE]
    return ", ".join(kind if on == ANY_DEVICE else f"{kind} on {on}" for on, kind in precisions.items())
