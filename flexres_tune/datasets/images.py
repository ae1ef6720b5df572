"""Images on a device: uint8, split into training, validation and test, loaded once per process."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from flexres_tune.datasets.arrays import HeldOut, ImageArrays, fixed_permutation, redraw
from flexres_tune.datasets.sources import read_images
from flexres_tune.errors import DataError
from flexres_tune.spec.own_code.source import CodeName
from flexres_tune.spec.trial import NO_SPLIT


@dataclass(frozen=True)
class Split:
    """Images and their labels, on the device."""

    images: Tensor  # (N, 3, H, W) uint8
    labels: Tensor  # (N,) int64
    numbers: np.ndarray = field(default_factory=lambda: np.empty(0, np.int32))  # (N,) int32, see LabelRecord.image

    def __len__(self) -> int:
        return len(self.labels)

    def first(self, n: int) -> Split:
        """The first n images."""
        return Split(self.images[:n], self.labels[:n], self.numbers[:n])


@dataclass(frozen=True)
class ImageData:
    """A data set on a device."""

    name: str
    train: Split
    val: Split
    test: Split
    num_classes: int
    class_names: tuple[str, ...]
    image_size: int  # pixels, height and width
    mean: Tensor  # (3,) float32 in [0, 1], of the whole training split: the same for every num_train_images
    std: Tensor  # (3,) float32, of the same pixels
    subset: str = "fixed"  # which images are held out for validation


def load_dataset(
    dataset: str, device: torch.device, num_train_images: int | None = None, held_out: HeldOut = HeldOut()
) -> ImageData:
    """As `datasets.load_dataset`. On a CPU the tensors are the system's page cache, mapped copy-on-write.

    Only the data set's own split is kept for the next trial of the process: another one is a copy of the images.
    """
    device = torch.device(device)
    if device.type == "cuda" and device.index is None:
        device = torch.device("cuda", torch.cuda.current_device())  # "cuda" and "cuda:0" share one copy
    digest = dataset.source.digest if isinstance(dataset, CodeName) else ""
    data = _load_held_out(dataset, device, held_out) if held_out else load_whole(dataset, device, digest)
    if held_out.split == NO_SPLIT:
        return _hold_out_none(data, num_train_images)
    if num_train_images is None:
        return data
    _check_num_train(dataset, num_train_images, len(data.train), len(data.val))
    return replace(data, train=data.train.first(num_train_images))


def _hold_out_none(data: ImageData, num_train_images: int | None) -> ImageData:
    """Train on the validation images as well, of which other trials hold out the same number."""
    num_train, num_val = len(data.train), len(data.val)
    _check_num_train(data.name, num_train_images or num_train, num_train, num_val)
    train = data.train.first(num_train_images or num_train)
    parts = zip(vars(train).values(), vars(data.val).values(), strict=True)
    images, labels, numbers = (
        torch.cat(pair) if isinstance(pair[0], Tensor) else np.concatenate(pair) for pair in parts
    )
    return replace(data, train=Split(images, labels, numbers), val=data.val.first(0), subset=NO_SPLIT)


def _check_num_train(dataset: str, num_train_images: int, num_train: int, num_val: int) -> None:
    if not 1 <= num_train_images <= num_train:
        raise DataError(
            f"num_train_images must be from 1 to the {num_train:,} training images of {dataset} (the "
            f"{num_val:,} validation images are not counted), but got {num_train_images:,}; leave it out for all"
        )


@functools.lru_cache(maxsize=2)  # a process uses one data set per trial, and the next trial may use another
def load_whole(dataset: str, device: torch.device, digest: str = "") -> ImageData:
    """All images of a data set, read once per process, and again if the code that loads them has another digest."""
    arrays, class_names = read_images(dataset)
    rows = fixed_permutation(len(arrays.val_labels) + len(arrays.train_labels))
    return _on_device(dataset, device, arrays, class_names, rows)


def _load_held_out(dataset: str, device: torch.device, held_out: HeldOut) -> ImageData:
    arrays, class_names = read_images(dataset)
    num_rows = len(arrays.val_labels) + len(arrays.train_labels)
    num_val = held_out.num_images or len(arrays.val_labels)
    if num_val >= num_rows:
        raise DataError(
            f"num_val_images must leave images to train on, but got {num_val:,} of the {num_rows:,} images of {dataset} "
            "that are not for testing; use fewer"
        )
    rows = held_out.order(num_val, num_rows)
    data = _on_device(dataset, device, redraw(arrays, rows, num_val), class_names, rows)
    return replace(data, subset=held_out.subset(num_val, num_rows))


def _on_device(
    dataset: str, device: torch.device, arrays: ImageArrays, class_names: tuple[str, ...], rows: np.ndarray
) -> ImageData:
    """`rows`: numbers of the images of validation, followed by training."""
    num_val = len(arrays.val_labels)
    numbers = {
        "val": rows[:num_val].astype(np.int32),
        "train": rows[num_val:].astype(np.int32),
        "test": np.arange(len(arrays.test_labels), dtype=np.int32),
    }

    def split(name: str) -> Split:
        images, labels = getattr(arrays, f"{name}_images"), getattr(arrays, f"{name}_labels")
        return Split(torch.from_numpy(images).to(device), torch.from_numpy(labels).to(device), numbers[name])

    mean, std = torch.from_numpy(arrays.moments).to(device=device, dtype=torch.float32)
    return ImageData(
        name=dataset,
        train=split("train"),
        val=split("val"),
        test=split("test"),
        num_classes=len(class_names),
        class_names=class_names,
        image_size=arrays.train_images.shape[-1],
        mean=mean,
        std=std,
    )
