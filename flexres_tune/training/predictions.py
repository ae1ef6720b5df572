"""PredictionCollector: what a model says about each image of a split, from the logits of its evaluation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flexres_tune.datasets.images import Split
from flexres_tune.records import MAX_CLASSES, Predictions


class PredictionCollector:
    """Collects the three highest probabilities of each image, and that of its label, batch after batch.

    The tensors stay on the device until the end, so the host does not wait inside the evaluation. Of equal
    probabilities the class is taken that argmax gives, as for the accuracy.
    """

    def __init__(self) -> None:
        self._classes: list[Tensor] = []
        self._probabilities: list[Tensor] = []

    def add(self, logits: Tensor, labels: Tensor) -> None:
        """(B, classes) float32, (B,) -> the next B images of the split."""
        rest = logits.softmax(1)  # (B, classes)
        ranked, found = [], []
        true = rest.gather(1, labels[:, None])  # (B, 1)
        scores = logits.clone()
        for _ in range(min(3, logits.shape[1])):
            best = scores.argmax(1, keepdim=True)  # (B, 1)
            ranked.append(best)
            found.append(rest.gather(1, best))
            scores.scatter_(1, best, -torch.inf)
        self._classes.append(torch.cat(ranked, 1))  # (B, 2 or 3)
        self._probabilities.append(torch.cat([true, *found], 1))  # (B, 3 or 4)

    def collect(self, split: Split) -> Predictions | None:
        """The predictions of all images; None if there are more classes than a column of class numbers can tell apart."""
        classes = torch.cat(self._classes).cpu().numpy()  # (N, 2 or 3)
        probabilities = torch.cat(self._probabilities).half().float().cpu().numpy()  # (N, 3 or 4)
        labels = split.labels.cpu().numpy()
        if max(int(labels.max()), int(classes.max())) >= MAX_CLASSES:
            return None
        ranked = [np.ascontiguousarray(column, np.uint16) for column in classes.T]
        true, *found = (np.ascontiguousarray(column) for column in probabilities.T)
        has_third = len(ranked) > 2
        return Predictions(
            labels=labels.astype(np.uint16),
            images=split.numbers,
            predicted=ranked[0],
            predicted_probability=found[0],
            second=ranked[1],
            second_probability=found[1],
            third=ranked[2] if has_third else None,
            third_probability=found[2] if has_third else None,
            true_probability=true,
        )
