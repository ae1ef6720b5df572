"""What an ensemble would bring: accuracy of the averaged probabilities of the best trials.

Only the three highest probabilities of each image are stored. So the average of a class is known to lie between two
bounds: a class that a member does not store has at most the member's third probability there, and at most what is left
to 1. If that is not enough to tell which class has the highest average, the image is undecided, and counts once as wrong
and once as right: the accuracy has two bounds. With up to three classes, or members that agree, nothing is undecided.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from flexres_tune.errors import ResultsError
from flexres_tune.predictions.classes import PredictedTrials, read_predictions
from flexres_tune.records import column
from flexres_tune.results.reader import Results

_RANKS = ("predicted", "second", "third")
_MOST_NUMBERS = 100_000_000  # 2.4 GB while they are averaged
_ROUNDING = 2.0**-11  # relative error of a probability in float16 precision


@dataclass(frozen=True)
class EnsembleAccuracy:
    """Accuracy of the averaged probabilities of the best trials."""

    dataset: str = column("data set")
    split: str = column("split of the accuracies, val | test; members are chosen on val")
    num_members: int = column("best trials that are averaged", "trials")
    added_trial_id: str = column("the trial that this row adds")
    member_accuracy: float = column("accuracy of that trial alone", "fraction")
    ensemble_accuracy: float = column(
        "accuracy of the average, if the probability that is not stored is spread evenly over the other classes",
        "fraction",
    )
    ensemble_accuracy_low: float = column("accuracy of the average, if all undecided images are wrong", "fraction")
    ensemble_accuracy_high: float = column("accuracy of the average, if all undecided images are right", "fraction")
    num_undecided: int = column("images for which three stored probabilities per trial do not suffice", "images")
    num_images: int = column("images", "images")


def ensemble_accuracies(results: Results, sweep: str, top: int, split: str) -> list[EnsembleAccuracy]:
    """One row per number of members, from 1 to `top`: trials in the order of their accuracy on the validation images.

    Raises:
        ResultsError: no predictions, or none of this split for the best trials.
    """
    groups = read_predictions(results, sweep, "val")
    accuracy = {
        trial["trial_id"]: value
        for group in groups
        for trial, value in zip(group.trials, group.is_right.mean(axis=1), strict=True)
    }
    columns = [name for rank in _RANKS for name in (rank, f"{rank}_probability")]
    if min(len(group.class_names) for group in groups) < 3:
        columns = columns[:4]
    rows: list[EnsembleAccuracy] = []
    best = sorted(accuracy, key=lambda trial_id: (-accuracy[trial_id], trial_id))[:top]
    for group in read_predictions(results, sweep, split, columns, only=best):
        if split == "val" and group.subset != "fixed":
            raise ResultsError(
                f"{sweep}: trials of an ensemble must predict the same images, but each seed holds out other validation "
                "images; use --split test"
            )
        order = sorted(range(len(group.trials)), key=lambda index: best.index(group.trials[index]["trial_id"]))
        rows += _grow(group, order, columns)
    return rows


def _grow(group: PredictedTrials, order: list[int], columns: list[str]) -> list[EnsembleAccuracy]:
    """Add one trial after another."""
    num_images, num_classes = len(group.labels), len(group.class_names)
    if num_images * num_classes > _MOST_NUMBERS:
        raise ResultsError(
            f"{group.dataset}: an ensemble must have at most {_MOST_NUMBERS:,} probabilities, but {num_images:,} images of "
            f"{num_classes:,} classes have more"
        )
    low, even, slack = (np.zeros((num_images, num_classes)) for _ in range(3))
    each = np.arange(num_images)
    rows = []
    for size, index in enumerate(order, 1):
        unknown = np.ones((num_images, num_classes), bool)
        total, smallest = np.zeros(num_images), np.zeros(num_images)
        for name, probability in zip(columns[::2], columns[1::2], strict=True):
            classes = np.minimum(group.columns[name][index], num_classes - 1)
            smallest = group.columns[probability][index].astype(float)
            low[each, classes] += smallest
            unknown[each, classes] = False
            total += smallest
        even += unknown * (np.clip(1 - total, 0, 1) / max(1, num_classes - len(columns) // 2))[:, None]
        slack += unknown * np.minimum(smallest, np.clip(1 - total, 0, 1) + _ROUNDING)[:, None]
        is_right, is_wrong = _decide(low, low + slack, group.labels)
        num_undecided = int((~is_right & ~is_wrong).sum())
        rows.append(
            EnsembleAccuracy(
                dataset=group.dataset,
                split=group.split,
                num_members=size,
                added_trial_id=group.trials[index]["trial_id"],
                member_accuracy=float((group.columns["predicted"][index] == group.labels).mean()),
                ensemble_accuracy=float(((low + even).argmax(axis=1) == group.labels).mean()),
                ensemble_accuracy_low=float(is_right.mean()),
                ensemble_accuracy_high=float(1 - is_wrong.mean()),
                num_undecided=num_undecided,
                num_images=num_images,
            )
        )
        if size == 1:  # the prediction of a single trial is stored
            rows[0] = _alone(rows[0])
    return rows


def _decide(low: np.ndarray, high: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,), (N,): the label surely has the highest average; another class surely has it."""
    each = np.arange(len(labels))
    low, high = low * (1 - _ROUNDING), high * (1 + _ROUNDING)
    low_true, high_true = low[each, labels], high[each, labels]
    low[each, labels] = high[each, labels] = -np.inf
    return low_true > high.max(axis=1), low.max(axis=1) > high_true


def _alone(row: EnsembleAccuracy) -> EnsembleAccuracy:
    exact = row.member_accuracy
    return replace(
        row, ensemble_accuracy=exact, ensemble_accuracy_low=exact, ensemble_accuracy_high=exact, num_undecided=0
    )
