import pytest

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.search.sources import FixedTrials, TpeSearch
from flexres_tune.spec import SweepSpec, expand_trials, trial_from_assignment
from flexres_tune.sweep.history import History

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


def tpe_source(spec):
    return TpeSearch(spec, lambda values, seed: trial_from_assignment(spec, values, seed, describe_dataset))


def drain(source, score=lambda trial: 0.5):
    trials = []
    while (trial := source.next()) is not None:
        trials.append(trial)
        source.tell(trial, score(trial))
    return trials


def test_list_source_keeps_the_order():
    spec = SweepSpec(name="test", base=BASE, parameters=[{"lr": {"values": [0.1, 0.2, 0.3]}}])
    trials = expand_trials(spec, describe_dataset)
    assert drain(FixedTrials(trials)) == list(trials)


def test_tpe_draws_so_many_configurations_each_with_every_seed():
    trials = drain(tpe_source(tpe_spec(seeds=[0, 1])))
    assert len(trials) == 24
    assert len({trial.config.config_id for trial in trials}) == 12
    assert {trial.config.seed for trial in trials} == {0, 1}


def test_tpe_comes_nearer_to_the_best_region_than_its_first_draws():
    import math

    trials = drain(
        tpe_source(tpe_spec(num_trials=40)), score=lambda trial: -abs(math.log10(trial.config.lr) - math.log10(0.03))
    )
    distance = [abs(math.log10(trial.config.lr) - math.log10(0.03)) for trial in trials]
    assert sum(distance[-10:]) / 10 < 0.5 * 1.06, "1.06 is the mean distance of uniform draws"


def test_tpe_is_reproducible():
    assert drain(tpe_source(tpe_spec())) == drain(tpe_source(tpe_spec()))


def test_tpe_draws_nothing_over_the_budget():
    spec = tpe_spec(
        max_parameters=20_000,
        parameters=[{"model.channels": {"values": [[8, 8], [16, 16], [64, 64]]}, "lr": {"min": 0.01, "max": 0.1}}],
    )
    trials = drain(tpe_source(spec))
    assert len(trials) == 12
    assert all(trial.num_parameters <= 20_000 for trial in trials)


def test_tpe_ends_when_the_space_holds_nothing_new():
    assert len(drain(tpe_source(tpe_spec(parameters=[{"lr": {"values": [0.1, 0.2, 0.3]}}])))) == 3


def test_tpe_that_goes_on_runs_only_what_is_missing():
    spec = tpe_spec()
    first = [tpe_source(spec).next()]
    source = tpe_source(spec)
    drawn = [source.next() for _ in range(5)]
    rows = {}
    for i, trial in enumerate(drawn):
        status = "interrupted" if i == 4 else "completed"
        rows[trial.config.trial_id] = trial.config.columns() | {
            "trial_id": trial.config.trial_id,
            "config_id": trial.config.config_id,
            "seed": trial.config.seed,
            "status": status,
        }
    again = tpe_source(spec)
    assert again.recall(History(rows=rows, scores=dict.fromkeys(rows, 0.5))) == 4
    rest = drain(again)
    assert rest[0] == drawn[4], "what was interrupted comes first"
    assert len(rest) == 8
    assert not {t.config.config_id for t in rest[1:]} & {t.config.config_id for t in drawn}
    assert first[0] == drawn[0]


@pytest.mark.parametrize("score", [None, float("nan")])
def test_trial_without_a_score_does_not_stop_the_search(score):
    assert len(drain(tpe_source(tpe_spec()), score=lambda trial: score)) == 12
