"""Plausible records, configurations and sweep files for tests: every value has a default and is changed by keyword."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from flexres_tune.records import (
    Decision,
    EpochMetrics,
    EpochRecord,
    LabelRecord,
    PredictionRecord,
    TrialRecord,
    Versions,
)
from flexres_tune.spec import PlannedTrial, SweepSpec, TrialConfig

NUM_PARAMETERS = 24_794  # of `tiny` on digits
VERSIONS = Versions(flexres_tune="0.1.0", torch="2.11", ray="2.60", python="3.11")


def make_config(**changes) -> TrialConfig:
    """A trial of `tiny` on digits."""
    return TrialConfig.model_validate({"model": "tiny", "dataset": "digits", "lr": 0.1, "seed": 0} | changes)


def make_planned(config: TrialConfig | None = None, **changes) -> PlannedTrial:
    """A planned trial of the screening."""
    return PlannedTrial(**{"config": config or make_config(), "varied": {}, "num_parameters": NUM_PARAMETERS} | changes)


def make_metrics(epoch: int = 1, val_accuracy: float = 0.5, **changes) -> EpochMetrics:
    """Measurements of one epoch."""
    return EpochMetrics(**_metrics(epoch, val_accuracy) | changes)


def make_epoch(trial_id: str = "a-0", epoch: int = 1, val_accuracy: float = 0.5, **changes) -> EpochRecord:
    """A row of `epochs`, of any sweep (an empty name is that of the writer's sweep)."""
    return EpochRecord(**_metrics(epoch, val_accuracy) | {"trial_id": trial_id} | changes)


def make_trial(config: TrialConfig | None = None, status: str = "completed", best: float | None = 0.9, **changes):
    """A row of `trials`, of any sweep; `best` is its best_val_accuracy, from which the other accuracies follow."""
    config = config or make_config()
    is_completed = status == "completed"
    values = {
        "sweep": "",
        "trial_id": config.trial_id,
        "config_id": config.config_id,
        "seed": config.seed,
        "stage": "screen",
        "profile": "laptop",
        "status": status,
        "error": None,
        "attempt": 1,
        "num_parameters": NUM_PARAMETERS,
        "best_val_accuracy": best,
        "best_epoch": None if best is None else min(2, config.epochs),
        "last_val_accuracy": None if best is None else best - 0.01,
        "test_accuracy": best - 0.02 if is_completed and best is not None else None,
        "epochs_run": config.epochs if is_completed else 1,
        "train_seconds": 10.0,
        "images_per_second": 1000.0,
        "peak_memory_bytes": 2**20,
        "device": "cpu",
        "precision_used": "fp32",
        "compile_used": False,
        "execution": "fp32",
        "hostname": "here",
        "node_ip": "127.0.0.1",
        "started_at": datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        "finished_at": datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC),
        "versions": VERSIONS,
        "git_commit": "0123abc",
    }
    return TrialRecord(**values | changes)


def make_decision(trial_id: str = "a-0", epoch: int = 1, action: str = "stop", **changes) -> Decision:
    """A row of `decisions`, of any sweep."""
    values = {"trial_id": trial_id, "epoch": epoch, "action": action}
    return Decision(**values | {"rung": 0, "value": 0.3, "cutoff": 0.4, "ladder": "epochs=20"} | changes)


def make_predictions(
    probabilities: Sequence[Sequence[float]], labels: Sequence[int], trial_id: str = "a-0", **changes
) -> tuple[PredictionRecord, LabelRecord]:
    """The rows of `predictions` and `labels` of a trial that gives each image these probabilities of the classes."""
    values = np.asarray(probabilities, np.float16).astype(np.float32)  # (N, classes)
    order = np.argsort(-values, axis=1, kind="stable").astype(np.uint16)
    ranked = np.take_along_axis(values, order.astype(int), 1)
    key = {"dataset": "digits", "split": "val", "subset": "fixed"} | changes
    has_third = values.shape[1] > 2
    row = PredictionRecord(
        trial_id=trial_id,
        predicted=order[:, 0],
        predicted_probability=ranked[:, 0],
        second=order[:, 1],
        second_probability=ranked[:, 1],
        third=order[:, 2] if has_third else None,
        third_probability=ranked[:, 2] if has_third else None,
        true_probability=values[np.arange(len(labels)), labels],
        **key,
    )
    names = tuple(f"class {number}" for number in range(values.shape[1]))
    numbers = np.arange(len(labels), dtype=np.int32)
    return row, LabelRecord(image=numbers, label=np.asarray(labels, np.uint16), class_names=names, **key)


def make_sweep(**changes) -> SweepSpec:
    """A sweep of `tiny` on digits, without a file."""
    return SweepSpec.model_validate(_sweep() | changes)


def make_sweep_yaml(base: dict[str, Any] | None = None, **changes) -> str:
    """A sweep file, one line per key: `base` is merged into the default base, other keys replace or follow the default.

    Values are JSON with keys unquoted, such as `{lr: {values: [0.1]}}`, so a test may replace parts and append lines.
    """
    sweep = _sweep()
    keys = sweep | {"base": sweep["base"] | (base or {})} | changes
    return "".join(f"{key}: {_flow(value)}\n" for key, value in keys.items())


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_flow(each)}" for key, each in value.items()) + "}"
    return json.dumps(value, ensure_ascii=False)


def _metrics(epoch: int, val_accuracy: float) -> dict[str, Any]:
    return {
        "epoch": epoch,
        "train_loss": 1.5,
        "train_accuracy": 0.4,
        "val_loss": 1.4,
        "val_accuracy": val_accuracy,
        "lr": 0.1,
        "epoch_seconds": 2.5,
        "images_per_second": 1000.0,
    }


def _sweep() -> dict[str, Any]:
    return {
        "name": "test",
        "base": {"dataset": "digits", "model": "tiny", "epochs": 2, "batch_size": 64, "augmentation": []},
        "resources_per_trial": {"cpu": 1, "gpu": 0},
    }
