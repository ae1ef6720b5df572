"""Fixtures: sweeps with completed, stopped, failed and diverged trials."""

import functools
import math
import random
from datetime import UTC, datetime, timedelta

import pytest
from helpers.factories import VERSIONS, make_config, make_epoch, make_trial

from flexres_tune.report.data import read_data
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import Plan, write_plan
from flexres_tune.results.writer import SweepWriter

HOSTILE = "<script>alert(1)</script>"
START = datetime(2026, 1, 2, tzinfo=UTC)


@pytest.fixture
def fill(paths):
    """Writes the sweep `demo` of fill_sweep()."""
    return functools.partial(fill_sweep, paths)


@pytest.fixture(scope="module")
def hostile_data(tmp_path_factory):
    """What a report shows of the sweep of fill_sweep() with hostile texts; only to be read."""
    paths = SweepPaths(tmp_path_factory.mktemp("report") / "results", "demo")
    return read_data(fill_sweep(paths, hostile=HOSTILE), "demo")


def fill_sweep(paths, num_trials=None, hostile=""):
    """Write a sweep: a grid on two seeds whose smallest learning rate is stopped, or `num_trials` random trials."""
    rng = random.Random(0)
    clock = START
    configs = (
        [_random_config(rng, i) for i in range(num_trials)]
        if num_trials
        else [
            make_config(lr=lr, weight_decay=wd, seed=seed, epochs=9, model=model)
            for lr in (0.001, 0.01, 0.1)
            for wd in (0.0, 1e-4, 1e-3)
            for model in ("tiny", "small")
            for seed in (0, 1)
        ]
    )
    with SweepWriter(paths) as writer:
        for index, config in enumerate(configs):
            status = _status(index, config, rng, num_trials)
            reached = 0.98 - 0.02 * abs(math.log10(config.lr) + 1.5) + rng.gauss(0, 0.004)
            num_epochs = {"completed": config.epochs, "stopped": 3}.get(status, 0)
            curve = [min(1.0, reached - (reached - 0.1) * math.exp(-epoch / 3)) for epoch in range(1, num_epochs + 1)]
            for epoch, value in enumerate(curve, 1):
                writer.add_epoch(make_epoch(config.trial_id, epoch, val_accuracy=value))
            end = clock + timedelta(seconds=1 + num_epochs)
            ended_well = status in ("completed", "stopped")
            record = make_trial(
                config,
                status,
                best=max(curve, default=None),
                epochs_run=num_epochs,
                train_seconds=num_epochs * (1.0 + (config.model.name == "small")),
                num_parameters=78_042 if config.model.name == "small" else 24_794,
                error=None if ended_well else f"Traceback:\n  File {hostile}\nValueError: too few images {hostile}",
                started_at=clock,
                finished_at=end,
                device=f"cpu {hostile}".strip(),
            )
            clock += timedelta(seconds=2)
            writer.add_trial(record, config)
        writer.compact()
    write_plan(paths, make_plan(f"Which rate? {hostile}".strip(), len(configs)))
    return open_results(paths.root)


def make_plan(description, num_trials):
    return Plan(
        sweep="demo",
        description=description,
        profile="laptop",
        command="python -m flexres_tune.run sweeps/demo.yaml",
        order_seed=0,
        trials=(),
        num_trials=num_trials,
        created_at=START,
        versions=VERSIONS,
        host="here",
        pid=1,
        spec={"name": "demo", "description": description, "base": {"dataset": "digits"}},
    )


def _random_config(rng, index):
    return make_config(
        lr=10 ** rng.uniform(-4, 0),
        weight_decay=10 ** rng.uniform(-6, -2),
        optimizer=rng.choice(["sgd", "adam", "adamw"]),
        batch_size=rng.choice([32, 64, 128]),
        model=rng.choice(["tiny", "small"]),
        seed=index % 2,
        epochs=20,
    )


def _status(index, config, rng, num_trials):
    if num_trials:
        return rng.choices(["completed", "stopped", "failed", "diverged"], [40, 57, 2, 1])[0]
    if index in (3, 4):
        return ["failed", "diverged"][index - 3]
    return "stopped" if config.lr < 0.01 else "completed"
