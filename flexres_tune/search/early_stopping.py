"""When to stop a trial early: rules over (trial, epoch, score).

Higher scores are better. A rule gives the same verdict each time it judges the same report, so a trial that reports
its history again after a crash changes nothing, and a rule rebuilt from the `epochs` table decides as if it had never
been interrupted. A trial whose score is not finite is always stopped.
"""

from __future__ import annotations

import bisect
import hashlib
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from flexres_tune.spec import EarlyTerminate


@dataclass(frozen=True)
class Verdict:
    """What a rule decided: at which rung, against which cutoff."""

    rung: int
    cutoff: float | None  # None: nothing to compare with yet
    stop: bool


class StoppingRule(Protocol):
    """Judges trials that share one number of epochs."""

    def judge(self, trial_id: str, epoch: int, score: float) -> Verdict | None:
        """The verdict at this epoch, or None if the rule does not judge there."""

    def remember(self, trial_id: str, epoch: int, verdict: Verdict) -> None:
        """Adopt a verdict of an earlier run: judge() returns it, and still counts the score for other trials."""


class NoRule:
    """Every trial runs its full budget."""

    def judge(self, trial_id: str, epoch: int, score: float) -> Verdict | None:
        return None

    def remember(self, trial_id: str, epoch: int, verdict: Verdict) -> None:
        pass


@dataclass
class AshaRule:
    """ASHA, stopping form: at rung k (epoch r * eta^k) a trial stops if score < quantile(1 - 1/eta) of those before it.

    Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning", algorithm 2, in the stopping form of
    Ray Tune's AsyncHyperBandScheduler: r is grace_period, eta reduction_factor, R max_epochs. The cutoff is taken over
    the scores that reached the rung earlier, so the first trial at a rung always continues. Deviation from Ray: a score
    that is not finite stops at once and never enters a rung (in Ray NaN continues), and each rung is judged at its
    own epoch only.
    """

    max_epochs: int
    grace_period: int
    reduction_factor: float
    _rungs: dict[int, list[float]] = field(default_factory=dict, repr=False)  # ascending, so that no look sorts them

    def __post_init__(self) -> None:
        epoch = float(self.grace_period)
        while round(epoch) < self.max_epochs:
            self._rungs[round(epoch)] = []
            epoch *= self.reduction_factor
        self._index = {epoch: k for k, epoch in enumerate(self._rungs)}
        self._entered: set[tuple[str, int]] = set()
        self._verdicts: dict[tuple[str, int], Verdict] = {}

    def judge(self, trial_id: str, epoch: int, score: float) -> Verdict | None:
        if epoch not in self._rungs:
            return None
        key = (trial_id, epoch)
        if key not in self._verdicts:
            cutoff = upper_quantile(self._rungs[epoch], 1 - 1 / self.reduction_factor)
            stop = not math.isfinite(score) or (cutoff is not None and score < cutoff)
            self._verdicts[key] = Verdict(self._index[epoch], cutoff, stop)
        if math.isfinite(score) and key not in self._entered:
            self._entered.add(key)
            bisect.insort(self._rungs[epoch], score)
        return self._verdicts[key]

    def remember(self, trial_id: str, epoch: int, verdict: Verdict) -> None:
        self._verdicts[trial_id, epoch] = verdict


@dataclass
class HyperbandRule:
    """Asynchronous Hyperband: brackets s = 0 .. S-1, each ASHA with grace period r * eta^s.

    Li et al. 2018, "Hyperband", with ASHA in each bracket (Li et al. 2020, section 3.2) instead of synchronous
    halving: no trial waits, and none is paused. A trial's bracket is drawn by a hash of its id, with Hyperband's own
    shares, so that it is the same after a restart.
    """

    max_epochs: int
    grace_period: int
    reduction_factor: float
    num_brackets: int

    def __post_init__(self) -> None:
        eta = self.reduction_factor
        graces = [round(self.grace_period * eta**s) for s in range(self.num_brackets)]
        graces = [grace for grace in graces if grace < self.max_epochs] or [self.grace_period]
        self._brackets = [AshaRule(self.max_epochs, grace, eta) for grace in graces]
        last = len(graces) - 1
        # n_s of Hyperband: eta^(S-s) (S+1) / (S-s+1) trials give every bracket the same number of epochs
        self._shares = [eta ** (last - s) * (last + 1) / (last - s + 1) for s in range(last + 1)]

    def bracket_of(self, trial_id: str) -> int:
        """Bracket of a trial, from 0."""
        digest = hashlib.sha256(trial_id.encode()).digest()
        point = int.from_bytes(digest[:8], "big") / 2**64 * sum(self._shares)
        for bracket, share in enumerate(self._shares):
            if point < share:
                return bracket
            point -= share
        return len(self._shares) - 1

    def judge(self, trial_id: str, epoch: int, score: float) -> Verdict | None:
        return self._brackets[self.bracket_of(trial_id)].judge(trial_id, epoch, score)

    def remember(self, trial_id: str, epoch: int, verdict: Verdict) -> None:
        self._brackets[self.bracket_of(trial_id)].remember(trial_id, epoch, verdict)


@dataclass
class MedianRule:
    """Median stopping: a trial stops if its best score so far < the median of the others' running means.

    Golovin et al. 2017, "Google Vizier", section 3.2.2. It looks after grace_period epochs, and only if at least
    three other trials have reached the same epoch (Ray Tune's default).
    """

    max_epochs: int
    grace_period: int
    min_others: int = 3

    def __post_init__(self) -> None:
        self._scores: dict[str, dict[int, float]] = {}
        self._means: dict[int, list[float]] = {}  # epoch -> each trial's mean of its scores up to there, in order
        self._verdicts: dict[tuple[str, int], Verdict | None] = {}

    def judge(self, trial_id: str, epoch: int, score: float) -> Verdict | None:
        key = (trial_id, epoch)
        own = self._scores.setdefault(trial_id, {})
        if key not in self._verdicts:
            self._verdicts[key] = self._look(own, epoch, score)
        if math.isfinite(score) and epoch not in own:
            self._enter(own, epoch, score)
        return self._verdicts[key]

    def remember(self, trial_id: str, epoch: int, verdict: Verdict) -> None:
        self._verdicts[trial_id, epoch] = verdict

    def _look(self, own: Mapping[int, float], epoch: int, score: float) -> Verdict | None:
        if not math.isfinite(score):
            return Verdict(epoch, None, True)
        if epoch < self.grace_period or epoch >= self.max_epochs:
            return None
        means = self._means.get(epoch, [])  # of the others: this trial's enters after the look
        if len(means) < self.min_others:
            return Verdict(epoch, None, False)
        cutoff = (means[(len(means) - 1) // 2] + means[len(means) // 2]) / 2
        return Verdict(epoch, cutoff, max([score, *own.values()]) < cutoff)

    def _enter(self, own: dict[int, float], epoch: int, score: float) -> None:
        later = sorted(at for at in own if at > epoch)  # usually none; a table's rows may be out of order
        for at in later:
            means = self._means[at]
            means.pop(bisect.bisect_left(means, _mean_until(own, at)))
        own[epoch] = score
        for at in (epoch, *later):
            bisect.insort(self._means.setdefault(at, []), _mean_until(own, at))


def _mean_until(scores: Mapping[int, float], epoch: int) -> float:
    return statistics.fmean(value for at, value in scores.items() if at <= epoch)


STOPPING_RULES: Mapping[str, Callable[[EarlyTerminate, int], StoppingRule]] = {
    "asha": lambda early, epochs: AshaRule(epochs, early.grace_period, early.reduction_factor),
    "hyperband": lambda early, epochs: HyperbandRule(
        epochs, early.grace_period, early.reduction_factor, early.num_brackets
    ),
    "median": lambda early, epochs: MedianRule(epochs, early.grace_period),
    "none": lambda early, epochs: NoRule(),
}


def make_rule(early: EarlyTerminate, epochs: int) -> StoppingRule:
    """The rule for trials of so many epochs; none if the search pauses trials instead."""
    return NoRule() if early.pauses else STOPPING_RULES[early.type](early, epochs)


def upper_quantile(ordered: Sequence[float], q: float) -> float | None:
    """Quantile q of ascending values by linear interpolation, as numpy.percentile's default; None of no values."""
    if not ordered:
        return None
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
