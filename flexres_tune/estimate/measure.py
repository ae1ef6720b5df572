"""Measure: seconds per epoch of each model shape of a sweep, with as many processes at once as trials will run.

Each process trains the trial's own steps, as `fit` does, for a few seconds. Nothing is written to the results.
"""

from __future__ import annotations

import multiprocessing
import queue
import statistics
import time
from collections.abc import Callable, Sequence
from multiprocessing.synchronize import Barrier
from typing import Any

from flexres_tune.errors import FlexResError
from flexres_tune.estimate.speeds import OVERHEAD_S, Shape, Speed, SpeedBook, shape_of, store_measured
from flexres_tune.spec import PlannedTrial, TrialConfig

MEASURE_S = 3.0  # of steps, after the first ones
NUM_WARM_UP = 3  # steps that are not counted: caches fill, kernels are chosen
NUM_EVALUATED = 1_000  # images, from which the time of the validation follows
TIMEOUT_S = 240.0  # for one shape; decoding a large data set takes a minute


def measure_speeds(
    missing: Sequence[PlannedTrial], num_slots: int, num_threads: int, say: Callable[[str], None]
) -> SpeedBook:
    """Measure every shape of the missing trials on this machine, and store what was measured.

    Raises:
        FlexResError: a shape cannot be trained here.
    """
    book = SpeedBook()
    shapes: dict[Shape, TrialConfig] = {}
    for trial in missing:
        shapes.setdefault(shape_of(trial.config), trial.config)
    for number, (shape, config) in enumerate(shapes.items(), 1):
        say(f"measuring {config.model.name}, batch size {config.batch_size} ({number} of {len(shapes)}) ...")
        at_once = min(num_slots, len(missing))
        epoch_s, end_s, device = _measure(config, at_once, num_threads)
        speed = Speed(epoch_s, OVERHEAD_S, source="measured", device=device, end_s=end_s)
        book.add(shape, speed)
        try:
            store_measured(shape, num_slots, speed)
        except OSError as error:
            say(f"{error}; a later dry run measures again")
    return book


def _measure(config: TrialConfig, number: int, num_threads: int) -> tuple[float, float, str]:
    """(mean seconds per epoch of `number` processes that train at once, those of the test images, their device)."""
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(number), context.Queue()
    arguments = (config.to_dict(), num_threads, barrier, results)
    processes = [context.Process(target=_train, args=arguments, daemon=True) for _ in range(number)]
    for process in processes:
        process.start()
    try:
        found = [_result(results, processes) for _ in processes]
    finally:
        for process in processes:
            process.terminate()
    for each in found:
        if isinstance(each, str):
            raise FlexResError(f"--measure: {config.model.name} cannot be trained here: {each}")
    return statistics.fmean(each[0] for each in found), statistics.fmean(each[1] for each in found), found[0][2]


def _result(results: Any, processes: Sequence[Any]) -> Any:
    ends_at = time.monotonic() + TIMEOUT_S
    while time.monotonic() < ends_at:
        try:
            return results.get(timeout=1.0)
        except queue.Empty:
            if any(process.exitcode for process in processes):
                return "its process died"
    return f"no result within {TIMEOUT_S:g} s"


def _train(config: dict[str, Any], num_threads: int, barrier: Barrier, results: Any) -> None:
    """In a process of its own: put (seconds per epoch, of the test images, device) or an error's text."""
    try:
        results.put(_seconds(TrialConfig.model_validate(config), num_threads, barrier))
    except Exception as error:
        barrier.abort()
        results.put(f"{type(error).__name__}: {error}")


def _seconds(config: TrialConfig, num_threads: int, barrier: Barrier) -> tuple[float, float, str]:
    import torch

    from flexres_tune.datasets import load_trial_data
    from flexres_tune.datasets.images import Split
    from flexres_tune.training import choose_execution, fit
    from flexres_tune.training import device as devices
    from flexres_tune.training.epoch import Preprocessing, batch_sizes, evaluate
    from flexres_tune.training.state import TrainState

    device = devices.pick_device()
    if device.type == "cpu":
        torch.set_num_threads(num_threads)
    execution = choose_execution(config, device)
    data = load_trial_data(config, device)
    times: list[float] = []

    def should_stop() -> bool:
        if len(times) == NUM_WARM_UP:
            barrier.wait(TIMEOUT_S)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter())
        return len(times) > NUM_WARM_UP + 2 and times[-1] - times[NUM_WARM_UP] > MEASURE_S

    epochs = [metrics.epoch_seconds for metrics in fit(config, data, execution, None, should_stop)]
    state = TrainState(config, data.num_classes, data.image_size, execution)
    part = Split(data.val.images[:NUM_EVALUATED], data.val.labels[:NUM_EVALUATED])
    started = time.perf_counter()
    evaluate(state.model, part, Preprocessing(config, data, execution), execution)
    of_image = (time.perf_counter() - started) / len(part.labels)
    end_s = of_image * len(data.test.labels)
    if len(epochs) > 2:  # short epochs: their own times, without the first, in which the process has waited
        return statistics.fmean(epochs[1:]), end_s, devices.device_name(device)
    steps = [after - before for before, after in zip(times[NUM_WARM_UP:], times[NUM_WARM_UP + 1 :], strict=False)]
    num_steps = len(batch_sizes(len(data.train.labels), config.batch_size))
    training_s = statistics.fmean(sorted(steps)[: max(1, len(steps) * 9 // 10)]) * num_steps
    return training_s + of_image * len(data.val.labels), end_s, devices.device_name(device)
