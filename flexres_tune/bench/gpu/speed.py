"""The checks of `bench gpu` that measure how fast a GPU trains: an epoch, launches per step, several processes at once."""

from __future__ import annotations

import itertools
import shutil
import statistics
import subprocess
import sys

import torch

from flexres_tune.bench.gpu.steps import Answer, make_steps, random_images, small_config, take_steps
from flexres_tune.bench.train import load_images
from flexres_tune.cluster.probe import stop_mps
from flexres_tune.training import Execution, choose_execution, fit
from flexres_tune.training.autotune.stopwatch import Stepper
from flexres_tune.training.device import pick_device
from flexres_tune.training.graph import NUM_EAGER_STEPS
from flexres_tune.training.mps import CONTROL, mps_folder, use_mps

EPOCH_IMAGES = 50_000  # CIFAR-10's
EPOCH_BAR_S = 1.5
LAUNCH_BAR = 80


def epoch_is_fast(dataset: str) -> Answer:
    device = pick_device()
    config = small_config(model="resnet22_2", batch_size=128, epochs=200, dataset=dataset)
    data, name = load_images(config, device)
    execution = choose_execution(config, device)
    rates = [m.images_per_second for m in itertools.islice(fit(config, data, execution), 6)][1:]
    seconds = [EPOCH_IMAGES / rate for rate in rates]
    median = statistics.median(seconds)
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}, n = {len(seconds)}"
    return median <= EPOCH_BAR_S, f"{median:.2f} s per 50,000 images ({spread}); {execution.label}; {name}"


def launches_are_few(dataset: str) -> Answer:
    numbers = {}
    for graph in ("none", "network", "step"):
        config = small_config(model="resnet22_2", batch_size=128)
        data = random_images(pick_device(), 40 * 128)
        state, steps = make_steps(Execution(pick_device(), "bf16", graph=graph), config, data)
        take_steps(state, steps, NUM_EAGER_STEPS + 2)
        kinds = torch.profiler.ProfilerActivity
        with torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA]) as profiler:
            take_steps(state, steps, 20, begin=False, first=NUM_EAGER_STEPS + 2)
            torch.cuda.synchronize()
        launches = ("cudaLaunchKernel", "cuLaunchKernel", "cudaGraphLaunch", "cudaMemcpyAsync", "cudaMemsetAsync")
        events = profiler.key_averages()
        numbers[graph] = sum(event.count for event in events if event.key.startswith(launches)) / 20
    figure = ", ".join(f"{graph}: {number:.0f}" for graph, number in numbers.items())
    return 0 < numbers["step"] <= LAUNCH_BAR, f"per step, by graph: {figure}"


def four_processes_share_a_gpu(dataset: str) -> Answer:
    alone, _ = _train_together(1, mps=False)
    four, peak = _train_together(4, mps=False)
    served = "without MPS"
    if shutil.which(CONTROL):
        with_mps, _ = _train_together(4, mps=True)
        stop_mps(mps_folder().name)
        served += f", {with_mps:,.0f} ({with_mps / alone:.2f} x) with it"
    else:
        served += f"; {CONTROL} is not here"
    fine = four > 0 and peak < 0.9
    figure = f"small, images/s: 1 process {alone:,.0f}, 4 {four:,.0f} ({four / alone:.2f} x) {served}; peak {peak:.0%}"
    return fine, figure


def _train_together(number: int, mps: bool) -> tuple[float, float]:
    """(images/s of processes that train at the same time, the share of the memory that they have taken)."""
    code = f"from flexres_tune.bench.gpu import speed; speed.train_when_told({mps})"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(number)]
    try:
        for process in processes:
            process.stdout.readline()  # it is warm
        for process in processes:
            process.stdin.write("go\n")
            process.stdin.flush()
        rates = [float(process.stdout.readline()) for process in processes]
        free, total = torch.cuda.mem_get_info()
        return sum(rates), 1 - free / total
    finally:
        for process in processes:
            process.kill()
            process.wait()


def train_when_told(mps: bool) -> None:
    """Main function of a process of `_train_together`."""
    if mps and (problem := use_mps()):
        raise RuntimeError(problem)
    from flexres_tune.datasets import DataShape

    config = small_config(model="small", batch_size=64)
    shape = DataShape(image_size=32, num_classes=10, num_train=EPOCH_IMAGES, num_val=0, num_test=0)
    stepper = Stepper(config, shape, Execution(pick_device(), "bf16", graph="step"))
    stepper.run(NUM_EAGER_STEPS + 20)
    print("warm", flush=True)
    sys.stdin.readline()
    seconds = sum(stepper.run(100) for _ in range(20))
    print(2000 * config.batch_size / seconds, flush=True)
    sys.stdin.readline()  # keeps its memory until it is killed
