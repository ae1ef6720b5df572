"""One training step: loss = cross-entropy(network(images), targets); backward; update."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from flexres_tune.training.execution import Execution
from flexres_tune.training.state import TrainState

Network = Callable[[Tensor], Tensor]  # (B, 3, H, W) float32 -> (B, classes)


def train_step(
    state: TrainState, network: Network, images: Tensor, targets: Tensor, execution: Execution
) -> tuple[Tensor, Tensor]:
    """(loss, logits) of a step, on the device: nothing here waits for it.

    Args:
        network: state.model, or a faster form of it.
        images: (B, 3, H, W) float32.
        targets: (B, classes) soft targets.
    """
    with autocast(execution):
        logits = network(images)
    loss = F.cross_entropy(logits.float(), targets)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    state.optimizer.step()
    return loss.detach(), logits


def autocast(execution: Execution) -> torch.autocast:
    """bf16 where the execution says so. A captured graph must not hold on to cast copies of weights that change."""
    return torch.autocast(
        execution.device.type,
        torch.bfloat16,
        enabled=execution.precision == "bf16",
        cache_enabled=not execution.graphs,
    )
