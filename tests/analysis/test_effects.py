"""compare: means over configurations that ran to the end, and what cannot be compared."""

import pytest

from flexres_tune.analysis.effects import parameter_effects
from flexres_tune.errors import ResultsError
from flexres_tune.results.writer import SweepWriter

SGD, ADAM = {"optimizer": "sgd"}, {"optimizer": "adam"}


def test_compare_averages_whole_configurations_and_counts_the_rest(results):
    opened = results(
        (SGD | {"lr": 0.1}, 0, "completed", 0.90),
        (SGD | {"lr": 0.1}, 1, "completed", 0.92),
        (SGD | {"lr": 0.2}, 0, "completed", 0.95),
        (SGD | {"lr": 0.3}, 0, "stopped", 0.99),
        (ADAM | {"lr": 0.1}, 0, "completed", 0.80),
        (ADAM | {"lr": 0.1}, 1, "completed", 0.82),
        (ADAM | {"lr": 0.2}, 0, "diverged", None),
    )
    adam, sgd = parameter_effects(opened, "demo", "optimizer")
    assert (sgd.parameters["optimizer"], sgd.num_configs, sgd.num_trials, sgd.num_stopped) == ("sgd", 2, 3, 1)
    assert sgd.metric_mean == pytest.approx(0.93) and sgd.extreme == 0.95
    assert (sgd.interval_over, adam.interval_over, adam.num_failed) == ("configurations", "seeds", 1)
    assert adam.metric_low == pytest.approx(0.81 - 12.7062 * 0.01, abs=1e-4)  # t of one degree of freedom
    assert adam.metric_high == pytest.approx(0.81 + 12.7062 * 0.01, abs=1e-4)
    grid = parameter_effects(opened, "demo", "optimizer", "lr")
    assert [(row.parameters["optimizer"], row.parameters["lr"], row.num_configs) for row in grid] == [
        *(("adam", 0.1, 1), ("adam", 0.2, 0), ("sgd", 0.1, 1), ("sgd", 0.2, 1), ("sgd", 0.3, 0))
    ]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (["optmizer"], "no parameter 'optmizer'; did you mean optimizer\\?; varied in demo: optimizer"),
        (["batch_size"], "batch_size must vary to be compared, but is 128 in all trials; varied in demo: optimizer"),
        (["optimizer", "rl"], "no parameter 'rl'"),
        (["optimizer", "optimizer"], "--by must name a parameter other than optimizer"),
    ],
)
def test_compare_refuses_what_it_cannot_compare(results, parameters, message):
    opened = results((SGD, 0, "completed", 0.9), (ADAM, 0, "completed", 0.8))
    with pytest.raises(ResultsError, match=message):
        parameter_effects(opened, "demo", *parameters)


def test_rows_that_arrive_meanwhile_do_not_fail_the_comparison(results, paths, make_config, make_trial, monkeypatch):
    opened = results((SGD, 0, "completed", 0.9), (ADAM, 0, "completed", 0.8))
    read = opened.trials

    def read_and_grow(sweep):
        table = read(sweep)
        config = make_config(optimizer="adagrad")
        with SweepWriter(paths) as writer:
            writer.add_trial(make_trial(config), config)
        return table

    monkeypatch.setattr(opened, "trials", read_and_grow)
    assert {row.parameters["optimizer"] for row in parameter_effects(opened, "demo", "optimizer")} == {"adam", "sgd"}
