"""A trial's trained network, loaded from its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from flexres_tune.datasets import load_trial_data
from flexres_tune.datasets.images import ImageData
from flexres_tune.errors import CheckpointError
from flexres_tune.export.trained import TrainedTrial
from flexres_tune.models import build_model
from flexres_tune.text import excerpt
from flexres_tune.training.checkpoint import load_checkpoint


class Normalised(nn.Module):
    """Images in [0, 1] -> logits: a network with the normalisation that it was trained with."""

    def __init__(self, model: nn.Module, mean: Tensor, std: Tensor):
        super().__init__()
        self.model = model
        self.register_buffer("mean", mean.view(3, 1, 1))
        self.register_buffer("std", std.view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:  # (B, 3, H, W) in [0, 1] -> (B, num_classes)
        return self.model((images - self.mean) / self.std)


@dataclass(frozen=True)
class LoadedNetwork:
    """A trained network on the CPU, for inference, and the data that it was trained on."""

    network: nn.Module  # normalised images -> logits
    normalised: Normalised  # images in [0, 1] -> logits
    data: ImageData


def load_network(trial: TrainedTrial) -> LoadedNetwork:
    """The network with its weights after the last epoch.

    Raises:
        CheckpointError: the checkpoint is not the trial's last, or its weights do not fit the model.
        DataError: the data set's images are missing, whose mean and standard deviation the network needs.
    """
    data = load_trial_data(trial.config, torch.device("cpu"))
    payload = load_checkpoint(trial.checkpoint, trial.config.trial_id)
    if payload["epoch"] != trial.config.epochs:
        raise CheckpointError(
            f"{trial.checkpoint}: must hold the last of {trial.config.epochs} epochs, but holds epoch "
            f"{payload['epoch']}"
        )
    mean, std = (data.mean, data.std) if trial.config.normalize else (torch.zeros(3), torch.ones(3))
    network = build_model(trial.config.model, data.num_classes, data.image_size).eval()
    try:
        network.load_state_dict(payload["model"])
    except Exception as error:  # torch raises many kinds, depending on which value is wrong
        raise CheckpointError(
            f"{trial.checkpoint}: its weights must fit the model, but do not: {excerpt(error, 300)}; delete it to "
            "train its trial again"
        ) from error
    return LoadedNetwork(network, Normalised(network, mean, std).eval(), data)
