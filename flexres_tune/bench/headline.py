"""bench headline: which optimizer is best? By the textbook loop, by our sweep, and by Optuna round the textbook loop.

The same 18 configurations (six optimizers, three learning rates each), network, images and epochs. None of the three
runs at the same time as another. Cost is device-seconds: for how long the method keeps this machine, which must do
nothing else. On a CPU, the CPU time of all processes of a method is printed as well, with those of Ray and of data
loaders. It depends less on what else the machine does, but counts a core that a method leaves idle as free. The
textbook loop has torch's default number of threads, as tutorials do.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flexres_tune.bench.figures import Bench, Figure
from flexres_tune.bench.process_time import ProcessTime
from flexres_tune.bench.textbook import TextbookLoop
from flexres_tune.datasets import load_trial_data
from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.errors import FlexResError
from flexres_tune.spec import SweepSpec, TrialConfig, expand_trials
from flexres_tune.training.device import pick_device

NUM_SEEDS = 3  # of the textbook's full grid
NUM_FRESH = 8  # runs of our confirmation: one of each optimizer, and two where the first is least decided
TEXTBOOK = f"textbook, full grid x {NUM_SEEDS} seeds"
OURS = "our sweep"
OPTUNA = "Optuna's successive halving"
RATES = {
    "sgd": [0.01, 0.03, 0.1],
    "nesterov": [0.01, 0.03, 0.1],
    "adam": [3e-4, 1e-3, 3e-3],
    "adamw": [3e-4, 1e-3, 3e-3],
    "adadelta": [0.1, 0.3, 1.0],
    "adagrad": [3e-3, 0.01, 0.03],
}


@dataclass(frozen=True)
class Extent:
    """How much a trial trains."""

    num_images: int = 10_000  # training images
    epochs: int = 10
    num_val_images: int | None = None  # None: the data set's own

    @property
    def text(self) -> str:
        val = "" if self.num_val_images is None else f", {self.num_val_images:,} validation images"
        return f"{self.num_images:,} images{val}, {self.epochs} epochs"


@dataclass(frozen=True)
class Answer:
    """What a method found, and what it cost."""

    cpu_seconds: float  # of all its processes
    wall_seconds: float
    epochs: int
    best: dict[str, float]  # validation accuracy of the best configuration of each optimizer that has a result

    @property
    def text(self) -> str:
        ranked = sorted(self.best.items(), key=lambda item: -item[1])
        missing = [name for name in RATES if name not in self.best]
        found = ", ".join(f"{name} {100 * accuracy:.1f} %" for name, accuracy in ranked)
        return found + (f"; no result: {', '.join(missing)}" if missing else "")


def bench_headline(
    config: TrialConfig,
    extent: Extent,
    textbook_seeds: int = NUM_SEEDS,
    on_message: Callable[[str], None] = lambda text: None,
) -> Bench:
    """Run the three methods, one after the other. Hours on a CPU with `small`.

    Args:
        config: network, data, batch size and augmentation of all trials.
        extent: how many images and epochs they have.
        textbook_seeds: how many of the textbook's seeds are trained; with fewer than NUM_SEEDS, its cost is scaled.
        on_message: called with a line per method that has ended, because the next one takes long.
    """
    values = make_sweep(config, extent)
    configs = [trial.config for trial in expand_trials(SweepSpec.model_validate(values), describe_dataset)]
    device = pick_device()
    load_trial_data(configs[0], device)  # decoded and cached before any clock starts
    methods = {
        OURS: lambda: _our_sweep(values),
        OPTUNA: lambda: _optuna(configs),
        TEXTBOOK: lambda: _textbook_grid(configs, textbook_seeds),
    }
    answers: dict[str, Answer] = {}
    for name, find_answer in methods.items():
        answers[name] = find_answer()
        on_message(f"{name}: {answers[name].wall_seconds:.0f} s, {answers[name].epochs} epochs; {answers[name].text}")
    title = f"headline: {config.model.name}, {extent.text}, {len(configs)} configurations"
    notes = [f"{name}: {answer.text}" for name, answer in answers.items()]
    if textbook_seeds < NUM_SEEDS:
        notes.append(
            f"textbook: {textbook_seeds} of {NUM_SEEDS} seeds were trained, and cost and epochs are scaled to "
            f"{NUM_SEEDS}; its accuracies are those of {textbook_seeds}"
        )
    return Bench(title, _figures(answers, device.type == "cpu"), tuple(notes))


def _figures(answers: dict[str, Answer], is_cpu: bool) -> tuple[Figure, ...]:
    """Cost and epochs of each method, and what the others cost in relation to ours."""
    costs = {"device-seconds": {name: each.wall_seconds for name, each in answers.items()}}
    if is_cpu:
        costs["CPU time"] = {name: each.cpu_seconds for name, each in answers.items()}
    figures = [Figure.of(f"{name}: {what}", "s", [cost]) for what, each in costs.items() for name, cost in each.items()]
    figures += [Figure.of(f"{name}: epochs", "epochs", [float(each.epochs)]) for name, each in answers.items()]
    for what, each in costs.items():
        figures.append(Figure.of(f"textbook / ours, {what}", "x", [each[TEXTBOOK] / each[OURS]]))
        figures.append(Figure.of(f"Optuna / ours, {what}", "x", [each[OPTUNA] / each[OURS]]))
    return tuple(figures)


def make_sweep(config: TrialConfig, extent: Extent) -> dict[str, Any]:
    """The sweep file, as data."""
    return {
        "name": "headline",
        "method": "grid",
        "seeds": [0],
        "base": {
            "model": config.model.name,
            "dataset": config.dataset,
            "num_train_images": extent.num_images,
            **({} if extent.num_val_images is None else {"num_val_images": extent.num_val_images}),
            "batch_size": config.batch_size,
            "epochs": extent.epochs,
            "augmentation": list(config.augmentation),
        },
        "parameters": [{"optimizer": {"value": name}, "lr": {"values": rates}} for name, rates in RATES.items()],
        "compare": "optimizer",
        "early_terminate": {"type": "halving", "grace_period": "auto"},
        "confirm": {"top": 1, "num_runs": NUM_FRESH},
    }


def _textbook_grid(configs: Sequence[TrialConfig], num_seeds: int) -> Answer:
    """Every configuration with every seed, one after the other; the cost is that of NUM_SEEDS."""
    means: dict[str, list[float]] = {}
    with ProcessTime() as spent:
        for config in configs:
            scores = []
            for seed in range(num_seeds):
                loop = _make_loop(config, seed)
                scores.append(max(_epoch(loop) for _ in range(config.epochs)))
            means.setdefault(config.optimizer, []).append(statistics.fmean(scores))
    epochs = NUM_SEEDS * sum(config.epochs for config in configs)
    scale = NUM_SEEDS / num_seeds
    best = {name: max(found) for name, found in means.items()}
    return Answer(scale * spent.cpu_seconds, scale * spent.wall_seconds, epochs, best)


def _optuna(configs: Sequence[TrialConfig]) -> Answer:
    """SuccessiveHalvingPruner round the textbook loop, one seed."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    num_epochs, best = 0, {}

    def train(trial: optuna.Trial) -> float:
        nonlocal num_epochs
        config = configs[trial.suggest_categorical("configuration", list(range(len(configs))))]
        loop, accuracy = _make_loop(config, 0), 0.0
        for epoch in range(1, config.epochs + 1):
            accuracy = max(accuracy, _epoch(loop))
            num_epochs += 1
            trial.report(accuracy, epoch)
            if epoch < config.epochs and trial.should_prune():
                raise optuna.TrialPruned
        best[config.optimizer] = max(accuracy, best.get(config.optimizer, 0.0))
        return accuracy

    sampler = optuna.samplers.GridSampler({"configuration": list(range(len(configs)))}, seed=0)
    pruner = optuna.pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    study = optuna.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    with ProcessTime() as spent:
        study.optimize(train, n_trials=len(configs))
    return Answer(spent.cpu_seconds, spent.wall_seconds, num_epochs, best)


def _make_loop(config: TrialConfig, seed: int) -> TextbookLoop:
    torch.manual_seed(seed)
    device = pick_device()
    return TextbookLoop(config, load_trial_data(config, device), device)


def _epoch(loop: TextbookLoop) -> float:
    """Train an epoch; its validation accuracy."""
    loop.run_epoch()
    return loop.end_epoch()


def _our_sweep(values: dict[str, Any]) -> Answer:
    """The command that a user types, with its confirmation."""
    with tempfile.TemporaryDirectory(prefix="flexres_tune_bench_") as folder:
        file, results = Path(folder, "headline.yaml"), Path(folder, "results")
        file.write_text(json.dumps(values))
        with ProcessTime() as spent:
            _run("run", str(file), "--storage", str(results))
        query = "SELECT optimizer, config_id, stage, status, best_val_accuracy, epochs_run FROM trials"
        trials = json.loads(_run("query", "--results", str(results), "--format", "json", query))
    scores: dict[tuple[str, str], list[float]] = {}
    for trial in trials:
        if trial["status"] == "completed" and trial["stage"] == "confirm":
            scores.setdefault((trial["optimizer"], trial["config_id"]), []).append(trial["best_val_accuracy"])
    best: dict[str, float] = {}
    for (optimizer, _), found in scores.items():
        best[optimizer] = max(statistics.fmean(found), best.get(optimizer, 0.0))
    return Answer(spent.cpu_seconds, spent.wall_seconds, sum(trial["epochs_run"] or 0 for trial in trials), best)


def _run(*words: str) -> str:
    command = [sys.executable, "-m", f"flexres_tune.{words[0]}", *words[1:]]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise FlexResError(f"{' '.join(command)} failed: {done.stderr.strip().splitlines()[-1:]}")
    return done.stdout
