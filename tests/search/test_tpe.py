import math

import pytest

from flexres_tune.records import TrialStatus
from flexres_tune.search.base import DONE, Assignment, History, Outcome, PastTrial
from flexres_tune.search.tpe import TpeSearch
from flexres_tune.spec import SweepSpec

BASE = {"model": "tiny", "dataset": "digits", "epochs": 2}


def tpe_spec(**changes):
    values = {
        "name": "test",
        "method": "tpe",
        "num_trials": 12,
        "base": BASE,
        "parameters": [{"lr": {"min": 1e-4, "max": 1.0, "distribution": "log_uniform_values"}}],
    }
    return SweepSpec.model_validate(values | changes)


def make_past(trial, score=0.5, status="completed"):
    config = trial.config
    return PastTrial(
        trial_id=config.trial_id,
        config_id=config.config_id,
        seed=config.seed,
        stage="screen",
        status=TrialStatus(status),
        attempt=1,
        val_accuracy=score,
        score=score,
        is_done=status != "interrupted",
        values={"lr": config.lr},
    )


def drain(search, score=lambda trial: 0.5):
    """Run a search one trial at a time; its trials."""
    trials = []
    while (step := search.ask()) is not DONE:
        assert step.until_epoch == step.trial.config.epochs
        trials.append(step.trial)
        search.tell(Outcome(step, TrialStatus.COMPLETED, score(step.trial)))
    return trials


def test_tpe_draws_so_many_configurations_each_with_every_seed():
    trials = drain(TpeSearch(tpe_spec(seeds=[0, 1])))
    assert len(trials) == 24
    assert len({trial.config.config_id for trial in trials}) == 12
    assert {trial.config.seed for trial in trials} == {0, 1}


def test_tpe_comes_nearer_to_the_best_region_than_its_first_draws():
    trials = drain(
        TpeSearch(tpe_spec(num_trials=40)), score=lambda trial: -abs(math.log10(trial.config.lr) - math.log10(0.03))
    )
    distance = [abs(math.log10(trial.config.lr) - math.log10(0.03)) for trial in trials]
    assert sum(distance[-10:]) / 10 < 0.5 * 1.06, "1.06 is the mean distance of uniform draws"


def test_tpe_is_reproducible():
    assert drain(TpeSearch(tpe_spec())) == drain(TpeSearch(tpe_spec()))


def test_tpe_draws_nothing_over_the_budget():
    spec = tpe_spec(
        max_parameters=20_000,
        parameters=[{"model.channels": {"values": [[8, 8], [16, 16], [64, 64]]}, "lr": {"min": 0.01, "max": 0.1}}],
    )
    trials = drain(TpeSearch(spec))
    assert len(trials) == 12
    assert all(trial.num_parameters <= 20_000 for trial in trials)


def test_tpe_ends_when_the_space_holds_nothing_new():
    assert len(drain(TpeSearch(tpe_spec(parameters=[{"lr": {"values": [0.1, 0.2, 0.3]}}])))) == 3


def test_resumed_tpe_runs_only_what_is_missing():
    spec = tpe_spec()
    first = TpeSearch(spec).ask().trial
    search = TpeSearch(spec)
    drawn = [search.ask().trial for _ in range(5)]
    rows = [make_past(t, status="interrupted" if i == 4 else "completed") for i, t in enumerate(drawn)]
    again = TpeSearch(spec, History({row.trial_id: row for row in rows}))
    assert (again.work.num_done, again.work.num_todo, again.work.num_epochs) == (4, 8, 16)
    assert (again.work.trials, again.work.missing) == (tuple(drawn), (drawn[4],))
    rest = drain(again)
    assert rest[0] == drawn[4], "what was interrupted comes first"
    assert len(rest) == 8
    assert not {t.config.config_id for t in rest[1:]} & {t.config.config_id for t in drawn}
    assert first == drawn[0]


def test_rows_that_the_sweep_cannot_draw_are_ignored():
    spec = tpe_spec()
    past = make_past(TpeSearch(tpe_spec(base=BASE | {"epochs": 3})).ask().trial)
    search = TpeSearch(spec, History({past.trial_id: past}))
    assert (search.work.num_done, search.work.trials) == (0, ())


@pytest.mark.parametrize("score", [None, float("nan")])
def test_trial_without_a_score_does_not_stop_the_search(score):
    assert len(drain(TpeSearch(tpe_spec()), score=lambda trial: score)) == 12


STOPPING = {"type": "asha", "variant": "stopping", "grace_period": 1}


def test_further_seeds_start_if_the_first_one_was_not_stopped():
    search = TpeSearch(tpe_spec(num_trials=4, seeds=[0, 1], early_terminate=STOPPING))
    ended, verdicts = [], iter([TrialStatus.COMPLETED, TrialStatus.STOPPED] * 2)
    while isinstance(step := search.ask(), Assignment):
        config = step.trial.config
        status = next(verdicts) if config.seed == 0 else TrialStatus.COMPLETED
        ended.append((config.config_id, config.seed, status))
        search.tell(Outcome(step, status, 0.5))
    stopped = {config_id for config_id, _, status in ended if status == TrialStatus.STOPPED}
    assert stopped and all((config_id, seed) != (each, 1) for each in stopped for config_id, seed, _ in ended)
    assert len(ended) == 2 * 4 - len(stopped)


def test_seeds_that_never_started_run_after_a_resume():
    spec = tpe_spec(num_trials=2, seeds=[0, 1])
    first = TpeSearch(spec).ask().trial
    rest = drain(TpeSearch(spec, History({first.config.trial_id: make_past(first)})))
    assert [(trial.config.config_id, trial.config.seed) for trial in rest][:1] == [(first.config.config_id, 1)]
    assert len(rest) == 3


def test_rows_outside_a_range_that_was_narrowed_are_ignored():
    drawn = [step.trial for step in iter(TpeSearch(tpe_spec()).ask, DONE)][:12]
    rows = {trial.config.trial_id: make_past(trial) for trial in drawn}
    narrow = [{"lr": {"min": 1e-4, "max": 1e-2, "distribution": "log_uniform_values"}}]
    search = TpeSearch(tpe_spec(parameters=narrow), History(rows))
    assert {trial.config.trial_id for trial in search.work.trials} == {
        trial.config.trial_id for trial in drawn if trial.config.lr <= 1e-2
    }
