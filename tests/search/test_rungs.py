import random
from dataclasses import replace
from types import SimpleNamespace

import pytest
from scipy import special

from flexres_tune.records import TrialStatus
from flexres_tune.search.adaptive import AdaptiveConfirmation, t_quantile
from flexres_tune.search.base import DONE, Assignment, Outcome
from flexres_tune.search.ladders import Candidate, Rung, make_rungs
from flexres_tune.search.rungs import RungSearch
from flexres_tune.spec import PlannedTrial


def make_candidate(index, num_seeds=1, group=None):
    def trial(seed):
        config = SimpleNamespace(config_id=f"c{index}", trial_id=f"c{index}-{seed}", seed=seed, epochs=27)
        return PlannedTrial(config, {}, 1)

    return Candidate(f"c{index}", tuple(map(trial, range(num_seeds))), group)


def play(search, score, slots=3, seed=0):
    """Run a search to its end; the highest epoch of each trial."""
    generator, running, reached = random.Random(seed), [], {}
    while True:
        while len(running) < slots and isinstance(step := search.ask(), Assignment):
            running.append(step)
        if not running:
            assert step is DONE
            return reached
        done = running.pop(generator.randrange(len(running)))
        is_last = done.until_epoch == done.trial.config.epochs
        value = score(done.trial.config)
        status = TrialStatus.COMPLETED if is_last else TrialStatus.PAUSED
        if value is None:
            status = TrialStatus.DIVERGED
        reached[done.trial.config.trial_id] = done.until_epoch
        search.tell(Outcome(done, status, value, value))


def quality(config):
    return float(config.config_id[1:])


def test_computed_rungs_keep_what_was_asked():
    assert make_rungs(27, 6, 27) == (Rung(6, 18), Rung(11, 9), Rung(14, 6))
    assert make_rungs(5, 2, 27) == (Rung(6, 4), Rung(11, 2)), "a rung that keeps all is none"
    assert make_rungs(27, 9, 27) == (Rung(6, 18), Rung(11, 9))
    assert make_rungs(81, 6, 27) == (Rung(3, 54), Rung(6, 36), Rung(11, 18), Rung(14, 6)), "many: an earlier rung"
    short = {2: [(1, 6)], 3: [(1, 9), (2, 6)], 4: [(2, 6)], 5: [(3, 6)], 6: [(3, 6)], 8: [(3, 9), (4, 6)]}
    for epochs, rungs in short.items():
        assert make_rungs(27, 6, epochs) == tuple(Rung(*rung) for rung in rungs), "none at an epoch that says little"
    assert make_rungs(27, 6, 3) == (Rung(1, 9), Rung(2, 6)), "two rungs at one epoch are one"
    assert make_rungs(3, 3, 27) == make_rungs(3, 1, 1) == ()


def test_halving_continues_the_best_of_each_group_and_pauses_the_rest():
    candidates = [make_candidate(i, group=i % 2) for i in range(10)]
    search = RungSearch(candidates, {0: [Rung(8, 2)], 1: [Rung(8, 2)]}, until=27)
    reached = play(search, quality)
    assert {key for key, epoch in reached.items() if epoch == 27} == {"c6-0", "c8-0", "c7-0", "c9-0"}
    assert sorted(set(reached.values())) == [8, 27]


@pytest.mark.parametrize("eager", [False, True])
def test_seeds_of_a_configuration_reach_the_same_rung_and_a_diverged_one_does_not_continue(eager):
    candidates = [make_candidate(i, num_seeds=2) for i in range(9)]
    search = RungSearch(candidates, {None: make_rungs(9, 2, 27)}, until=27, eager=eager)
    reached = play(search, lambda c: None if c.config_id == "c8" else quality(c))
    assert all(reached[f"c{i}-0"] == reached[f"c{i}-1"] for i in range(8))
    assert reached["c7-0"] == 27 and reached["c8-0"] == 6


def test_adaptive_confirmation_gives_further_runs_to_the_leader_and_its_closest_challenger():
    search = AdaptiveConfirmation([make_candidate(i, num_seeds=9) for i in range(4)], num_runs=10)
    noise = random.Random(1)
    reached = play(search, lambda c: [0, 0, 2, 2.05][int(quality(c))] + 0.3 * noise.random(), slots=1)
    runs = [sum(key.startswith(f"c{i}-") for key in reached) for i in range(4)]
    assert runs[:2] == [1, 1] and sum(runs) == 10


def test_leader_of_each_group_gets_two_fresh_runs_so_that_its_mean_has_an_interval():
    candidates = [make_candidate(i, num_seeds=9, group=i % 3) for i in range(6)]
    screened = {f"c{i}": float(i) for i in range(6)}
    reached = play(AdaptiveConfirmation(candidates, num_runs=8, screened=screened), quality, slots=1)
    assert all(sum(key.startswith(f"c{i}-") for key in reached) >= 2 for i in (3, 4, 5))


@pytest.mark.parametrize("baseline", ["c0", "c3"])  # the best one, and one that is far behind
@pytest.mark.parametrize("group", ["of all", "of its own"])
def test_a_baseline_far_behind_has_two_fresh_runs_however_early_the_answer_is_known(baseline, group):
    candidates = [make_candidate(index, num_seeds=9) for index in range(4)]
    if group == "of its own":
        candidates = [replace(each, group=each.config_id == baseline) for each in candidates]
    screened = {f"c{index}": 0.9 - 0.2 * index for index in range(4)}
    search = AdaptiveConfirmation(candidates, num_runs=12, screened=screened, baseline=baseline)
    reached = play(search, lambda config: screened[config.config_id] + 0.0001 * config.seed, slots=1)
    assert sum(trial_id.startswith(f"{baseline}-") for trial_id in reached) >= 2


def test_every_run_of_adaptive_confirmation_is_a_decision_with_its_numbers():
    search = AdaptiveConfirmation([make_candidate(i, num_seeds=9) for i in range(2)], num_runs=4)
    play(search, lambda c: quality(c) + 0.1 * (c.seed % 2), slots=1)
    first, second, *further = search.take_decisions()
    assert (first.value, first.compared_with) == (second.value, second.compared_with) == (None, None)
    assert [(row.action, row.rung, row.num_compared) for row in further] == [("allocate", 2, 2), ("allocate", 3, 3)]
    assert {(row.value, row.cutoff) for row in further[:1]} == {(1.0, 0.0)}
    assert further[0].compared_with == "c0" and further[0].trial_id == "c1-1"
    assert search.take_decisions() == []


@pytest.mark.parametrize("freedom", [1, 2, 4, 9, 30, 400])
@pytest.mark.parametrize("tail", [0.025, 0.0005, 1e-5])
def test_quantile_of_students_t_is_that_of_scipy(freedom, tail):
    assert t_quantile(freedom, tail) == pytest.approx(special.stdtrit(freedom, 1 - tail), rel=1e-5)
