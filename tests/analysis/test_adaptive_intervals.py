"""Adaptive confirmation: intervals hold the truth, and equal configurations are rarely called different."""

import random
from dataclasses import dataclass
from statistics import fmean

import pytest

from flexres_tune.analysis.adaptive_intervals import AdaptiveIntervals
from flexres_tune.records import TrialStatus
from flexres_tune.search.adaptive import AdaptiveConfirmation
from flexres_tune.search.base import Assignment, Outcome
from flexres_tune.search.rungs import Candidate
from flexres_tune.spec import PlannedTrial


@dataclass(frozen=True)
class Config:
    config_id: str
    trial_id: str
    seed: int
    epochs: int = 1


def confirm(finals, num_runs, slots, generator, counts_screening):
    """Fresh scores of each configuration and their means with the screening, from the real search; deviation 1."""
    candidates = [
        Candidate(str(k), tuple(PlannedTrial(Config(str(k), f"{k}-{seed}", seed), {}, 0) for seed in range(30)))
        for k in range(len(finals))
    ]
    screened = {str(k): final + generator.gauss(0, 1) for k, final in enumerate(finals)} if counts_screening else {}
    search = AdaptiveConfirmation(candidates, num_runs, screened=screened)
    scores, running = {k: [] for k in range(len(finals))}, []
    while True:
        while len(running) < slots and isinstance(step := search.ask(), Assignment):
            running.append(step)
        if not running:
            means = [fmean([*scores[k], *([screened[str(k)]] if screened else [])]) for k in scores]
            return scores, means
        step = running.pop(0)
        index = int(step.trial.config.config_id)
        scores[index].append(finals[index] + generator.gauss(0, 1))
        search.tell(Outcome(step, TrialStatus.COMPLETED, scores[index][-1]))


def measure(finals, num_runs, num_draws, slots=4, counts_screening=False):
    """(share of intervals of means that hold the truth, share of draws in which the leader is called different)."""
    generator, held, different = random.Random(0), [], 0
    for _ in range(num_draws):
        scores, means = confirm(finals, num_runs, slots, generator, counts_screening)
        intervals = AdaptiveIntervals(scores, counts_screening=counts_screening)
        held += [abs(fmean(scores[k]) - finals[k]) <= intervals.half_width(k) for k in scores if scores[k]]
        leader = max(scores, key=means.__getitem__)
        gaps = [intervals.compare(leader, k) for k in scores if k != leader]
        different += any(gap is not None and gap.p_value < 0.05 for gap in gaps)
    return fmean(held), different / num_draws


EQUAL, TIED, SPREAD = [0.0] * 5, [0.0, 0.0, -4.0, -4.0, -4.0], [0.0, -0.8, -1.5, -2.4, -3.5]


@pytest.mark.slow
@pytest.mark.parametrize("counts_screening", [False, True])
@pytest.mark.parametrize(
    ("finals", "num_runs"), [(EQUAL, 15), ([0.0] * 3, 12), ([0.0] * 8, 24), (TIED, 15), (SPREAD, 15)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(finals, num_runs, counts_screening):
    held, different = measure(finals, num_runs, 1000, counts_screening=counts_screening)
    assert 0.935 <= held <= 0.975
    assert different <= 0.07 or min(finals) < 0


def test_equal_configurations_are_rarely_called_different():
    held, different = measure(EQUAL, 15, 400)
    assert 0.92 <= held <= 0.98
    assert different <= 0.08


def test_interval_of_a_difference_excludes_0_if_p_is_small():
    intervals = AdaptiveIntervals({"a": [0.90, 0.91, 0.905], "b": [0.89, 0.88, 0.882], "c": [0.85]})
    for other in "bc":
        gap = intervals.compare("a", other)
        assert (gap.p_value < 0.05) == (gap.low > 0)
        assert gap.low < gap.difference < gap.high
    assert intervals.compare("c", "a").difference == -gap.difference


def test_t_tests_alone_would_call_equal_configurations_different_far_too_often():
    scores = {k: [0.01 * k, 0.01 * k + 1, 0.01 * k - 1] for k in range(5)}  # 10 degrees of freedom
    half = AdaptiveIntervals(scores).compare(0, 1)
    error = AdaptiveIntervals(scores).deviation * (2 / 3) ** 0.5
    assert (half.high - half.low) / 2 / error > 3.1, "2.23 of the t distribution"


def test_too_few_runs_or_no_spread_give_no_interval():
    assert AdaptiveIntervals({"a": [0.9], "b": [0.8, 0.82]}).half_width("b") is None
    assert AdaptiveIntervals({"a": [0.9, 0.9], "b": [0.8, 0.8]}).compare("a", "b") is None
    assert AdaptiveIntervals({"a": [0.9, 0.91, 0.92], "b": []}, counts_screening=True).compare("a", "b") is None


def test_more_runs_give_narrower_intervals():
    few, many = [AdaptiveIntervals({k: [0.9, 0.91] * n for k in range(4)}) for n in (1, 4)]
    assert many.half_width(0) < few.half_width(0)


def test_levels_are_compared_pair_by_pair():
    scores = {k: [0.9 + 0.001 * k, 0.91, 0.92] for k in range(6)}
    widths = []
    for num_levels in (2, 3):
        gap = AdaptiveIntervals(scores, {k: k % num_levels for k in scores}).compare(0, 1)
        widths.append(gap.high - gap.low)
    assert widths[0] < widths[1]
