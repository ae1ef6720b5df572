"""The checks of `bench gpu`: each returns (whether it passed, what was measured). The rows are at the end.

A check that raises an exception has failed, too.
"""

from __future__ import annotations

import gc
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor

from flexres_tune.augment.homography import compose, sample, sample_exact
from flexres_tune.augment.operations import OPERATIONS
from flexres_tune.augment.policy import apply_operations
from flexres_tune.augment.registry import AUGMENTATIONS
from flexres_tune.bench.gpu.speed import epoch_is_fast, four_processes_share_a_gpu, launches_are_few
from flexres_tune.bench.gpu.steps import (
    CPU,
    Answer,
    are_close,
    deterministic,
    digits,
    fp32_execution,
    losses_of_steps,
    make_steps,
    random_images,
    size_of_update,
    small_config,
    take_steps,
)
from flexres_tune.errors import DivergedError
from flexres_tune.optim import OPTIMIZERS, can_capture
from flexres_tune.sweep.worker import TRIAL_HOOK, TrialJob, run_job
from flexres_tune.training import Checkpointer, Execution, Request, choose_execution, fit
from flexres_tune.training.checkpoint import load_checkpoint
from flexres_tune.training.device import device_name, is_out_of_memory, limit_memory, pick_device, release_memory
from flexres_tune.training.execution import list_options
from flexres_tune.training.graph import NUM_EAGER_STEPS, CudaRecorder


@dataclass(frozen=True)
class Check:
    """A row of the list."""

    number: int
    name: str
    run: Callable[[str], Answer]  # given the name of a data set
    num_gpus: int = 1  # without which it is not run
    limit_s: float = 120.0  # checks with a higher limit run later


def each_execution_trains(dataset: str) -> Answer:
    device = pick_device()
    falls = {}
    for option in list_options(small_config(epochs=2), device):
        first, last = (metrics.train_loss for metrics in fit(small_config(epochs=2), digits(device), option))
        falls[option.label] = math.isfinite(last) and last < first and not option.failures
    wrong = [label for label, fine in falls.items() if not fine]
    return not wrong, f"{len(falls)} executions" + (f", not {', '.join(wrong)}" if wrong else "")


def fp32_equals_the_cpu(dataset: str) -> Answer:
    found = [losses_of_steps(Execution(device, "fp32"), 20, shuffled=False) for device in (CPU, pick_device())]
    return are_close(*found, 1e-3)


def graphs_equal_eager(dataset: str) -> Answer:
    with deterministic():
        eager, network, step = (
            losses_of_steps(Execution(pick_device(), "fp32", graph=g), 50) for g in ("none", "network", "step")
        )
    answers = [are_close(eager, network, 1e-3), are_close(eager, step, 1e-3)]
    return all(fine for fine, _ in answers), f"network: {answers[0][1]}; whole step: {answers[1][1]}"


def capture_changes_no_buffers(dataset: str) -> Answer:
    device = pick_device()
    found = {}
    with deterministic():
        for graph in ("none", "network", "step"):
            state, steps = make_steps(Execution(device, "fp32", graph=graph))
            take_steps(state, steps, NUM_EAGER_STEPS)  # after the last of them the step is recorded
            found[graph] = {name: value.clone() for name, value in state.model.named_buffers()}
    worst = max(
        float((found[graph][name].double() - value.double()).abs().max())
        for graph in ("network", "step")
        for name, value in found["none"].items()
    )
    return worst <= 1e-4, f"largest difference {worst:.1e}"


def each_optimizer_runs(dataset: str) -> Answer:
    device, failures, num = pick_device(), [], 0
    for name in OPTIMIZERS:
        for graph in ["none"] + (["network"] + ["step"] * can_capture(name)) * (device.type == "cuda"):
            execution = Execution(device, "fp32", graph=graph)
            config = small_config(optimizer=name, lr=0.01, epochs=1)
            num += 1
            try:
                list(fit(config, digits(device), execution))
                failures += [f"{name} {graph}: {execution.failures[0]}"] if execution.failures else []
            except RuntimeError as error:
                failures.append(f"{name} {graph}: {str(error).splitlines()[0]}")
    return not failures, f"{num} runs" + "".join(f"; {failure}" for failure in failures)


def learning_rate_changes_in_a_graph(dataset: str) -> Answer:
    config = small_config(optimizer="sgd", momentum=0.0, augmentation=[])
    state, steps = make_steps(Execution(pick_device(), "fp32", graph="step"), config)
    rates = [0.0] * (NUM_EAGER_STEPS + 1) + [1e-4, 1e-3]
    order = torch.arange(config.batch_size, device=state.device).repeat(len(rates))  # the same images in each batch
    sizes = [size_of_update(state, steps, order, rates, i) for i in range(len(rates))]
    ratio = sizes[-1] / max(sizes[-2], 1e-30)
    return abs(ratio - 10) < 1 and sizes[-3] == 0, f"10 times the rate: {ratio:.2f} times the update"


def last_batch_is_trained_on(dataset: str) -> Answer:
    device, found = pick_device(), []
    graphs = ["none"] + ["step"] * (device.type == "cuda")
    with deterministic():
        for num_images in (4 * 64 + 63, 4 * 64 + 1):
            data = digits(device, num_images)
            losses = []
            for graph in graphs:
                (metrics,) = fit(small_config(epochs=1, augmentation=[]), data, Execution(device, "fp32", graph=graph))
                losses.append(metrics.train_loss)
                correct = metrics.train_accuracy * num_images
                found.append(abs(correct - round(correct)) < 1e-6 and math.isclose(losses[0], losses[-1], rel_tol=1e-3))
    return all(found), f"{len(found)} epochs of B-1 and B+1 images in the last batch"


def augmentations_equal_the_cpu(dataset: str) -> Answer:
    device, generator = pick_device(), torch.Generator().manual_seed(0)
    images = torch.randint(256, (256, 3, 32, 32), generator=generator, dtype=torch.uint8)
    shares = {}

    def compare(name: str, function: Callable[..., Tensor], *tensors: Tensor) -> None:
        a, b = function(*tensors), function(*(tensor.to(device) for tensor in tensors)).cpu()
        shares[name] = float(
            (a.float() - b.float()).abs().gt(1.01 / 255 if a.is_floating_point() else 0).float().mean()
        )

    crop, flip, *others = (AUGMENTATIONS[name].draw for name in ("crop", "flip", "rotation", "perspective"))
    draw = [function(256, 32, generator, CPU) for function in (crop, flip, *others)]
    compare("gather", lambda x, h: sample_exact(x, h, 4), images, compose(draw[:2]))
    compare("interpolation", lambda x, h: sample(x.float() / 255, h), images, compose(draw))
    for i, name in enumerate(OPERATIONS):
        operation, magnitude = torch.full((256,), i), torch.rand(256, generator=generator) * 0.9
        compare(name, lambda x, o, m: apply_operations(x, o, m, dense=True), images, operation, magnitude)
    worst = max(shares, key=shares.__getitem__)
    return shares["gather"] == 0 and shares[worst] <= 1e-3, f"most pixels differ in {worst}: {shares[worst]:.3%}"


def host_waits_at_the_end_of_an_epoch_only(dataset: str) -> Answer:
    config = small_config(augmentation=["crop", "flip", "trivialaugment", "cutout"], mixup_alpha=0.2)
    for graph in ("none", "network", "step"):
        state, steps = make_steps(Execution(pick_device(), "fp32", graph=graph), config)
        take_steps(state, steps, NUM_EAGER_STEPS + 1)
        torch.cuda.set_sync_debug_mode("error")
        try:
            take_steps(state, steps, 10, begin=False, first=NUM_EAGER_STEPS + 1)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return True, "10 steps eagerly, 10 of each graph"


def trial_resumes_with_the_same_numbers(dataset: str) -> Answer:
    device, config = (
        pick_device(),
        small_config(epochs=4, model={"blocks": [1, 1], "channels": [8, 16], "dropout": 0.2}),
    )
    graph = "step" if device.type == "cuda" else "none"
    with tempfile.TemporaryDirectory() as folder, deterministic():
        whole, parts = Path(folder) / "whole.pt", Path(folder) / "parts.pt"
        losses = [m.train_loss for m in fit(config, digits(device), fp32_execution(graph), Checkpointer(whole))]
        list(fit(config, digits(device), fp32_execution(graph), Checkpointer(parts), request=Request(2)))
        resumed = [m.train_loss for m in fit(config, digits(device), fp32_execution(graph), Checkpointer(parts))]
        states = [load_checkpoint(path, config.trial_id)["generators"] for path in (whole, parts)]
    equal = all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    fine, figure = are_close(losses, resumed, 1e-2)
    return fine and equal, f"losses: {figure}; generators {'equal' if equal else 'differ'}"


def checkpoint_moves_between_devices(dataset: str) -> Answer:
    config, device = small_config(epochs=3, optimizer="adamw", lr=1e-3), pick_device()
    with tempfile.TemporaryDirectory() as folder:
        file, losses = Path(folder) / "x.pt", []
        for until, execution in ((1, fp32_execution("step")), (2, Execution(CPU, "fp32")), (3, fp32_execution("step"))):
            data = digits(execution.device)
            *_, last = fit(config, data, execution, Checkpointer(file), request=Request(until))
            losses.append(last.train_loss)
    return losses[2] < losses[0], f"{device.type}, cpu, {device.type}: losses {', '.join(f'{x:.3f}' for x in losses)}"


def memory_does_not_grow(dataset: str) -> Answer:
    device, reserved = pick_device(), []
    for i in range(20):
        model = ("tiny", {"blocks": [2, 1], "channels": [24, 48]})[i % 2]
        config = small_config(epochs=1, model=model, batch_size=(64, 32)[i % 2])
        list(fit(config, digits(device), fp32_execution(("step", "network")[i // 2 % 2])))
        release_memory(device)
        reserved.append(torch.cuda.memory_reserved(device))
    early, late = max(reserved[:4]), max(reserved[-4:])
    return late <= 1.05 * early, f"{early / 2**20:.0f} MiB after 4 trials, {late / 2**20:.0f} MiB after 20"


def garbage_may_be_collected_during_a_capture(dataset: str) -> Answer:
    class Collecting(CudaRecorder):
        def record(self, function: Callable[[], None]) -> Callable[[], None]:
            def collect_and_run() -> None:
                gc.collect()
                function()

            return super().record(collect_and_run)

    for _ in range(3):
        execution = fp32_execution("step")
        with mock.patch("flexres_tune.training.step.CudaRecorder", Collecting):
            state, steps = make_steps(execution)
        take_steps(state, steps, NUM_EAGER_STEPS + 3)
        if execution.failures:
            return False, execution.failures[0]
    return True, "3 trials"


def memory_that_is_used_up_ends_one_trial_only(dataset: str) -> Answer:
    device = pick_device()
    limit_memory(device, 2 * 2**30 / torch.cuda.get_device_properties(device).total_memory)
    try:
        config = small_config(model="resnet22_2", batch_size=4096, epochs=1)
        list(fit(config, random_images(device, 8192), Execution(device, "fp32")))
        return False, "no error"
    except RuntimeError as error:
        recognised, text = is_out_of_memory(error), str(error).splitlines()[0][:80]
    release_memory(device)
    list(fit(small_config(epochs=1), digits(device), fp32_execution("step")))
    limit_memory(device, 1)
    return recognised, f"{text}; a small trial completed after it"


def broken_device_ends_the_process(dataset: str) -> Answer:
    code = "from flexres_tune.bench.gpu import checks; checks.train_on_a_device_that_breaks()"
    environment = {**os.environ, TRIAL_HOOK: f"{__name__}:break_the_device"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=100)
    last = (done.stderr.strip() or "-").splitlines()[-1]
    return done.returncode != 0 and "survived" not in done.stdout, f"status {done.returncode}: {last[:80]}"


def break_the_device(job: TrialJob, reports: Iterator) -> Iterator:
    """Hook of a trial: an assert fails on the device."""
    yield next(reports)
    index = torch.tensor([10**6], device=pick_device())
    torch.zeros(3, device=pick_device())[index].sum().item()


def train_on_a_device_that_breaks() -> None:
    """Main function of the process of `broken_device_ends_the_process`."""
    print([report.status for report in run_job(_job(num_gpus=1.0))], "survived")


def trial_without_a_gpu_runs_on_the_cpu(dataset: str) -> Answer:
    *_, last = run_job(_job(num_gpus=0.0))
    return last.status == "completed" and last.facts.device == device_name(CPU), f"{last.facts.device}"


def ten_architectures_are_compiled(dataset: str) -> Answer:
    from torch._dynamo.utils import counters

    counters.clear()
    device = pick_device()
    for width in range(8, 18):
        config = small_config(epochs=1, compile="on", model={"blocks": [1], "channels": [width]})
        state, steps = make_steps(Execution(device, "fp32", compile=True), config)
        take_steps(state, steps, 2)
    num = counters["stats"]["unique_graphs"]
    return num >= 10, f"{num} graphs were compiled"


def replays_of_a_graph_train(dataset: str) -> Answer:
    execution = fp32_execution("step")
    state, steps = make_steps(execution)
    take_steps(state, steps, NUM_EAGER_STEPS + 1)
    weights = [parameter.detach().clone() for parameter in state.model.parameters()]
    take_steps(state, steps, 3, begin=False, first=NUM_EAGER_STEPS + 1)
    changed = [not torch.equal(a, b) for a, b in zip(weights, state.model.parameters(), strict=True)]
    return all(changed) and not execution.failures, f"{sum(changed)} of {len(changed)} weights change"


def divergence_is_found_in_the_first_epoch(dataset: str) -> Answer:
    device = pick_device()
    try:
        list(
            fit(
                small_config(lr=1e6, epochs=2),
                digits(device),
                fp32_execution("step" if device.type == "cuda" else "none"),
            )
        )
    except DivergedError as error:
        return "in epoch 1" in str(error), str(error)[:80]
    return False, "no error"


def auto_measures_once(dataset: str) -> Answer:
    device = pick_device()
    config = small_config(epochs=100_000)
    labels, seconds = [], []
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, {"FLEXRES_TUNE_DATA": folder}):
        for _ in range(2):
            started = time.perf_counter()
            labels.append(choose_execution(config.model_copy(update={"compile": "off"}), device).label)
            seconds.append(time.perf_counter() - started)
    return labels[0] == labels[1] and seconds[1] < 0.2, f"{labels[0]}: {seconds[0]:.1f} s, then {seconds[1]:.3f} s"


def second_gpu_equals_the_first(dataset: str) -> Answer:
    with deterministic():
        found = [losses_of_steps(Execution(torch.device("cuda", i), "fp32", graph="step"), 20) for i in range(2)]
    return are_close(*found, 1e-3)


def training_needs_neither_ray_nor_pyarrow(dataset: str) -> Answer:
    code = "from flexres_tune.bench.gpu.checks import train_and_compare; print(train_and_compare())"
    with tempfile.TemporaryDirectory() as folder:
        for name in ("ray", "pyarrow"):
            (Path(folder) / f"{name}.py").write_text(f"raise ImportError('{name} is blocked')\n")
        # a package of the same name that cannot be imported; the processes that this one starts inherit the path
        path = os.pathsep.join([folder, os.getcwd(), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path}
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=280
        )
    last = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()[-1]
    return done.returncode == 0, last[:120]


def train_and_compare() -> str:
    """Main function of the process of `training_needs_neither_ray_nor_pyarrow`."""
    from flexres_tune.bench.train import bench_train

    list(fit(small_config(epochs=1), digits(CPU), Execution(CPU, "fp32")))
    result = bench_train(small_config(dataset="cifar10", model="small"), repeats=1)
    ratio = next(figure for figure in result.figures if figure.name == "fit / textbook")
    return f"fit / textbook: {ratio.median:.2f} ({result.machine})"


def _job(num_gpus: float) -> TrialJob:
    config = small_config(epochs=1, num_train_images=256)
    return TrialJob(config.trial_id, config.to_dict(), None, 10.0, num_threads=2, num_gpus=num_gpus)


CHECKS = (
    Check(1, "each execution trains, 2 epochs", each_execution_trains, num_gpus=0),
    Check(2, "fp32 equals the CPU, 20 steps", fp32_equals_the_cpu),
    Check(3, "graphs equal eager, 50 steps", graphs_equal_eager),
    Check(4, "a capture changes no buffers", capture_changes_no_buffers),
    Check(5, "each optimizer runs, eagerly and in graphs", each_optimizer_runs, num_gpus=0),
    Check(6, "the learning rate changes in a graph", learning_rate_changes_in_a_graph),
    Check(7, "last batches of B-1 and B+1 images", last_batch_is_trained_on, num_gpus=0),
    Check(8, "augmentations equal the CPU", augmentations_equal_the_cpu),
    Check(9, "the host waits at the end of an epoch only", host_waits_at_the_end_of_an_epoch_only),
    Check(10, "a trial resumes with the same numbers", trial_resumes_with_the_same_numbers, num_gpus=0),
    Check(11, "a checkpoint moves to the CPU and back", checkpoint_moves_between_devices),
    Check(12, "memory does not grow, 20 trials", memory_does_not_grow),
    Check(13, "garbage may be collected during a capture", garbage_may_be_collected_during_a_capture),
    Check(14, "memory that is used up ends one trial only", memory_that_is_used_up_ends_one_trial_only),
    Check(15, "a broken device ends the process", broken_device_ends_the_process),
    Check(16, "a trial with gpu: 0 runs on the CPU", trial_without_a_gpu_runs_on_the_cpu, num_gpus=0),
    Check(17, "4 processes share a GPU", four_processes_share_a_gpu, limit_s=150),
    Check(18, "10 architectures are compiled", ten_architectures_are_compiled, limit_s=240),
    Check(19, "replays of a graph train", replays_of_a_graph_train),
    Check(20, "divergence is found in the first epoch", divergence_is_found_in_the_first_epoch, num_gpus=0),
    Check(21, "auto measures once", auto_measures_once, num_gpus=0),
    Check(22, "cuda:1 equals cuda:0", second_gpu_equals_the_first, num_gpus=2),
    Check(23, "resnet22_2, batch 128, crop+flip", epoch_is_fast, limit_s=200),
    Check(24, "launches per step", launches_are_few),
    Check(25, "neither ray nor pyarrow is needed", training_needs_neither_ray_nor_pyarrow, num_gpus=0, limit_s=290),
)
