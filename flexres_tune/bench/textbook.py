"""The textbook loop: CIFAR-10 as tutorials train it, with which `bench train` and `bench headline` compare.

DataLoader with worker processes, torchvision transforms image by image, NCHW float32, `.item()` every step. Images,
model, batch size, augmentation and optimizer are those of the trial that it is compared with.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from flexres_tune.datasets.images import ImageData
from flexres_tune.models import build_model
from flexres_tune.optim import build_optimizer
from flexres_tune.spec import TrialConfig

NUM_WORKERS = 2  # as in PyTorch's own CIFAR-10 tutorial


class PlainImages(Dataset):
    """PIL images and labels, transformed one at a time."""

    def __init__(self, images: np.ndarray, labels: np.ndarray, transform: transforms.Compose):
        self._images, self._labels, self._transform = images, labels, transform  # (N, H, W, 3) uint8, (N,)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int):
        image = transforms.functional.to_pil_image(self._images[index])
        return self._transform(image), int(self._labels[index])


class TextbookLoop:
    """Holds the loader and the model, so that workers start once and only epochs are timed."""

    def __init__(self, config: TrialConfig, data: ImageData, device: torch.device):
        size = data.image_size
        steps = {
            "crop": transforms.RandomCrop(size, padding=size // 8),
            "flip": transforms.RandomHorizontalFlip(),
        }
        normalize = transforms.Normalize(data.mean.tolist(), data.std.tolist())
        transform = transforms.Compose([*(steps[n] for n in config.augmentation), transforms.ToTensor(), normalize])
        images = data.train.images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
        self._loader = DataLoader(
            PlainImages(images, data.train.labels.cpu().numpy(), transform),
            batch_size=config.batch_size,
            shuffle=True,
            num_workers=NUM_WORKERS,
            persistent_workers=True,
            pin_memory=device.type == "cuda",
        )
        self._device = device
        self._alpha = config.mixup_alpha
        self.model = build_model(config.model, data.num_classes, size).to(device)
        self._optimizer = build_optimizer(self.model.parameters(), config)
        for group in self._optimizer.param_groups:
            group["fused"] = None  # torch's default kernels, as tutorials leave them
        self._criterion = torch.nn.CrossEntropyLoss()
        self._schedule = torch.optim.lr_scheduler.CosineAnnealingLR(self._optimizer, config.epochs)
        self._val_loader = DataLoader(
            PlainImages(
                data.val.images.permute(0, 2, 3, 1).contiguous().cpu().numpy(),
                data.val.labels.cpu().numpy(),
                transforms.Compose([transforms.ToTensor(), normalize]),
            ),
            batch_size=config.batch_size,
            num_workers=NUM_WORKERS,
            persistent_workers=True,
        )

    def run_epoch(self) -> float:
        """Train one epoch; returns images per second."""
        self.model.train()
        started, num_images, running_loss = time.perf_counter(), 0, 0.0
        for inputs, labels in self._loader:
            inputs, labels = inputs.to(self._device), labels.to(self._device)
            self._optimizer.zero_grad()
            if self._alpha:  # as in the authors' mixup-cifar10
                lam = np.random.default_rng().beta(self._alpha, self._alpha)
                other = torch.randperm(len(inputs), device=self._device)
                outputs = self.model(lam * inputs + (1 - lam) * inputs[other])
                loss = lam * self._criterion(outputs, labels) + (1 - lam) * self._criterion(outputs, labels[other])
            else:
                loss = self._criterion(self.model(inputs), labels)
            loss.backward()
            self._optimizer.step()
            running_loss += loss.item()
            num_images += len(labels)
        return num_images / (time.perf_counter() - started)

    def end_epoch(self) -> float:
        """Lower the learning rate along a cosine; returns the accuracy on the validation images."""
        self._schedule.step()
        self.model.eval()
        num_right = num_images = 0
        with torch.no_grad():
            for inputs, labels in self._val_loader:
                num_right += (self.model(inputs.to(self._device)).argmax(1).cpu() == labels).sum().item()
                num_images += len(labels)
        return num_right / num_images
