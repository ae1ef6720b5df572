"""Preprocessing: uint8 images and labels of a data set -> the network's input and soft targets."""

from __future__ import annotations

import torch
from torch import Tensor

from flexres_tune.augment import build_augmentation, mix_batch
from flexres_tune.datasets.images import ImageData
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.training.execution import Execution


class Preprocessing:
    """Turns uint8 images into the network's input, and labels into soft targets."""

    def __init__(self, config: TrialConfig, data: ImageData, execution: Execution):
        device = execution.device
        mean, std = (data.mean, data.std) if config.normalize else (torch.zeros(3), torch.ones(3))
        self._mean = mean.to(device).view(3, 1, 1)
        self._std = torch.where(std > 0, std, 1.0).to(device).view(3, 1, 1)  # 0: a constant channel
        self._layout = execution.memory_format
        self._augment = build_augmentation(config.augmentation, data.image_size)
        smoothing = config.label_smoothing  # Szegedy et al. 2016, Rethinking the Inception Architecture, section 7
        classes = torch.eye(data.num_classes, device=device)
        self._targets = classes * (1 - smoothing) + smoothing / data.num_classes  # (classes, classes), row per label
        self._alphas = {"mixup_alpha": config.mixup_alpha, "cutmix_alpha": config.cutmix_alpha}

    def training(self, images: Tensor, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) uint8, (B,) -> (B, 3, H, W) float32, (B, classes): augmented, normalised, mixed."""
        normalised = self._normalise(self._augment(images.float().div_(255), generator))
        images, targets = mix_batch(normalised, self._targets[labels], generator, **self._alphas)
        return images.contiguous(memory_format=self._layout), targets

    def evaluation(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) uint8 -> (B, 3, H, W) float32, normalised."""
        return self._normalise(images.float().div_(255)).contiguous(memory_format=self._layout)

    def _normalise(self, images: Tensor) -> Tensor:
        return (images - self._mean) / self._std
