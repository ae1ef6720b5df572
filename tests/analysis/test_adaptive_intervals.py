"""Adaptive confirmation: intervals hold the truth, and equal configurations are rarely called different."""

import random
from dataclasses import dataclass
from statistics import fmean

import numpy as np
import pytest

from flexres_tune.analysis.adaptive_intervals import calibrate, pooled_deviation
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


def confirm(finals, num_runs, slots, generator, groups=None):
    """Scores of each configuration, from the real search with normal scores of deviation 1."""
    groups = groups or [None] * len(finals)
    candidates = [
        Candidate(str(k), tuple(PlannedTrial(Config(str(k), f"{k}-{seed}", seed), {}, 0) for seed in range(30)), group)
        for k, group in enumerate(groups)
    ]
    search = AdaptiveConfirmation(candidates, num_runs)
    scores, running = [[] for _ in finals], []
    while True:
        while len(running) < slots and isinstance(step := search.ask(), Assignment):
            running.append(step)
        if not running:
            return scores
        step = running.pop(0)
        index = int(step.trial.config.config_id)
        scores[index].append(finals[index] + generator.gauss(0, 1))
        search.tell(Outcome(step, TrialStatus.COMPLETED, scores[index][-1]))


def measure(finals, num_runs, slots, num_draws, seed=0):
    """(share of intervals of means that hold the truth, share of draws in which the best is called different)."""
    generator, held, different = random.Random(seed), 0, 0
    for _ in range(num_draws):
        scores = confirm(finals, num_runs, slots, generator)
        calibration = calibrate((len(finals),), sum(map(len, scores)))
        sd, means = pooled_deviation(scores), list(map(fmean, scores))
        held += sum(
            abs(mean - final) <= calibration.mean_t * sd / len(each) ** 0.5
            for mean, final, each in zip(means, finals, scores, strict=True)
        )
        leader = max(range(len(means)), key=means.__getitem__)
        different += any(
            means[leader] - means[k] > calibration.difference_t * sd * (1 / len(scores[leader]) + 1 / len(each)) ** 0.5
            for k, each in enumerate(scores)
            if k != leader
        )
    return held / num_draws / len(finals), different / num_draws


SPREAD = [0.0, -0.8, -1.5, -2.4, -3.5]


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize(
    ("finals", "num_runs"), [([0] * 5, 15), ([0] * 3, 12), ([0, 0, -4, -4, -4], 15), (SPREAD, 15), ([0] * 8, 24)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(finals, num_runs, slots):
    held, different = measure(finals, num_runs, slots, 1000)
    assert 0.94 <= held <= 0.97
    assert different <= 0.06 or min(finals) < 0


def test_equal_configurations_are_rarely_called_different():
    held, different = measure([0.0] * 5, 15, 4, 400)
    assert 0.92 <= held <= 0.98
    assert different <= 0.08


def test_without_calibration_they_would_be_too_often():
    calibration = calibrate((5,), 15)
    share_beyond_t = 1 - np.searchsorted(calibration.largest, 2.228) / len(calibration.largest)  # t of 10 degrees
    assert share_beyond_t > 0.2
    assert calibration.p_value(calibration.difference_t) == pytest.approx(0.05, abs=0.001)


def test_one_run_each_gives_no_interval():
    assert calibrate((5,), 6) is None
    assert pooled_deviation([[0.9], [0.8, 0.82]]) is None


def test_more_runs_give_narrower_intervals():
    few, many = calibrate((5,), 12), calibrate((5,), 30)
    assert many.mean_t < few.mean_t and many.difference_t < few.difference_t


def test_levels_are_compared_pair_by_pair():
    assert calibrate((2, 2, 2), 18).difference_t > calibrate((2, 2), 18).difference_t
    assert len(calibrate((1,), 6).largest) == 0
