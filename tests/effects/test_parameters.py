"""compare: values over configurations that share the other parameters, and what cannot be compared."""

import math
import statistics

import pytest
from scipy import special

from flexres_tune.effects.parameters import parameter_effects
from flexres_tune.errors import ResultsError
from flexres_tune.results.writer import SweepWriter

SGD, ADAM = {"optimizer": "sgd"}, {"optimizer": "adam"}


def test_compare_averages_what_all_values_have_and_counts_the_rest(results):
    """sgd's best rate is one with which adam diverged, so it is no advantage of sgd over adam."""
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
    assert (sgd.mean_over, sgd.num_averaged, sgd.extreme) == ("shared", 1, 0.95)
    assert sgd.metric_mean == pytest.approx(0.91) and adam.metric_mean == pytest.approx(0.81)
    assert (sgd.interval_over, adam.interval_over, adam.num_failed) == ("seeds", "seeds", 1)
    assert adam.metric_low == pytest.approx(0.81 - 12.7062 * 0.01, abs=1e-4)  # t of one degree of freedom
    assert adam.metric_high == pytest.approx(0.81 + 12.7062 * 0.01, abs=1e-4)
    assert sgd.compared_with is None and (adam.compared_with, adam.num_pairs) == ("sgd", 1)
    assert adam.better_by == pytest.approx(-0.10) and adam.better_by_low is None, "one pair has no interval"
    assert (adam.num_only_this, adam.num_only_other) == (0, 1)
    grid = parameter_effects(opened, "demo", "optimizer", "lr")
    assert [(row.parameters["optimizer"], row.parameters["lr"], row.num_configs) for row in grid] == [
        *(("adam", 0.1, 1), ("adam", 0.2, 0), ("sgd", 0.1, 1), ("sgd", 0.2, 1), ("sgd", 0.3, 0))
    ]


def test_no_mean_is_one_of_survivors(results):
    """sgd keeps its best rate, adam its three: their means would say that sgd is better by 12 points."""
    opened = results(
        (SGD | {"lr": 0.1}, 0, "completed", 0.95),
        *((SGD | {"lr": lr}, 0, "paused", 0.3) for lr in (0.01, 0.02, 0.03)),
        *((ADAM | {"lr": lr}, 0, "completed", value) for lr, value in ((0.01, 0.94), (0.02, 0.75), (0.03, 0.80))),
    )
    adam, sgd = parameter_effects(opened, "demo", "optimizer")
    assert sgd.metric_mean is None and sgd.mean_over is None and sgd.num_paused == 3
    assert adam.metric_mean == pytest.approx(0.83) and adam.mean_over == "all", "all that adam has"
    assert (adam.better_by, adam.num_pairs, adam.num_only_this, adam.num_only_other) == (None, 0, 3, 0)


def test_differences_are_means_over_pairs_with_intervals_that_hold_together(results):
    rates, of_sgd = (0.1, 0.2, 0.3), (0.90, 0.92, 0.95)
    opened = results(
        *((SGD | {"lr": lr}, 0, "completed", value) for lr, value in zip(rates, of_sgd, strict=True)),
        *((ADAM | {"lr": lr}, 0, "completed", value) for lr, value in zip(rates, (0.88, 0.91, 0.92), strict=True)),
        *(({"optimizer": "adamw", "lr": lr}, 0, "completed", 0.5) for lr in rates[:2]),
        ({"optimizer": "adamw", "lr": 0.3}, 0, "stopped", 0.1),
    )
    adam, adamw, _ = parameter_effects(opened, "demo", "optimizer")
    differences = (-0.02, -0.01, -0.03)
    half = special.stdtrit(2, 1 - 0.05 / 2 / 3) * statistics.stdev(differences) / math.sqrt(3)  # three pairs of values
    assert adam.better_by == pytest.approx(-0.02)
    assert (adam.better_by_low, adam.better_by_high) == pytest.approx((-0.02 - half, -0.02 + half))
    assert (adamw.num_pairs, adamw.num_only_other, adamw.better_by) == (2, 1, pytest.approx(-0.41))
    assert {adam.num_averaged, adamw.num_averaged} == {2}, "means are over the two rates that all three have"


def test_confirmed_configurations_are_not_paired_with_screened_ones(results):
    opened = results(
        (SGD | {"lr": 0.1}, 0, "completed", 0.95, {"stage": "confirm"}),
        (ADAM | {"lr": 0.1}, 0, "completed", 0.90),
    )
    adam, _ = parameter_effects(opened, "demo", "optimizer")
    assert (adam.num_pairs, adam.num_only_this, adam.num_only_other, adam.better_by) == (0, 0, 0, None)


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
