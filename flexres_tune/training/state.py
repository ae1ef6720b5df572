"""State of a trial between two epochs: weights, optimizer, generators and history."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from flexres_tune.models import build_model
from flexres_tune.optim import build_optimizer, load_optimizer_state, optimizer_state
from flexres_tune.records import EpochMetrics
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training.execution import Execution


class TrainState:
    """Everything that a trial changes; after each epoch `to_payload` has all that is needed to resume.

    There are two sources of randomness, both seeded by config.seed alone. `generator`, on the device, draws the order
    of images and all augmentation. torch's global generators, which dropout always draws from, have this trial's own
    state inside `own_randomness` and are restored after it. Weights are drawn on the CPU: the same on every device.
    """

    def __init__(self, config: TrialConfig, num_classes: int, image_size: int, execution: Execution):
        self.config = config
        self.device = execution.device
        self.precision = execution.precision
        self.history: list[EpochMetrics] = []
        with self._forked():
            self._seed_global_generators(config.seed)
            self.model = build_model(config.model, num_classes, image_size)
            self._global_states = self._read_global_states()
        self.model.to(self.device, memory_format=execution.memory_format)
        self.optimizer = build_optimizer(self.model.parameters(), config)
        self.generator = torch.Generator(self.device).manual_seed(config.seed)

    @property
    def epoch(self) -> int:
        """Epochs finished."""
        return len(self.history)

    def renew_generator(self) -> None:
        """Replace `generator` by another one in the same state."""
        states = self.generator.get_state()
        self.generator = torch.Generator(self.device)
        self.generator.set_state(states)

    @contextmanager
    def own_randomness(self) -> Iterator[None]:
        """Context in which torch's global generators have this trial's state; afterwards they are as before it."""
        with self._forked():
            self._write_global_states(self._global_states)
            yield
            self._global_states = self._read_global_states()

    def to_payload(self) -> dict[str, Any]:
        """What a checkpoint holds. The tensors are views, not copies: the next step changes them."""
        return {
            "trial_id": self.config.trial_id,
            "epoch": self.epoch,
            "history": [dataclasses.asdict(metrics) for metrics in self.history],
            "device_type": self.device.type,
            "precision": self.precision,
            "model": self.model.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "generators": {"own": self.generator.get_state(), **self._global_states},
        }

    def load_payload(self, payload: dict[str, Any]) -> None:
        """Continue from a checkpoint.

        If it was written on another kind of device, whose generators differ, they are seeded by seed and epoch:
        reproducible too, but not the same draws.

        Raises:
            RuntimeError, ValueError, KeyError, TypeError: the payload does not fit this code's model or optimizer.
        """
        self.model.load_state_dict(payload["model"])
        load_optimizer_state(self.optimizer, payload["optimizer"])
        self.history = [EpochMetrics(**metrics) for metrics in payload["history"]]
        if payload["device_type"] == self.device.type:
            states = dict(payload["generators"])
            self.generator.set_state(states.pop("own"))
            self._global_states = states
        else:
            seed = (self.config.seed + self.epoch) % 2**63
            self.generator.manual_seed(seed)
            with self._forked():
                self._seed_global_generators(seed)
                self._global_states = self._read_global_states()

    def _forked(self):
        return torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else [])

    def _seed_global_generators(self, seed: int) -> None:
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would seed every GPU of the process
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                torch.cuda.manual_seed(seed)

    def _read_global_states(self) -> dict[str, Tensor]:
        states = {"cpu": torch.get_rng_state()}
        if self.device.type == "cuda":
            states["cuda"] = torch.cuda.get_rng_state(self.device)
        return states

    def _write_global_states(self, states: dict[str, Tensor]) -> None:
        torch.set_rng_state(states["cpu"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(states["cuda"], self.device)
