"""The training steps of a trial: loss = cross-entropy(network(augmented images), targets); backward; update.

`TrainingSteps` takes them eagerly, or replays each full batch as one CUDA graph (graph.py).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from flexres_tune.datasets.images import Split
from flexres_tune.optim import set_learning_rate
from flexres_tune.training.execution import Execution
from flexres_tune.training.graph import CaptureError, CudaRecorder, GraphedSteps, Recorder
from flexres_tune.training.network import Network, prepare_network
from flexres_tune.training.preprocessing import Preprocessing
from flexres_tune.training.state import TrainState

log = logging.getLogger(__name__)


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


class TrainingSteps:
    """The steps of a trial, epoch by epoch: `begin_epoch`, then `step` for each batch, then the sums.

    The sums of losses and of right predictions are on the device, which the host reads after an epoch only. Accuracy
    compares the prediction with the largest soft target: of a mixed image, with the label of its larger part.
    """

    def __init__(
        self,
        state: TrainState,
        split: Split,
        preprocessing: Preprocessing,
        execution: Execution,
        recorder: Recorder | None = None,
    ):
        """Prepare the network for full batches; if the images are fewer than a batch, the model is used as it is.

        Args:
            recorder: of the graph if execution.graph is "step"; None: CUDA's.
        """
        self._state = state
        self.split = split
        self._preprocessing = preprocessing
        self.execution = execution
        device, self._batch_size = execution.device, state.config.batch_size
        self.loss_sum = torch.zeros((), dtype=torch.float64, device=device)
        self.num_correct = torch.zeros((), dtype=torch.int64, device=device)
        self._rates: Sequence[float] = ()
        self._network: Network = state.model
        self._graphed: GraphedSteps | None = None
        if len(split) < self._batch_size:
            return
        with execution.kernels(choose=True), state.own_randomness():
            state.model.train()
            first = split.images[: self._batch_size]
            try:
                self._network = prepare_network(state.model, execution, lambda: preprocessing.evaluation(first))
            except CaptureError as error:
                self._stop_replaying(error)
            if execution.graph == "step":
                recorder = recorder or CudaRecorder(device, [state.generator])
                arguments = (state.optimizer, self._batch_size, len(split), recorder)
                self._graphed = GraphedSteps(self._train_on_full_batch, *arguments)

    def begin_epoch(self, order: Tensor, rates: Sequence[float]) -> None:
        """Set the order of the images (num_images,), and the learning rate of each batch."""
        self._rates = rates
        self.loss_sum.zero_()
        self.num_correct.zero_()
        if self._graphed is not None:
            self._graphed.begin_epoch(order, rates[: len(order) // self._batch_size])

    def step(self, i: int, indices: Tensor) -> Tensor | None:
        """Train on the epoch's batch `i`, which has these images (B,); the loss, or None if it was replayed.

        A network is prepared for full batches only: the last, smaller batch would cost a second compilation or capture.
        """
        if len(indices) == self._batch_size and self._graphed is not None:
            try:
                return self._graphed.step()
            except CaptureError as error:
                self._stop_replaying(error)
                return None
        set_learning_rate(self._state.optimizer, self._rates[i])
        if len(indices) == self._batch_size:
            return self._train_on(indices, self._network)
        with self.execution.kernels(choose=False):
            return self._train_on(indices, self._state.model)

    def _train_on_full_batch(self, indices: Tensor) -> None:
        self._train_on(indices, self._network)

    def _train_on(self, indices: Tensor, network: Network) -> Tensor:
        state, split = self._state, self.split
        images, targets = self._preprocessing.training(split.images[indices], split.labels[indices], state.generator)
        loss, logits = train_step(state, network, images, targets, self.execution)
        self.loss_sum += loss * len(indices)
        self.num_correct += (logits.argmax(1) == targets.argmax(1)).sum()
        return loss

    def _stop_replaying(self, error: CaptureError) -> None:
        """Continue eagerly. The generator is made anew: torch may believe that the old one is still being captured."""
        log.warning("%s: %s; the trial runs eagerly", self.execution.label, error)
        self.execution.failures.append(str(error))
        self._graphed = None
        self._state.renew_generator()
