"""What trained models predict, image by image: accuracy per class, confusion matrix, and the hardest images."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.ranked_trials import parameter_columns, ranked_trials
from flexres_tune.errors import ResultsError
from flexres_tune.records import MAX_CLASSES, column
from flexres_tune.results.reader import Results
from flexres_tune.uncertainty.intervals import LEVEL

_MOST_CLASSES = 2_000  # of a matrix


@dataclass(frozen=True)
class PredictedTrials:
    """Trials of one sweep that predict the same N images."""

    dataset: str
    split: str  # val | test
    subset: str
    class_names: tuple[str, ...]
    images: np.ndarray  # (N,) int32
    labels: np.ndarray  # (N,) uint16
    trials: tuple[dict[str, Any], ...]  # rows of `trials`, T of them
    columns: Mapping[str, np.ndarray]  # by name of a column of `predictions`, (T, N)

    @property
    def is_right(self) -> np.ndarray:
        """(T, N): whether the trial predicts the image's label."""
        return self.columns["predicted"] == self.labels


def read_predictions(
    results: Results,
    sweep: str,
    split: str,
    columns: Sequence[str] = ("predicted",),
    only: Collection[str] | None = None,
) -> list[PredictedTrials]:
    """The trials that have predictions, or `only` those of these trial_ids, grouped by the images that they predict.

    A row that does not fit the labels of its images, because a file was damaged or changed, is left out.

    Raises:
        ResultsError: no trial has predictions of this split.
    """
    rows = {row["trial_id"]: row for row in ranked_trials(results, sweep).to_pylist()}
    table = results.predictions(sweep, ("trial_id", "dataset", "split", "subset", *columns))
    wanted = pa.array([trial_id for trial_id in rows if only is None or trial_id in only], pa.string())
    table = table.filter(pc.and_(pc.equal(table["split"], split), pc.is_in(table["trial_id"], wanted)))
    labels = [row for row in results.labels(sweep).to_pylist() if row["split"] == split]
    found = []
    for row in labels:
        if (known := _checked_labels(row)) is None:
            continue
        images, classes, names = known
        fits = pc.and_(pc.equal(table["dataset"], row["dataset"]), pc.equal(table["subset"], row["subset"]))
        for name in columns:
            fits = pc.and_(fits, pc.equal(pc.list_value_length(table[name]), len(row["label"])))
        group = table.filter(fits)
        if not group.num_rows:
            continue
        found.append(
            PredictedTrials(
                dataset=row["dataset"],
                split=split,
                subset=row["subset"],
                class_names=names,
                images=images,
                labels=classes,
                trials=tuple(rows[trial_id] for trial_id in group["trial_id"].to_pylist()),
                columns={name: _matrix(group[name]) for name in columns},
            )
        )
    if not found:
        raise ResultsError(
            f"{sweep}: no trial has stored what it predicts for {split} images; trials that ran all their epochs do, unless "
            "the sweep file has predictions: off, or an older version ran them"
        )
    return found


def _checked_labels(row: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]] | None:
    """(image numbers, labels, names of the classes) of a row of `labels`; None if they contradict each other."""
    try:
        images, labels = np.array(row["image"], np.int32), np.array(row["label"], np.uint16)
    except (TypeError, ValueError, OverflowError):
        return None
    if not len(labels) or images.shape != labels.shape or images.min() < 0 or len(np.unique(images)) < len(images):
        return None
    names = list(row["class_names"] or ())[:MAX_CLASSES]
    names += [None] * (int(labels.max()) + 1 - len(names))
    return images, labels, tuple(str(i) if name is None else str(name) for i, name in enumerate(names))


def _matrix(lists: pa.ChunkedArray) -> np.ndarray:
    """A column of T lists of N numbers as (T, N); missing numbers are 0, and classes are uint16."""
    values = pc.fill_null(pc.list_flatten(lists), 0).to_numpy()
    if np.issubdtype(values.dtype, np.floating):
        return np.clip(np.nan_to_num(values), 0, 1).reshape(len(lists), -1)
    return values.astype(np.uint16).reshape(len(lists), -1)


def by_configuration(
    groups: Sequence[PredictedTrials],
) -> Iterator[tuple[str, list[tuple[PredictedTrials, list[int]]]]]:
    """(config_id, its trials as indices into each group that has some), most accurate configuration first."""
    found: dict[str, list[tuple[PredictedTrials, list[int]]]] = {}
    right: dict[str, list[float]] = {}
    for group in groups:
        accuracies = group.is_right.mean(axis=1)
        indices: dict[str, list[int]] = {}
        for index, trial in enumerate(group.trials):
            indices.setdefault(trial["config_id"], []).append(index)
            right.setdefault(trial["config_id"], []).append(accuracies[index])
        for config_id, members in indices.items():
            found.setdefault(config_id, []).append((group, members))
    order = sorted(found, key=lambda config_id: (-np.mean(right[config_id]), config_id))
    return ((config_id, found[config_id]) for config_id in order)


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracy of a configuration on the images of one class, averaged over its seeds."""

    config_id: str = column("the configuration")
    parameters: Mapping[str, Any]
    dataset: str = column("data set")
    split: str = column("val | test")
    num_seeds: int = column("trials of the configuration that have predictions", "seeds")
    accuracy: float = column("accuracy on the images of all classes, mean over seeds", "fraction")
    class_number: int = column("the class")
    class_name: str = column("its name")
    num_images: int = column("different images of the class", "images")
    class_accuracy: float = column("accuracy on the images of the class, mean over seeds", "fraction")
    class_accuracy_low: float = column("95 % Wilson interval over images", "fraction")
    class_accuracy_high: float = column("95 % Wilson interval over images", "fraction")


def class_accuracies(results: Results, sweep: str, split: str) -> tuple[list[ClassAccuracy], list[str]]:
    """(accuracy per configuration and class, most accurate configuration first; names of the parameters that vary)."""
    varied = parameter_columns(results, sweep)
    rows = []
    by_dataset: dict[str, list[PredictedTrials]] = {}
    for group in read_predictions(results, sweep, split):
        by_dataset.setdefault(group.dataset, []).append(group)
    for dataset, groups in by_dataset.items():
        per_class = {id(group): _right_per_class(group) for group in groups}
        for config_id, members in by_configuration(groups):
            num_seeds = sum(len(indices) for _, indices in members)
            right = sum(per_class[id(group)][indices].sum(axis=0) for group, indices in members)  # (classes,)
            shown = sum(_per_class(group) * len(indices) for group, indices in members)
            images = _distinct_per_class([group for group, _ in members])
            accuracy = np.divide(right, shown, out=np.full(len(right), np.nan), where=shown > 0)
            low, high = wilson(accuracy * images, images)
            trial = members[0][0].trials[members[0][1][0]]
            rows += [
                ClassAccuracy(
                    config_id=config_id,
                    parameters={name: trial[name] for name in varied},
                    dataset=dataset,
                    split=split,
                    num_seeds=num_seeds,
                    accuracy=right.sum() / shown.sum(),
                    class_number=number,
                    class_name=name,
                    num_images=int(images[number]),
                    class_accuracy=float(accuracy[number]),
                    class_accuracy_low=float(low[number]),
                    class_accuracy_high=float(high[number]),
                )
                for number, name in enumerate(members[0][0].class_names)
            ]
    return rows, varied


def _right_per_class(group: PredictedTrials) -> np.ndarray:
    """(T, classes): correct predictions of each trial, of the images of each class."""
    order = np.argsort(group.labels, kind="stable")
    is_right = group.is_right[:, order]
    starts = np.searchsorted(group.labels[order], np.arange(len(group.class_names) + 1))
    counts = np.zeros((len(group.trials), len(group.class_names)), np.int64)
    for number, (start, end) in enumerate(zip(starts, starts[1:], strict=False)):
        counts[:, number] = is_right[:, start:end].sum(axis=1)
    return counts


def _per_class(group: PredictedTrials) -> np.ndarray:
    """(classes,): number of images."""
    return np.bincount(group.labels, minlength=len(group.class_names))[: len(group.class_names)]


def _distinct_per_class(groups: Sequence[PredictedTrials]) -> np.ndarray:
    """(classes,): number of different images that the groups have, each class."""
    if len(groups) == 1:
        return _per_class(groups[0])
    labels = {image: label for group in groups for image, label in zip(group.images, group.labels, strict=True)}
    return np.bincount(list(labels.values()), minlength=len(groups[0].class_names))


def wilson(successes: np.ndarray | float, n: np.ndarray | int) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of the Wilson score interval of a proportion (Wilson 1927); nan if n is 0.

    `successes` may be the mean over several seeds, which is no whole number. The variance of such a mean over images is
    at most that of a single seed, for which the interval holds, so it is not too narrow.
    """
    z = NormalDist().inv_cdf((1 + LEVEL) / 2)  # SciPy has it, but takes 0.15 s to import
    n = np.asarray(n, float)
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.asarray(successes) / n
        center = (share + z**2 / (2 * n)) / (1 + z**2 / n)
        half = z / (1 + z**2 / n) * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    return np.maximum(center - half, 0), np.minimum(center + half, 1)


@dataclass(frozen=True)
class Confusion:
    """How often images of one class are taken for another, over the seeds of a configuration."""

    config_id: str = column("the configuration")
    dataset: str = column("data set")
    split: str = column("val | test")
    num_seeds: int = column("trials of the configuration that have predictions", "seeds")
    label: int = column("class of the images")
    label_name: str = column("its name")
    predicted: int = column("class that is predicted")
    predicted_name: str = column("its name")
    count: int = column("predictions, over all seeds", "predictions")
    share_of_label: float = column("the same as a share of the predictions for images of this class", "fraction")


def confusion_matrix(groups: Sequence[tuple[PredictedTrials, Sequence[int]]]) -> np.ndarray:
    """(classes, classes): number of predictions by label (row) and predicted class (column), over trials."""
    num_classes = len(groups[0][0].class_names)
    if num_classes > _MOST_CLASSES:
        raise ResultsError(
            f"a confusion matrix must have at most {_MOST_CLASSES:,} classes, but the data set has {num_classes:,}; use a "
            'query such as "SELECT label, predicted, count(*) FROM predictions GROUP BY ALL"'
        )
    counts = np.zeros(num_classes**2, np.int64)
    for group, indices in groups:
        predicted = group.columns["predicted"][list(indices)].astype(np.int64)
        pairs = group.labels.astype(np.int64) * num_classes + np.minimum(predicted, num_classes - 1)
        counts += np.bincount(pairs.ravel(), minlength=num_classes**2)
    return counts.reshape(num_classes, num_classes)


def confusions(results: Results, sweep: str, config: str, split: str) -> list[Confusion]:
    """The confusion matrix of the configuration whose id begins with `config`, cell by cell."""
    groups = read_configurations(results, sweep, split, [config])
    config_id, members = find_configuration(groups, config)
    matrix = confusion_matrix(members)
    totals = matrix.sum(axis=1)
    names = members[0][0].class_names
    return [
        Confusion(
            config_id=config_id,
            dataset=members[0][0].dataset,
            split=split,
            num_seeds=sum(len(indices) for _, indices in members),
            label=label,
            label_name=names[label],
            predicted=predicted,
            predicted_name=names[predicted],
            count=int(matrix[label, predicted]),
            share_of_label=matrix[label, predicted] / totals[label] if totals[label] else float("nan"),
        )
        for label in range(len(names))
        for predicted in range(len(names))
    ]


def read_configurations(results: Results, sweep: str, split: str, configs: Sequence[str]) -> list[PredictedTrials]:
    """As read_predictions, of the configurations whose ids begin with these texts alone; of all if any text fits none.

    Then find_configuration() can name those that there are.
    """
    ids = ranked_trials(results, sweep).select(["trial_id", "config_id"]).to_pylist()
    fitting = [[row["trial_id"] for row in ids if (row["config_id"] or "").startswith(config)] for config in configs]
    try:
        only = {trial_id for each in fitting for trial_id in each} if all(fitting) else None
        return read_predictions(results, sweep, split, only=only)
    except ResultsError:
        return read_predictions(results, sweep, split)


def find_configuration(
    groups: Sequence[PredictedTrials], config: str
) -> tuple[str, list[tuple[PredictedTrials, list[int]]]]:
    """The one configuration whose id begins with the text, and its trials.

    Raises:
        ResultsError: none or several begin so.
    """
    found = [(config_id, members) for config_id, members in by_configuration(groups) if config_id.startswith(config)]
    if len(found) != 1:
        ids = [config_id for config_id, _ in (found or by_configuration(groups))]
        raise ResultsError(
            f"{config[:20]!r} must be the beginning of one config_id that has predictions, but "
            f"{len(found) or 'none'} begin{'s' if not found else ''} so: {', '.join(ids[:5])}"
            f"{' ...' if len(ids) > 5 else ''}; query classes --format csv lists all"
        )
    return found[0]


@dataclass(frozen=True)
class HardImage:
    """An image, and how many trials predict another class than its label."""

    dataset: str = column("data set")
    split: str = column("val | test")
    image: int = column("number of the image among the data set's training (val) or test images, from 0")
    label: int = column("its class")
    label_name: str = column("name of its class")
    num_trials: int = column("trials that predict it", "trials")
    num_wrong: int = column("trials that predict another class", "trials")
    share_wrong: float = column("the same as a share", "fraction")
    mean_true_probability: float = column("probability of the label, mean over trials", "fraction")
    often_predicted: int = column("wrong class that is predicted most often; the label if there is none")
    often_predicted_name: str = column("its name")
    often_predicted_share: float = column("share of the trials that predict it", "fraction")


def hardest_images(results: Results, sweep: str, split: str, limit: int | None) -> list[HardImage]:
    """Images that the most trials get wrong, those first to whose label they give the lowest probability."""
    rows: list[HardImage] = []
    by_dataset: dict[str, list[PredictedTrials]] = {}
    for group in read_predictions(results, sweep, split, ("predicted", "true_probability")):
        by_dataset.setdefault(group.dataset, []).append(group)
    for dataset, groups in by_dataset.items():
        numbers = np.unique(np.concatenate([group.images for group in groups]))
        size = len(numbers)
        trials, wrong, probability = (np.zeros(size) for _ in range(3))
        labels = np.zeros(size, np.int64)
        for group in groups:
            place = np.searchsorted(numbers, group.images)
            trials[place] += len(group.trials)
            wrong[place] += (~group.is_right).sum(axis=0)
            probability[place] += group.columns["true_probability"].sum(axis=0, dtype=float)
            labels[place] = group.labels
        share, mean = wrong / trials, probability / trials
        order = np.lexsort((numbers, mean, -share))[:limit]
        names = max((group.class_names for group in groups), key=len)
        for image in order:
            predicted, count = _most_predicted(groups, numbers[image], labels[image])
            rows.append(
                HardImage(
                    dataset=dataset,
                    split=split,
                    image=int(numbers[image]),
                    label=int(labels[image]),
                    label_name=names[labels[image]],
                    num_trials=int(trials[image]),
                    num_wrong=int(wrong[image]),
                    share_wrong=float(share[image]),
                    mean_true_probability=float(mean[image]),
                    often_predicted=predicted,
                    often_predicted_name=names[min(predicted, len(names) - 1)],
                    often_predicted_share=count / trials[image],
                )
            )
    return rows


def _most_predicted(groups: Sequence[PredictedTrials], image: int, label: int) -> tuple[int, int]:
    """(the wrong class that is predicted most often for the image, how often); (label, 0) if none is."""
    predicted = [group.columns["predicted"][:, group.images == image].ravel() for group in groups]
    counts = np.bincount(np.concatenate(predicted))
    if label < len(counts):
        counts[label] = 0
    return (int(counts.argmax()), int(counts.max())) if counts.any() else (int(label), 0)
