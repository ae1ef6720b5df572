"""One training step: loss = cross-entropy(network(images), targets); backward; update."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from flexres_tune.training.execution import Execution
from flexres_tune.training.network import Network
from flexres_tune.training.state import TrainState


def train_step(
    state: TrainState, network: Network, images: Tensor, targets: Tensor, execution: Execution
) -> tuple[Tensor, Tensor]:
    """(loss, logits) of one step, on the device; the host does not wait for them.

    Args:
        network: state.model, or a faster form of it.
        images: (B, 3, H, W) float32.
        targets: (B, classes) soft targets.
    """
    with execution.autocast():
        logits = network(images)
    loss = F.cross_entropy(logits.float(), targets)
    state.optimizer.zero_grad(set_to_none=True)
    loss.backward()
    state.optimizer.step()
    return loss.detach(), logits
