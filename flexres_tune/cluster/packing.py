"""Packing: how many trials share a device if `resources_per_trial` is auto, measured with the largest trial.

GPU: 1, 2, 3 ... copies of the trial run at the same time on one GPU, as long as their total of images per second grows
by MIN_GAIN, their memory fits, and each has a CPU. CPU: threads per trial, from one trial on all cores to one trial per
core. Results are cached in a file per machine, unless other processes kept its CPUs busy meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from typing import Any

from flexres_tune.cluster.resources import KIND, ClusterResources
from flexres_tune.datasets import describe_dataset
from flexres_tune.datasets.cache import DataPaths
from flexres_tune.errors import DeviceError, FlexResError
from flexres_tune.records import PrecisionUsed
from flexres_tune.spec import PlannedTrial, Resources, TrialConfig, count_flops
from flexres_tune.storage import atomic_write_text, parse_json, read_file
from flexres_tune.text import last_line, plural

MEASURE_S = 2.0  # of steps, all trials of a packing at once
MIN_GAIN = 1.05  # required of one more trial, which also costs memory and makes every trial slower
MAX_PER_GPU = 8
MAX_OTHERS_SHARE = 0.1  # of the CPUs' time that other processes may take; more of it makes the rates wrong
MIN_FLOPS_CPU = 1e13  # of a sweep; on two cores a shorter one ends before a measurement would
MIN_FLOPS_GPU = 1e16  # the same on a GPU
TIMEOUT_S = 600.0  # of one number of trials: until all have started, measured and compiled, and trained
CUDA_BYTES = 2**29  # that CUDA itself takes per process, about
MEMORY_SHARE = 0.9  # of a GPU's memory that trials may use; fragmentation takes some

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packing:
    """What one trial takes of a node, and why."""

    cpu: float
    gpu: float
    images_per_second: float  # total of all trials of a GPU, or of a node without GPUs
    reason: str
    mps: bool = False  # whether NVIDIA's MPS serves the trials of a GPU
    is_complete: bool = True  # False: a measurement failed, or was made beside other work, so it is not remembered


class NotMeasuredError(FlexResError):
    """Some number of trials could not be measured now: they did not start in time, or one of them failed."""


@dataclass(frozen=True)
class CpuUse:
    """Shares of the time that all CPUs of the machine had while a trial was measured."""

    by_trial: float
    by_all: float  # all processes, this one too, and what the host of a virtual machine gave to others


@dataclass(frozen=True)
class StepRate:
    """What one of several concurrent trials measured."""

    images_per_second: float
    memory_bytes: int  # of the device; 0 on a CPU
    device_memory_bytes: int
    cpu_use: CpuUse | None = None


Measure = Callable[[float, float, int], Sequence[StepRate]]  # (cpu, gpu, number of concurrent trials) -> one each
MakeMeasure = Callable[[TrialConfig, str | None, bool], Measure]  # (trial, model of GPU, with MPS)


def resolve_auto_resources(
    requested: Resources,
    cluster: ClusterResources,
    trials: Sequence[PlannedTrial],
    precisions: Mapping[str, PrecisionUsed],
    make_measure: MakeMeasure | None = None,
) -> tuple[Resources, str]:
    """(the request with `auto` replaced by a measurement on the connected cluster, the reason).

    The largest of `trials`, those that will be run, is measured by the function that `make_measure` returns for it and a
    model of GPU, by default on Ray and in the precision that the sweep has decided. Each model of GPU in the cluster is
    measured, and the one that holds the fewest trials decides. The request is returned unchanged, with an empty reason,
    if nothing is `auto` or the sweep is too short for a measurement; and with its reason if nothing could be measured.
    """
    on_gpu = bool(cluster.num_gpus) and requested.gpu != 0
    is_auto = requested.gpu == "auto" if on_gpu else requested.cpu == "auto"
    if not trials or not is_auto:
        return requested, ""
    shapes = {name: describe_dataset(name) for name in {trial.config.images for trial in trials}}

    def image_flops(config: TrialConfig) -> int:
        return count_flops(config.model, shapes[config.images].num_classes, shapes[config.images].image_size)

    def training_flops(config: TrialConfig) -> float:
        num_images = config.num_train_images or shapes[config.images].num_train
        return 3 * image_flops(config) * config.epochs * num_images

    configs = [trial.config for trial in trials]
    if sum(map(training_flops, configs)) < (MIN_FLOPS_GPU if on_gpu else MIN_FLOPS_CPU):
        return requested, ""
    largest = max(configs, key=lambda config: image_flops(config) * config.batch_size)  # needs the most memory, too
    make_measure = make_measure or (lambda config, kind, mps: measure_with_ray(config, precisions, kind, mps))
    try:
        packing = _pack(largest, cluster, requested if on_gpu else None, precisions, make_measure)
    except NotMeasuredError as error:
        return requested, f"how many trials share a device could not be measured: {error}"
    changes = {"cpu": packing.cpu, "gpu": packing.gpu, "mps": "on" if packing.mps else "off"}
    return requested.model_copy(update=changes), packing.reason


def _pack(
    config: TrialConfig,
    cluster: ClusterResources,
    on_gpu: Resources | None,
    precisions: Mapping[str, PrecisionUsed],
    make_measure: MakeMeasure,
) -> Packing:
    """The packing of this trial on the cluster: of its models of GPU, the one that holds the fewest trials decides.

    Args:
        on_gpu: what is requested of a GPU; None: trials run on CPUs.
    """
    resources = {"cpu": cluster.num_cpus, "gpu": cluster.num_gpus, "nodes": cluster.num_alive, **precisions}
    if on_gpu is None:
        cpus = int(min(node.num_cpus for node in cluster.nodes if node.num_cpus))
        return cached_packing(config, resources, lambda: pack_cpu(make_measure(config, None, False), cpus))
    cpu = None if on_gpu.cpu == "auto" else on_gpu.cpu
    services = {"off": [False], "on": [True], "auto": [False, True]}[on_gpu.mps]
    packings = []
    for kind in cluster.gpu_kinds or (None,):
        found = []
        for mps in services:

            def pack(kind: str | None = kind, mps: bool = mps) -> Packing:
                packing = pack_gpu(make_measure(config, kind, mps), cluster.cpus_per_gpu, cpu)
                return replace(packing, mps=mps, reason=f"with MPS {packing.reason}" if mps else packing.reason)

            found.append(cached_packing(config, {**resources, "kind": kind, "cpu_per_trial": cpu, "mps": mps}, pack))
        packing = max(found, key=lambda packing: packing.images_per_second)
        packings.append(replace(packing, reason=f"{kind}: {packing.reason}") if kind else packing)
    return max(packings, key=lambda packing: packing.gpu)


def pack_gpu(measure: Measure, cpus_per_gpu: float, cpu: float | None = None) -> Packing:
    """The number of trials per GPU, counted up from 1. Each has `cpu` CPUs, or if None its share of `cpus_per_gpu`."""
    rates: dict[int, float] = {}  # images per second by number of trials
    failure, others = "", 0.0
    best, most = 1, max(1, min(MAX_PER_GPU, int(cpus_per_gpu / (cpu or 1))))  # without its CPUs a trial never starts
    while len(rates) < most:
        number = len(rates) + 1
        try:
            measured = measure(cpu or max(1.0, cpus_per_gpu // number), math.floor(1e4 / number) / 1e4, number)
        except NotMeasuredError as error:
            if number == 1:
                raise
            failure = f"; {error}"
            break
        rates[number], others = sum(trial.images_per_second for trial in measured), max(others, others_share(measured))
        if number == 1:
            (alone,) = measured
            most = max(1, min(most, int(MEMORY_SHARE * alone.device_memory_bytes / max(1, alone.memory_bytes))))
        elif rates[number] < MIN_GAIN * rates[best]:
            break
        else:
            best = number
    table = ", ".join(f"{number}: {rate:,.0f}" for number, rate in rates.items())
    reason = (
        f"{best} per GPU (images/s in all by trials per GPU: {table}; "
        f"the largest takes {alone.memory_bytes / 2**30:.1f} of {alone.device_memory_bytes / 2**30:.0f} GiB{failure}"
        f"{_beside_others(others)})"
    )
    is_complete = not failure and others <= MAX_OTHERS_SHARE
    share = math.floor(1e4 / best) / 1e4
    return Packing(cpu or max(1.0, cpus_per_gpu // best), share, rates[best], reason, is_complete=is_complete)


def pack_cpu(measure: Measure, num_cpus: int) -> Packing:
    """Threads per trial: of 1, 2, 4 ... num_cpus the number that trains the most images per second on the node."""
    rates: dict[int, float] = {}  # images per second by threads per trial
    threads, others = 1, 0.0
    while threads <= num_cpus:
        measured = measure(threads, 0, num_cpus // threads)
        rates[threads], others = sum(trial.images_per_second for trial in measured), max(others, others_share(measured))
        threads *= 2
    best = max(rates, key=lambda threads: rates[threads])
    table = ", ".join(f"{threads}: {rate:,.0f}" for threads, rate in rates.items())
    reason = f"{plural(best, 'thread')} per trial (images/s of the node by threads per trial: {table}"
    reason += f"{_beside_others(others)})"
    return Packing(float(best), 0.0, rates[best], reason, is_complete=others <= MAX_OTHERS_SHARE)


def others_share(measured: Sequence[StepRate]) -> float:
    """The share of the CPUs' time that processes other than these concurrent trials took; 0 if it is not known."""
    uses = [trial.cpu_use for trial in measured if trial.cpu_use is not None]
    if not uses:
        return 0.0
    return max(0.0, sum(use.by_all for use in uses) / len(uses) - sum(use.by_trial for use in uses))


def _beside_others(share: float) -> str:
    if share <= MAX_OTHERS_SHARE:
        return ""
    return f"; other processes took {100 * share:.0f} % of the CPUs meanwhile, so this is not remembered"


def cached_packing(config: TrialConfig, resources: dict[str, Any], pack: Callable[[], Packing]) -> Packing:
    """`pack()`, or its earlier result on this machine for the same work."""
    work = {"model": config.model.model_dump(mode="json"), "batch_size": config.batch_size, "dataset": config.images}
    precision = {"precision": config.precision, "compile": config.compile}
    key = json.dumps([work, precision, resources, MEASURE_S, MAX_OTHERS_SHARE, version("torch")], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()[:24]
    file = DataPaths.from_environment().root / "speeds" / f"packing-{digest}.json"
    try:
        return Packing(**parse_json(read_file(file)))
    except (OSError, ValueError, TypeError):
        packing = pack()
    if not packing.is_complete:
        return packing
    try:
        atomic_write_text(file, json.dumps(asdict(packing)))
    except OSError as error:
        log.warning("%s; the next sweep measures again", error)
    return packing


class CpuMeter:
    """How busy the CPUs of this machine are, from its construction on."""

    def __init__(self) -> None:
        self._before = self._read()

    def use(self) -> CpuUse:
        """Since the construction, which was at least some hundredths of a second ago."""
        own, idle, total = (now - before for now, before in zip(self._read(), self._before, strict=True))
        return CpuUse(own / total, 1 - idle / total)

    @staticmethod
    def _read() -> tuple[float, float, float]:
        """CPU seconds: of this process, of no process, and all."""
        import psutil

        seconds = psutil.cpu_times()._asdict()
        total = sum(value for name, value in seconds.items() if not name.startswith("guest"))  # they are part of user
        return time.process_time(), seconds["idle"] + seconds.get("iowait", 0.0), total


class StepBenchmark:
    """One of several concurrent trials: the constructor builds it and warms it up, `run` measures it."""

    def __init__(
        self,
        config: dict[str, Any],
        num_threads: int,
        folder: str,
        precisions: Mapping[str, PrecisionUsed],
        num_gpus: float,
        mps: bool,
    ):
        import torch

        from flexres_tune.training import choose_execution
        from flexres_tune.training import device as devices
        from flexres_tune.training.autotune.stopwatch import RHYTHMS, Stepper
        from flexres_tune.training.execution import precision_in_sweep
        from flexres_tune.training.mps import use_mps

        os.chdir(folder)
        parsed = TrialConfig.model_validate(config)
        if mps and (problem := use_mps()):
            raise DeviceError(problem)
        self._device = devices.trial_device(num_gpus)
        if self._device.type == "cpu":
            torch.set_num_threads(num_threads)
        self._batch_size = parsed.batch_size
        execution = choose_execution(parsed, self._device, precision_in_sweep(precisions, self._device))
        shape = describe_dataset(parsed.images)
        self._image_bytes = shape.num_train * 3 * shape.image_size**2  # a trial has them on the GPU, this one has not
        devices.release_memory(self._device)  # of the executions that were measured
        devices.reset_peak_memory(self._device)
        self._stepper = Stepper(parsed, shape, execution)
        rhythm = RHYTHMS[self._device.type]
        self._num_steps = rhythm.num_steps  # until the host waits for the device
        self._stepper.run(max(2, rhythm.num_first))

    def run(self, seconds: float) -> StepRate:
        """Train for this time while the others do, too."""
        import torch

        cpus = CpuMeter()
        started, num_steps = time.perf_counter(), 0
        while num_steps < 2 or time.perf_counter() - started < seconds:
            self._stepper.run(self._num_steps)
            num_steps += self._num_steps
        rate = num_steps * self._batch_size / (time.perf_counter() - started)
        if self._device.type != "cuda":
            return StepRate(rate, 0, 0, cpus.use())
        taken = torch.cuda.max_memory_reserved(self._device) + self._image_bytes + CUDA_BYTES
        total = torch.cuda.get_device_properties(self._device).total_memory
        return StepRate(rate, taken, total, cpus.use())


def measure_with_ray(
    config: TrialConfig, precisions: Mapping[str, PrecisionUsed], gpu_kind: str | None = None, mps: bool = False
) -> Measure:
    """Measures with Ray actors on the connected cluster; all of them train at the same time, on one node and GPU."""
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    def measure(cpu: float, gpu: float, number: int) -> Sequence[StepRate]:
        # one bundle, so that they cannot be on several nodes: each would seem to have a device to itself
        bundle = {"CPU": cpu * number} | ({"GPU": 1} if gpu else {})
        if gpu_kind is not None:
            bundle[KIND + gpu_kind] = 0.001  # of 1 that each node with this model has
        group = placement_group([bundle], strategy="STRICT_PACK")
        actors = []
        try:
            ray.get(group.ready(), timeout=TIMEOUT_S)
            actor = ray.remote(num_cpus=cpu, num_gpus=gpu, scheduling_strategy=PlacementGroupSchedulingStrategy(group))(
                StepBenchmark
            )
            arguments = (config.to_dict(), max(1, int(cpu)), os.getcwd(), precisions, gpu, mps)
            actors = [actor.remote(*arguments) for _ in range(number)]
            ray.get([one.run.remote(0.0) for one in actors], timeout=TIMEOUT_S)  # returns as soon as all are warm
            rates = ray.get([one.run.remote(MEASURE_S) for one in actors], timeout=TIMEOUT_S)
        except ray.exceptions.GetTimeoutError as error:
            raise NotMeasuredError(f"{plural(number, 'trial')} did not train within {TIMEOUT_S:g} s") from error
        except ray.exceptions.RayError as error:
            raise NotMeasuredError(last_line(str(error), type(error).__name__)) from error
        finally:
            for one in actors:
                ray.kill(one)
            remove_placement_group(group)
        return rates

    return measure
