import math
import random

import numpy as np
import pytest

from flexres_tune.search.early_stopping import (
    STOPPING_RULES,
    AshaRule,
    HyperbandRule,
    MedianRule,
    NoRule,
    upper_quantile,
)
from flexres_tune.spec import EarlyTerminate


def judged_epochs(rule):
    return [epoch for epoch in range(1, rule.max_epochs + 1) if rule.judge("a", epoch, 0.5) is not None]


def test_rungs_are_grace_period_times_powers_of_eta_below_the_budget():
    assert judged_epochs(AshaRule(max_epochs=81, grace_period=1, reduction_factor=3)) == [1, 3, 9, 27]
    assert judged_epochs(AshaRule(max_epochs=20, grace_period=3, reduction_factor=3)) == [3, 9]
    assert judged_epochs(AshaRule(max_epochs=4, grace_period=4, reduction_factor=2)) == []


def test_first_trial_is_not_stopped():
    verdict = AshaRule(9, 1, 3).judge("a", 1, 0.1)
    assert (verdict.rung, verdict.cutoff, verdict.stop) == (0, None, False)


def test_trial_below_the_upper_third_of_those_before_it_stops():
    rule = AshaRule(9, 1, 3)
    for trial, score in zip("abc", (0.1, 0.2, 0.3), strict=True):
        rule.judge(trial, 1, score)
    verdict = rule.judge("d", 1, 0.2)
    assert verdict.stop
    assert verdict.cutoff == pytest.approx(np.percentile([0.1, 0.2, 0.3], 100 * 2 / 3))


def test_trial_is_judged_at_rungs_only():
    rule = AshaRule(9, 1, 3)
    assert rule.judge("a", 2, 0.5) is None
    assert rule.judge("a", 9, 0.5) is None  # the last epoch ends the trial anyway


def test_score_that_is_not_finite_stops_and_leaves_the_rung_unchanged():
    rule = AshaRule(9, 1, 3)
    assert rule.judge("a", 1, math.nan).stop
    assert rule.judge("b", 1, 0.1).cutoff is None


def test_repeated_question_gets_the_same_answer_and_changes_nothing():
    rule = AshaRule(9, 1, 3)
    rule.judge("a", 1, 0.9)
    first = rule.judge("b", 1, 0.1)
    assert first.stop
    rule.judge("c", 1, 0.05)
    assert rule.judge("b", 1, 0.1) == first


def test_rule_rebuilt_from_its_history_decides_as_the_old_one():
    generator = random.Random(0)
    reports = [(f"t{i}", epoch, generator.random()) for i in range(30) for epoch in (1, 3)]
    whole = AshaRule(9, 1, 3)
    expected = [whole.judge(*report) for report in reports]
    rebuilt = AshaRule(9, 1, 3)
    for report in reports[:25]:
        rebuilt.judge(*report)
    assert [rebuilt.judge(*report) for report in reports] == expected


def test_asha_agrees_with_ray_on_random_trials(ray_asha):
    generator = random.Random(1)
    ours, theirs = AshaRule(27, 1, 3), ray_asha(max_t=27, grace_period=1, reduction_factor=3)
    alive = [f"t{i}" for i in range(60)]
    for epoch in (1, 3, 9):
        generator.shuffle(alive)
        scores = {trial: generator.random() for trial in alive}
        mine = {trial for trial in alive if ours.judge(trial, epoch, scores[trial]).stop}
        assert mine == {trial for trial in alive if theirs(trial, epoch, scores[trial])}
        assert mine
        alive = [trial for trial in alive if trial not in mine]


def test_hyperband_spreads_trials_over_brackets_in_its_own_shares():
    rule = HyperbandRule(max_epochs=27, grace_period=1, reduction_factor=3, num_brackets=3)
    counts = [0, 0, 0]
    for i in range(3000):
        counts[rule.bracket_of(f"t{i}")] += 1
    shares = np.array([9 * 3 / 3, 3 * 3 / 2, 3.0])
    assert np.array(counts) / 3000 == pytest.approx(shares / shares.sum(), abs=0.03)


def test_hyperband_bracket_with_a_longer_grace_period_does_not_look_early():
    rule = HyperbandRule(27, 1, 3, 3)
    late = next(f"t{i}" for i in range(1000) if rule.bracket_of(f"t{i}") == 2)
    assert rule.judge(late, 1, 0.0) is None
    assert rule.judge(late, 9, 0.0) is not None


def test_median_rule_stops_a_trial_whose_best_is_below_the_median_of_running_means():
    rule = MedianRule(max_epochs=10, grace_period=2)
    for trial, score in (("a", 0.5), ("b", 0.6), ("c", 0.7)):
        assert rule.judge(trial, 1, score) is None
        rule.judge(trial, 2, score)
    rule.judge("d", 1, 0.55)
    verdict = rule.judge("d", 2, 0.1)
    assert (verdict.cutoff, verdict.stop) == (pytest.approx(0.6), True)


def test_median_rule_waits_for_three_others():
    rule = MedianRule(10, 1)
    rule.judge("a", 1, 0.9)
    assert not rule.judge("b", 1, 0.0).stop


def test_median_rule_is_its_definition_in_whatever_order_reports_come():
    """Also where a table's rows of one trial are out of order."""
    generator = random.Random(2)
    reports = [(f"t{i}", epoch, generator.random()) for i in range(12) for epoch in range(1, 7)]
    generator.shuffle(reports)
    rule, scores = MedianRule(max_epochs=9, grace_period=2), {}
    num_stopped = 0
    for trial, epoch, score in reports:
        own = scores.setdefault(trial, {})
        own[epoch] = score
        means = [
            np.mean([value for at, value in other.items() if at <= epoch])
            for name, other in scores.items()
            if name != trial and epoch in other
        ]
        verdict = rule.judge(trial, epoch, score)
        if epoch < 2:
            assert verdict is None
        elif len(means) < 3:
            assert verdict.cutoff is None and not verdict.stop
        else:
            assert verdict.cutoff == pytest.approx(np.median(means))
            assert verdict.stop == (max(own.values()) < verdict.cutoff)
            num_stopped += verdict.stop
    assert num_stopped


def test_no_rule_never_looks():
    assert NoRule().judge("a", 1, 0.0) is None


@pytest.mark.parametrize("name", STOPPING_RULES)
def test_every_rule_is_idempotent_and_spares_the_best(name):
    variant = {"variant": "stopping"} if name in ("asha", "hyperband") else {}
    rule = STOPPING_RULES[name](EarlyTerminate(type=name, **variant), 8)
    for i in range(20):
        score = 0.9 if i == 10 else i % 7 / 10
        for epoch in range(1, 9):
            verdict = rule.judge(f"t{i}", epoch, score)
            assert rule.judge(f"t{i}", epoch, score) == verdict
            assert i != 10 or verdict is None or not verdict.stop
            if verdict is not None and verdict.stop:
                break


@pytest.mark.parametrize("q", [0.0, 0.25, 2 / 3, 0.75, 1.0])
def test_quantile_is_numpys(q):
    values = [0.1, 0.3, 0.4, 0.4, 0.9]
    assert upper_quantile(values, q) == pytest.approx(np.percentile(values, 100 * q))


@pytest.fixture
def ray_asha():
    """Ray's own ASHA as a function (trial, epoch, score) -> stopped."""
    from types import SimpleNamespace

    from ray.tune.schedulers import AsyncHyperBandScheduler

    def make(**options):
        scheduler = AsyncHyperBandScheduler(time_attr="epoch", metric="score", mode="max", **options)
        known = set()

        def judge(trial, epoch, score):
            holder = SimpleNamespace(trial_id=trial)
            if trial not in known:
                known.add(trial)
                scheduler.on_trial_add(None, holder)
            return scheduler.on_trial_result(None, holder, {"epoch": epoch, "score": score}) == "STOP"

        return judge

    return make
