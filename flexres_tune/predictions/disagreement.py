"""Where two configurations disagree, image by image, and how sure their difference is if seeds and images are redrawn.

The two-level interval is that of a model with crossed random effects: each image is predicted by the models of all
seeds, as in radiology each case is read by all readers: Dorfman, Berbaum and Metz 1992, "Receiver operating
characteristic rating analysis: generalization to the population of readers and patients". Here the observations are
differences of correctness, -1, 0 or 1, instead of jackknife pseudovalues. The two parts of the variance are known with
very different precision (a few seeds, thousands of images), so each has its own quantile, and the squares of the half
widths are added: Zou and Donner 2008, "Construction of confidence limits about effect measures: a general approach".
One quantile with the degrees of freedom of Hillis 2007 covers 93 to 95 % with three paired seeds, and a bootstrap over
so few seeds covers less. If seeds are not paired, Welch's degrees of freedom are too few already, and two quantiles cover
96.8 % with three seeds, so there the squares of both ways are averaged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flexres_tune.errors import ResultsError
from flexres_tune.predictions.classes import PredictedTrials, find_configuration, read_configurations
from flexres_tune.records import ImageNumber, column
from flexres_tune.results.reader import Results
from flexres_tune.uncertainty.intervals import LEVEL


@dataclass(frozen=True)
class Disagreement:
    """The images that one of two trials gets right and the other wrong."""

    a: str = column("trial of the first configuration")
    b: str = column("trial of the second configuration")
    dataset: str = column("data set")
    split: str = column("val | test")
    num_images: int = column("images that both predict", "images")
    num_both_right: int = column("images that both get right", "images")
    num_only_a_right: int = column("images that only a gets right", "images")
    num_only_b_right: int = column("images that only b gets right", "images")
    num_both_wrong: int = column("images that both get wrong", "images")
    p_value: float = column("McNemar's exact test, two-sided: these two models are equally accurate")
    only_a_right: tuple[ImageNumber, ...] = column("numbers of the images that only a gets right")
    only_b_right: tuple[ImageNumber, ...] = column("numbers of the images that only b gets right")


@dataclass(frozen=True)
class DifferenceInterval:
    """Accuracy of a less accuracy of b, with 95 % intervals; None if one seed says nothing about training again."""

    difference: float
    num_seeds: tuple[int, int]  # of a, of b
    num_images: int
    is_paired: bool  # over the seeds that both have
    seeds: tuple[float, float] | None  # if we trained again, and tested on the same images
    seeds_and_images: tuple[float, float] | None  # if we trained again and drew other test images
    images: tuple[float, float]  # with the same trained models, on other test images


@dataclass(frozen=True)
class Comparison:
    """All that predictions say about two configurations."""

    a: str  # config_id
    b: str
    trials: tuple[Disagreement, ...]  # one per pair of trials
    interval: DifferenceInterval | None  # None: each seed holds out other validation images
    always_a: tuple[int, ...]  # images that all seeds of a get right, and all of b wrong
    always_b: tuple[int, ...]


def disagreement(results: Results, sweep: str, a: str, b: str, split: str) -> Comparison:
    """Compare the configurations whose ids begin with a and b.

    Raises:
        ResultsError: no such configuration, the same one twice, or no images that both predict.
    """
    groups = read_configurations(results, sweep, split, [a, b])
    (a_id, of_a), (b_id, of_b) = find_configuration(groups, a), find_configuration(groups, b)
    if a_id == b_id:
        raise ResultsError(f"disagree needs two configurations, but both {a[:20]!r} and {b[:20]!r} are {a_id}")
    shared = [(group, i, j) for group, i in of_a for other, j in of_b if other is group]
    pairs = [(group, index_a, index_b) for group, i, j in shared for index_a, index_b in _pair_by_seed(group, i, j)]
    if not pairs:
        raise ResultsError(f"{sweep}: {a_id} and {b_id} must predict the same {split} images, but share none")
    group, i, j = shared[0]
    is_one = len(shared) == 1
    right_a, right_b = group.is_right[i], group.is_right[j]
    return Comparison(
        a=a_id,
        b=b_id,
        trials=tuple(_disagreement(*pair) for pair in pairs),
        interval=_interval_of(group, i, j) if is_one else None,
        always_a=tuple(group.images[right_a.all(axis=0) & ~right_b.any(axis=0)].tolist()) if is_one else (),
        always_b=tuple(group.images[right_b.all(axis=0) & ~right_a.any(axis=0)].tolist()) if is_one else (),
    )


def interval_of_configurations(groups: Sequence[PredictedTrials], a: str, b: str) -> DifferenceInterval | None:
    """Of two config_ids that predict the same images; None if they do not, as if each seed holds out others."""
    found = []
    for group in groups:
        i, j = ([n for n, trial in enumerate(group.trials) if trial["config_id"] == each] for each in (a, b))
        if i and j:
            found.append((group, i, j))
    return _interval_of(*found[0]) if len(found) == 1 else None


def _pair_by_seed(group: PredictedTrials, i: list[int], j: list[int]) -> list[tuple[int, int]]:
    """The trials with equal seeds; if there are none, the first with the first, and so on."""
    a, b = ({group.trials[index]["seed"]: index for index in indices} for indices in (i, j))
    common = sorted(a.keys() & b.keys())
    return [(a[seed], b[seed]) for seed in common] or [(a[s], b[t]) for s, t in zip(sorted(a), sorted(b), strict=False)]


def _disagreement(group: PredictedTrials, i: int, j: int) -> Disagreement:
    right_a, right_b = group.is_right[i], group.is_right[j]
    only_a, only_b = right_a & ~right_b, right_b & ~right_a
    return Disagreement(
        a=group.trials[i]["trial_id"],
        b=group.trials[j]["trial_id"],
        dataset=group.dataset,
        split=group.split,
        num_images=len(group.labels),
        num_both_right=int((right_a & right_b).sum()),
        num_only_a_right=int(only_a.sum()),
        num_only_b_right=int(only_b.sum()),
        num_both_wrong=int((~right_a & ~right_b).sum()),
        p_value=mcnemar(int(only_a.sum()), int(only_b.sum())),
        only_a_right=tuple(group.images[only_a].tolist()),
        only_b_right=tuple(group.images[only_b].tolist()),
    )


def mcnemar(only_a: int, only_b: int) -> float:
    """Two-sided p value of McNemar's exact test: the binomial test of only_a of only_a + only_b at 1/2."""
    from scipy import special

    n = only_a + only_b
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), n, 0.5))) if n else 1.0


def _interval_of(group: PredictedTrials, i: list[int], j: list[int]) -> DifferenceInterval:
    pairs = _pair_by_seed(group, i, j)
    is_paired = len(pairs) > 1 and all(group.trials[s]["seed"] == group.trials[t]["seed"] for s, t in pairs)
    if is_paired:
        i, j = [s for s, _ in pairs], [t for _, t in pairs]
    a, b = ((group.columns["predicted"][rows] == group.labels).astype(float) for rows in (i, j))
    return difference_interval(a, b, is_paired)


def difference_interval(a: np.ndarray, b: np.ndarray, is_paired: bool) -> DifferenceInterval:
    """(S, N), (R, N): whether each model is right on each image -> the difference and its intervals.

    Paired: S = R, and row s of both has the same seed.
    """
    difference, half = _half_widths(a, b, is_paired)
    has_seeds = min(len(a), len(b)) > 1

    def interval(name: str) -> tuple[float, float]:
        return max(-1.0, float(difference - half[name])), min(1.0, float(difference + half[name]))

    return DifferenceInterval(
        difference=float(difference),
        num_seeds=(len(a), len(b)),
        num_images=a.shape[-1],
        is_paired=is_paired,
        seeds=interval("seeds") if has_seeds else None,
        seeds_and_images=interval("both") if has_seeds else None,
        images=interval("images"),
    )


def coverage_of(a: np.ndarray, b: np.ndarray, is_paired: bool, truth: float) -> tuple[float, float]:
    """(W, S, N), (W, R, N) simulated worlds -> share of the worlds whose intervals contain the truth: seeds, and both."""
    difference, half = _half_widths(a, b, is_paired)
    error = np.abs(difference - truth)
    return float((error <= half["seeds"]).mean()), float((error <= half["both"]).mean())


def _half_widths(a: np.ndarray, b: np.ndarray, is_paired: bool) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """(..., S, N), (..., R, N) -> difference of the means; half the width of its intervals, by what is redrawn.

    With MS_seed, MS_image and MS_rest the mean squares of the two-way table of seeds and images, the variance of the mean
    is MS_seed / (S N) for seeds and, for images, max(MS_image - MS_rest, 0) / (S N) more. Seeds that are not paired add
    their variances, with Welch's degrees of freedom.
    """
    from scipy import special

    n = a.shape[-1]
    difference = a.mean(axis=(-2, -1)) - b.mean(axis=(-2, -1))
    by_image = a.mean(axis=-2) - b.mean(axis=-2)  # (..., N)
    images = by_image.var(axis=-1, ddof=1) / n  # with the variance of the rest, which the seeds have too
    seeds, rest, welch = np.zeros_like(images), np.zeros_like(images), np.zeros_like(images)
    for table in [a - b] if is_paired else [a, b]:
        num_seeds = table.shape[-2]
        if num_seeds < 2:
            continue
        part = table.mean(axis=-1).var(axis=-1, ddof=1) / num_seeds
        residual = table - table.mean(axis=-1, keepdims=True) - table.mean(axis=-2, keepdims=True)
        residual += table.mean(axis=(-2, -1), keepdims=True)
        rest += (residual**2).sum(axis=(-2, -1)) / ((num_seeds - 1) * (n - 1)) / (num_seeds * n)
        seeds += part
        welch += part**2 / (num_seeds - 1)
    degrees = np.divide(seeds**2, welch, out=np.ones_like(seeds), where=welch > 0)
    of_seeds = special.stdtrit(degrees, (1 + LEVEL) / 2) ** 2 * seeds
    quantile = special.stdtrit(n - 1, (1 + LEVEL) / 2) ** 2
    of_images = np.maximum(images - rest, 0)
    both = of_seeds + quantile * of_images
    if not is_paired:
        total = seeds + of_images
        freedom = np.divide(degrees * total**2, seeds**2, out=np.full_like(total, n - 1.0), where=seeds > 0)
        one = special.stdtrit(np.minimum(freedom, n - 1), (1 + LEVEL) / 2) ** 2 * total
        both = (both + one) / 2
    return difference, {"seeds": np.sqrt(of_seeds), "both": np.sqrt(both), "images": np.sqrt(quantile * images)}
