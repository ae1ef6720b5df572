"""How many trials share a device: measured, largest trial first, by running them side by side.

A GPU takes 1, 2, 3 ... trials while their images a second together still grow by MIN_GAIN and their memory fits. On
CPUs the question is threads a trial: one trial on all cores, or as many as there are cores on one each. An answer is
remembered by file for the machine.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flexres_tune.cluster.resources import ClusterResources
from flexres_tune.datasets import DataShape, describe_dataset
from flexres_tune.datasets.cache import DataPaths
from flexres_tune.spec import PlannedTrial, Resources, TrialConfig, count_flops
from flexres_tune.storage import atomic_write_text

MEASURE_S = 2.0  # of steps, all trials of a packing at once
MIN_GAIN = 1.05  # one more trial must bring so much: it also costs memory, and each trial takes longer
MAX_PER_GPU = 8
MIN_FLOPS_CPU = 1e13  # of a whole sweep: shorter ones end before measuring would, on two cores
MIN_FLOPS_GPU = 1e16  # likewise, on a GPU
MEMORY_SHARE = 0.9  # of a GPU's memory that may be planned; fragmentation takes some

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Packing:
    """What one trial takes of a node, and why."""

    cpu: float
    gpu: float
    images_per_second: float  # of all trials of a device or node together
    reason: str


@dataclass(frozen=True)
class Probe:
    """What one of several trials running side by side measured."""

    images_per_second: float
    memory_bytes: int  # of the device; 0 on a CPU
    device_memory_bytes: int


Measure = Callable[[float, float, int], Sequence[Probe]]  # (cpu, gpu, how many at once) -> a probe each


def resolve_auto_resources(
    requested: Resources, cluster: ClusterResources, trials: Sequence[PlannedTrial]
) -> tuple[Resources, str]:
    """The request with `auto` measured on the connected cluster, and why; as it is where measuring would not pay.

    Args:
        trials: those to be run; the largest is measured.
    """
    largest = largest_trial(trials)
    on_gpu = bool(cluster.num_gpus) and requested.gpu != 0
    is_auto = requested.gpu == "auto" if on_gpu else requested.cpu == "auto"
    threshold = MIN_FLOPS_GPU if on_gpu else MIN_FLOPS_CPU
    if largest is None or not is_auto:
        return requested, ""
    describe = functools.cache(describe_dataset)
    if sum(_training_flops(trial, describe) for trial in trials) < threshold:
        return requested, ""
    measure = measure_with_ray(largest.config)
    resources = {"cpu": cluster.num_cpus, "gpu": cluster.num_gpus, "nodes": cluster.num_nodes}
    if on_gpu:
        cpus = cluster.cpus_per_gpu
        packing = cached_packing(largest.config, resources, lambda: pack_gpu(measure, cpus))
        cpu = packing.cpu if requested.cpu == "auto" else requested.cpu
    else:
        cpus = int(cluster.num_cpus / cluster.num_nodes)
        packing = cached_packing(largest.config, resources, lambda: pack_cpu(measure, cpus))
        cpu = packing.cpu
    return Resources(cpu=cpu, gpu=packing.gpu), packing.reason


def _training_flops(trial: PlannedTrial, describe: Callable[[str], DataShape]) -> float:
    config, shape = trial.config, describe(trial.config.dataset)
    flops = 3 * count_flops(config.model, shape.num_classes, shape.image_size)
    return flops * config.epochs * (config.num_train_images or shape.num_train)


def largest_trial(trials: Sequence[PlannedTrial]) -> PlannedTrial | None:
    """The trial whose step is the most work, and so the one that must fit; None of none."""

    describe = functools.cache(describe_dataset)  # each look opens the files

    def work(trial: PlannedTrial) -> int:
        shape = describe(trial.config.dataset)
        return count_flops(trial.config.model, shape.num_classes, shape.image_size) * trial.config.batch_size

    return max(trials, key=work, default=None)


def pack_gpu(measure: Measure, cpus_per_gpu: float) -> Packing:
    """The number of trials a GPU, from 1 upwards.

    Args:
        measure: runs so many trials at once on one GPU.
        cpus_per_gpu: CPUs that a GPU's trials share.
    """
    rates: dict[int, float] = {}
    best, most = 1, MAX_PER_GPU
    while len(rates) < most:
        number = len(rates) + 1
        probes = measure(max(1.0, cpus_per_gpu // number), math.floor(1e4 / number) / 1e4, number)
        rates[number] = sum(probe.images_per_second for probe in probes)
        if number == 1:
            (alone,) = probes
            most = max(1, min(most, int(MEMORY_SHARE * alone.device_memory_bytes / max(1, alone.memory_bytes))))
        elif rates[number] < MIN_GAIN * rates[best]:
            break
        else:
            best = number
    measured = ", ".join(f"{number}: {rate:,.0f}" for number, rate in rates.items())
    reason = (
        f"{best} to a GPU (images/s together, by trials a GPU: {measured}; "
        f"the largest takes {alone.memory_bytes / 2**30:.1f} of {alone.device_memory_bytes / 2**30:.0f} GiB)"
    )
    return Packing(max(1.0, cpus_per_gpu // best), math.floor(1e4 / best) / 1e4, rates[best], reason)


def pack_cpu(measure: Measure, num_cpus: int) -> Packing:
    """Threads a trial: 1, 2, 4 ... all, whichever trains the most images a second on the whole node."""
    rates: dict[int, float] = {}
    threads = 1
    while threads <= num_cpus:
        rates[threads] = sum(probe.images_per_second for probe in measure(threads, 0, num_cpus // threads))
        threads *= 2
    best = max(rates, key=lambda threads: rates[threads])
    measured = ", ".join(f"{threads}: {rate:,.0f}" for threads, rate in rates.items())
    plural = "" if best == 1 else "s"
    reason = f"{best} thread{plural} a trial (images/s of the node, by threads a trial: {measured})"
    return Packing(float(best), 0.0, rates[best], reason)


def cached_packing(config: TrialConfig, resources: dict[str, float], pack: Callable[[], Packing]) -> Packing:
    """`pack()`, or what it said on this machine for the same work before."""
    work = {"model": config.model.model_dump(mode="json"), "batch_size": config.batch_size, "dataset": config.dataset}
    precision = {"precision": config.precision, "compile": config.compile}
    key = json.dumps([work, precision, resources, MEASURE_S], sort_keys=True)
    file = (
        DataPaths.from_environment().root / "speeds" / f"packing-{hashlib.sha256(key.encode()).hexdigest()[:24]}.json"
    )
    try:
        return Packing(**json.loads(file.read_text()))
    except (OSError, ValueError, TypeError):
        packing = pack()
    try:
        atomic_write_text(file, json.dumps(asdict(packing)))
    except OSError as error:
        log.warning("%s; the next sweep measures again", error)
    return packing


class StepBenchmark:
    """One of several trials side by side: built and warmed up when made, measured by `run`."""

    def __init__(self, config: dict[str, Any], num_threads: int, folder: str):
        from flexres_tune.training import choose_execution
        from flexres_tune.training import device as devices
        from flexres_tune.training.stopwatch import Stepper

        os.chdir(folder)
        parsed = TrialConfig.model_validate(config)
        self._device = devices.pick_device()
        if self._device.type == "cpu":
            devices.set_num_threads(num_threads)
        self._batch_size = parsed.batch_size
        self._stepper = Stepper(parsed, describe_dataset(parsed.dataset), choose_execution(parsed, self._device))
        for _ in range(2):
            self._stepper.step()

    def _memory(self) -> tuple[int, int]:
        """(used, all) bytes of the device: torch's tensors and what CUDA itself takes; zeros on a CPU."""
        import torch

        if self._device.type != "cuda":
            return 0, 0
        free, total = torch.cuda.mem_get_info(self._device)
        return max(total - free, torch.cuda.max_memory_reserved(self._device)), total

    def run(self, seconds: float) -> Probe:
        """Step for so long, beside the others."""
        started, num_steps = time.perf_counter(), 0
        while num_steps < 2 or time.perf_counter() - started < seconds:
            self._stepper.step()
            num_steps += 1
        rate = num_steps * self._batch_size / (time.perf_counter() - started)
        return Probe(rate, *self._memory())


def measure_with_ray(config: TrialConfig) -> Measure:
    """Measure by actors on the connected cluster: each holds its share, and all step at the same time."""
    import ray

    def measure(cpu: float, gpu: float, number: int) -> Sequence[Probe]:
        actor = ray.remote(num_cpus=cpu, num_gpus=gpu)(StepBenchmark)
        actors = [actor.remote(config.to_dict(), max(1, int(cpu)), os.getcwd()) for _ in range(number)]
        try:
            ray.get([one.run.remote(0.0) for one in actors])  # all are built and warm before any is measured
            return ray.get([one.run.remote(MEASURE_S) for one in actors])
        finally:
            for one in actors:
                ray.kill(one)

    return measure
