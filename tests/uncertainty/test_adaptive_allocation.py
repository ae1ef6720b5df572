"""The leaderboard's statistics hold for seeds that adaptive confirmation has allocated.

Which configuration gets the next seed depends on the scores so far: one whose first seeds were unlucky keeps a mean
that is too low.
"""

import random
from dataclasses import dataclass
from statistics import fmean, stdev

import pytest

from flexres_tune.records import TrialStatus
from flexres_tune.search.adaptive import AdaptiveConfirmation
from flexres_tune.search.base import Assignment, Outcome
from flexres_tune.search.ladders import Candidate
from flexres_tune.spec import PlannedTrial
from flexres_tune.uncertainty.comparisons import Samples, compare_with_leader, pooled_deviation
from flexres_tune.uncertainty.intervals import half_width


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
        held += [
            abs(fmean(each) - finals[k]) <= half_width(stdev(each), len(each))
            for k, each in scores.items()
            if len(each) > 1
        ]
        leader, *others = sorted((k for k in scores if scores[k]), key=means.__getitem__, reverse=True)
        seeds = {k: dict(enumerate(scores[k])) for k in (leader, *others)}
        found = compare_with_leader(seeds[leader], [seeds[k] for k in others])
        different += any(each.p_value is not None and each.p_value < 0.05 and each.difference > 0 for each in found)
    return fmean(held), different / num_draws


EQUAL, TIED, SPREAD = [0.0] * 5, [0.0, 0.0, -4.0, -4.0, -4.0], [0.0, -0.8, -1.5, -2.4, -3.5]


@pytest.mark.slow
@pytest.mark.parametrize("counts_screening", [False, True])
@pytest.mark.parametrize(
    ("finals", "num_runs"), [(EQUAL, 15), ([0.0] * 3, 12), ([0.0] * 8, 24), (TIED, 15), (SPREAD, 15)]
)
def test_intervals_hold_the_truth_as_often_as_they_say(finals, num_runs, counts_screening):
    held, different = measure(finals, num_runs, 600, counts_screening=counts_screening)
    assert 0.93 <= held <= 0.97
    assert different <= 0.07 or min(finals) < 0


@pytest.mark.parametrize("counts_screening", [False, True])
def test_equal_configurations_are_rarely_called_different(counts_screening):
    held, different = measure(EQUAL, 15, 200, counts_screening=counts_screening)
    assert 0.91 <= held <= 0.98
    assert different <= 0.08


def confirm_levels(deviations, num_runs, num_screened, generator):
    """Fresh scores and the score of the screening of the best of `num_screened` equal configurations of each level."""
    num = len(deviations)
    candidates = [
        Candidate(str(k), tuple(PlannedTrial(Config(str(k), f"{k}-{seed}", seed), {}, 0) for seed in range(30)), k)
        for k in range(num)
    ]
    screened = [max(generator.gauss(0, deviations[k]) for _ in range(num_screened)) for k in range(num)]
    search = AdaptiveConfirmation(candidates, num_runs, screened={str(k): score for k, score in enumerate(screened)})
    scores = [[] for _ in range(num)]
    while isinstance(step := search.ask(), Assignment):
        index = int(step.trial.config.config_id)
        scores[index].append(generator.gauss(0, deviations[index]))
        search.tell(Outcome(step, TrialStatus.COMPLETED, scores[index][-1]))
    return scores, screened


def measure_levels(deviations, num_runs, num_screened, num_draws):
    """(share of pooled intervals that hold the truth, share of draws in which equal levels are called different)."""
    generator, held, different = random.Random(0), [], 0
    for _ in range(num_draws):
        scores, screened = confirm_levels(deviations, num_runs, num_screened, generator)
        order = sorted(range(len(scores)), key=lambda k: -fmean([*scores[k], screened[k]]))
        samples, before = [dict(enumerate(scores[k])) for k in order], [[screened[k]] for k in order]
        found = compare_with_leader(samples[0], samples[1:], before)
        assert all(each.p_value is not None for each in found), "one fresh run is enough"
        different += any(each.p_value < 0.05 and each.difference > 0 for each in found)
        pooled = pooled_deviation(Samples.of(samples, before))
        held += [abs(fmean(each)) <= pooled.half_width(len(each)) for each in scores]
    return fmean(held), different / num_draws


@pytest.mark.parametrize("num_screened", [1, 3])  # of 3, the best one has luck, which its mean must not keep
def test_levels_with_one_fresh_run_are_rarely_called_different(num_screened):
    held, different = measure_levels([1.0] * 6, 8, num_screened, 300)
    assert 0.93 <= held <= 0.995 and different <= 0.06


def test_levels_of_unequal_variance_are_rarely_called_different():
    _, different = measure_levels([1.0, 1.0, 1.0, 2.0, 2.0, 2.0], 8, 3, 300)
    assert different <= 0.08


def test_every_candidate_gets_a_run_unless_its_screening_counts():
    scores, _ = confirm(SPREAD, 11, 4, random.Random(0), counts_screening=False)
    assert all(scores.values()) and sum(map(len, scores.values())) == 11
    scores, means = confirm(SPREAD, 11, 4, random.Random(0), counts_screening=True)
    assert scores[max(range(5), key=means.__getitem__)], "the leader has fresh runs"
    assert not all(scores.values()), "those that are clearly behind have none"
