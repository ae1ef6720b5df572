"""Template: the files that attacks start from, made once per process and copied for each attack.

results/ has the sweeps `alpha` (a grid on seeds, with confirmed, stopped, failed and diverged trials, several parts,
and a checkpoint), `beta` (random search, one part per table) and `gamma` (started, without rows).
"""

from __future__ import annotations

import io
import itertools
import random
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from helpers.factories import (
    make_config,
    make_decision,
    make_epoch,
    make_predictions,
    make_sweep,
    make_sweep_yaml,
    make_trial,
)
from PIL import Image

from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import TrialConfig
from flexres_tune.submit.fetch import pack_results
from flexres_tune.training.checkpoint import save_checkpoint
from flexres_tune.training.execution import Execution
from flexres_tune.training.state import TrainState

COMMAND = "python -m flexres_tune.run sweeps/alpha.yaml"
SWEEP_YAML = make_sweep_yaml(
    name="alpha",
    description="Which optimizer?",
    seeds=[0, 1],
    parameters={"optimizer": {"values": ["sgd", "adam"]}, "lr": {"values": [0.01, 0.1]}},
    early_terminate={"type": "asha", "variant": "stopping", "grace_period": 1, "reduction_factor": 2},
    confirm={"top": 2, "seeds": [10, 11]},
    profiles={"laptop": {"seeds": [0]}},
)
NUM_SCREENED = 12  # trials of alpha
CLUSTER_YAML = """cluster_name: ours
provider:
  type: aws
  region: us-west-2
  flexres_tune: {python: ~/venv/bin/python, storage: /mnt/results}
auth: {ssh_user: ubuntu}
available_node_types:
  head: {resources: {CPU: 4}, node_config: &node {InstanceType: g5.xlarge}}
  worker: {resources: {CPU: 4, GPU: 1}, node_config: *node, min_workers: 0, max_workers: 4}
head_node_type: head
setup_commands: [pip install -r requirements.txt]
"""


def make_template(folder: Path) -> None:
    """Write the files into an empty folder."""
    chance = random.Random(0)
    _write_alpha(folder / "results", chance)
    _write_beta(folder / "results", chance)
    write_plan(SweepPaths(folder / "results", "gamma"), make_plan(make_sweep(name="gamma"), [], COMMAND, {}))
    (folder / "sweep.yaml").write_text(SWEEP_YAML)
    (folder / "cluster.yaml").write_text(CLUSTER_YAML)
    pack_results(folder / "results", "alpha", False, folder / "good.tar")
    (folder / "images").mkdir()
    for name, num_images in (("train", 30), ("test", 10)):
        pq.write_table(make_images(num_images, chance), folder / "images" / f"{name}.parquet")


def make_images(num_images: int, chance: random.Random) -> pa.Table:
    """Images of 8x8 noise of two classes, in the layout of `parquet:PATH`."""
    rows = []
    for index in range(num_images):
        buffer = io.BytesIO()
        Image.frombytes("RGB", (8, 8), chance.randbytes(192)).save(buffer, "PNG")
        rows.append({"img": {"bytes": buffer.getvalue(), "path": None}, "label": index % 2})
    return pa.Table.from_pylist(rows)


def _write_alpha(root: Path, chance: random.Random) -> None:
    paths = SweepPaths(root, "alpha")
    configs = _alpha_configs()
    screened, confirmed = configs[:NUM_SCREENED], configs[NUM_SCREENED:]
    statuses = ["completed"] * len(screened)
    statuses[0], statuses[1], statuses[2] = "stopped", "failed", "diverged"
    with SweepWriter(paths) as writer:
        for number, (config, status) in enumerate(zip(screened, statuses, strict=True)):
            _write_trial(writer, config, status, "screen", chance)
            if number % 4 == 3:
                writer.flush()  # another part
        for config in confirmed:
            _write_trial(writer, config, "completed", "confirm", chance)
    write_plan(paths, make_plan(make_sweep(name="alpha", description="Which optimizer?"), [], COMMAND, {}))
    paths.lock.write_text('{"host": "here", "pid": 1, "started_at": "2026-01-02T03:04:05+00:00"}')
    for config in confirmed:
        payload = _state(config).to_payload() | {"epoch": config.epochs}  # untrained, as if it had run all its epochs
        save_checkpoint(paths.checkpoint(config.trial_id), payload)


@cache
def _alpha_configs() -> list[TrialConfig]:
    screened = itertools.product((0.001, 0.01, 0.1), ("sgd", "adam"), (0, 1))
    confirmed = itertools.product((0.1,), ("sgd", "adam"), (7, 8))
    return [make_config(lr=lr, optimizer=name, seed=seed, epochs=4) for lr, name, seed in (*screened, *confirmed)]


def _write_trial(writer: SweepWriter, config: TrialConfig, status: str, stage: str, chance: random.Random) -> None:
    num_epochs = {"completed": config.epochs, "stopped": 2, "diverged": 1}.get(status, 0)
    curve = [0.5 + 0.1 * epoch + chance.uniform(0, 0.05) for epoch in range(num_epochs)]
    for epoch, value in enumerate(curve, 1):
        writer.add_epoch(make_epoch(config.trial_id, epoch, val_accuracy=value))
    if stage == "screen" and num_epochs >= 2:
        action = "stop" if status == "stopped" else "continue"
        writer.add_decision(make_decision(config.trial_id, 2, action, value=curve[1]))
    if status == "completed":
        for split in ("val", "test"):
            values = [[chance.random() for _ in range(4)] for _ in range(9)]
            row, labels = make_predictions(values, [number % 4 for number in range(9)], config.trial_id, split=split)
            writer.add_predictions([row], [labels])
    writer.add_trial(
        make_trial(
            config,
            status,
            max(curve, default=None),
            stage=stage,
            epochs_run=num_epochs,
            error="Traceback:\nValueError: no" if status == "failed" else None,
            finished_at=datetime(2026, 1, 2, 4, chance.randrange(60), tzinfo=UTC),
        ),
        config,
    )


def _write_beta(root: Path, chance: random.Random) -> None:
    paths = SweepPaths(root, "beta")
    with SweepWriter(paths) as writer:
        for number in range(8):
            config = make_config(
                lr=10 ** chance.uniform(-3, 0),
                weight_decay=10 ** chance.uniform(-6, -2),
                batch_size=chance.choice([32, 64]),
                model=chance.choice(["tiny", "small"]),
                seed=number % 2,
                epochs=3,
            )
            _write_trial(writer, config, "completed", "screen", chance)
        writer.compact()
    write_plan(paths, make_plan(make_sweep(name="beta"), [], COMMAND, {}))


def make_state(trial_id: str) -> TrainState:
    """A new state of one of alpha's trials."""
    return _state(next(config for config in _alpha_configs() if config.trial_id == trial_id))


def _state(config: TrialConfig) -> TrainState:
    return TrainState(config, num_classes=10, image_size=8, execution=Execution(torch.device("cpu"), "fp32"))
