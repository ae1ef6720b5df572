"""compare, equal-cost, pareto, stops, diff and importance: figures, what stands beside them, what is refused."""

from datetime import UTC, datetime

import pytest
from helpers.factories import make_decision, make_epoch

from flexres_tune.analysis.cost import equal_cost, pareto, pareto_front
from flexres_tune.analysis.diff import diff
from flexres_tune.analysis.early_stops import stopped_trials, stops_by_rung
from flexres_tune.analysis.effects import parameter_effect
from flexres_tune.analysis.importance import MIN_TRIALS, parameter_importance
from flexres_tune.analysis.leaderboard import leaderboard
from flexres_tune.errors import ResultsError
from flexres_tune.results import open_results
from flexres_tune.results.writer import SweepWriter


@pytest.fixture
def results(paths, make_config, make_trial):
    """Writes [(configuration, seed, status, best, other values)] and returns the results."""

    def make(*trials):
        with SweepWriter(paths) as writer:
            for values, seed, status, best, *other in trials:
                config = make_config(**values, seed=seed)
                moment = datetime(2026, 1, 2, tzinfo=UTC)
                writer.add_trial(
                    make_trial(config, status, best, finished_at=moment, **(other[0] if other else {})), config
                )
        return open_results(paths.root)

    return make


def curve(paths, trial_id, accuracies, seconds=1.0):
    with SweepWriter(paths) as writer:
        for epoch, accuracy in enumerate(accuracies, 1):
            writer.add_epoch(make_epoch(trial_id, epoch, val_accuracy=accuracy, epoch_seconds=seconds))


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
    adam, sgd = parameter_effect(opened, "demo", "optimizer").to_pylist()
    assert (sgd["optimizer"], sgd["num_configs"], sgd["num_trials"], sgd["num_stopped"]) == ("sgd", 2, 3, 1)
    assert sgd["best_val_accuracy_mean"] == pytest.approx(0.93) and sgd["highest_val_accuracy"] == 0.95
    assert (sgd["interval_over"], adam["interval_over"], adam["num_failed"]) == ("configurations", "seeds", 1)
    assert adam["best_val_accuracy_low"] == pytest.approx(0.81 - 12.7062 * 0.01, abs=1e-4)  # t of one degree of freedom
    assert adam["best_val_accuracy_high"] == pytest.approx(0.81 + 12.7062 * 0.01, abs=1e-4)
    grid = parameter_effect(opened, "demo", "optimizer", "lr").to_pylist()
    assert [(row["optimizer"], row["lr"], row["num_configs"]) for row in grid] == [
        *(("adam", 0.1, 1), ("adam", 0.2, 0), ("sgd", 0.1, 1), ("sgd", 0.2, 1), ("sgd", 0.3, 0))
    ]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (["optmizer"], "no parameter 'optmizer'; did you mean optimizer\\?; varied in demo: optimizer"),
        (["batch_size"], "batch_size must vary to be compared, but is 128 in all trials; varied in demo: optimizer"),
        (["optimizer", "rl"], "no parameter 'rl'"),
        (["optimizer", "optimizer"], "--by must be another parameter than optimizer"),
    ],
)
def test_compare_refuses_what_it_cannot_compare(results, parameters, message):
    opened = results((SGD, 0, "completed", 0.9), (ADAM, 0, "completed", 0.8))
    with pytest.raises(ResultsError, match=message):
        parameter_effect(opened, "demo", *parameters)


def test_equal_cost_names_the_best_at_each_budget(results, paths, make_config):
    fast, slow = {"lr": 0.1, "epochs": 4}, {"lr": 0.2, "epochs": 4}
    opened = results(
        (fast, 0, "completed", 0.8), (slow, 0, "completed", 0.9), ({"lr": 0.3, "epochs": 4}, 0, "stopped", 0.99)
    )
    curve(paths, make_config(**fast).trial_id, [0.7, 0.75, 0.8, 0.8], seconds=1.0)
    curve(paths, make_config(**slow).trial_id, [0.3, 0.6, 0.85, 0.9], seconds=2.0)
    rows = equal_cost(opened, "demo").to_pylist()
    best = {(row["budget_of"], row["budget"]): (row["lr"], row["best_val_accuracy_mean"]) for row in rows}
    assert (
        best["epochs", 1.0] == (0.1, 0.7) and best["epochs", 2.0] == (0.1, 0.75) and best["epochs", 4.0] == (0.2, 0.9)
    )
    assert best["device_seconds", 4.0] == (0.1, 0.8) and best["device_seconds", 8.0] == (0.2, 0.9)
    assert {row["num_configs"] for row in rows} <= {1, 2}


def test_equal_cost_waits_until_every_seed_of_a_configuration_is_there(results, paths, make_config):
    trials = [({"lr": 0.1, "epochs": 2}, seed, "completed", 0.9) for seed in (0, 1)]
    opened = results(*trials, ({"lr": 0.2, "epochs": 2}, 0, "completed", 0.5))
    curve(paths, make_config(lr=0.1, epochs=2, seed=0).trial_id, [0.8, 0.9], seconds=1.0)
    curve(paths, make_config(lr=0.1, epochs=2, seed=1).trial_id, [0.8, 0.9], seconds=3.0)
    curve(paths, make_config(lr=0.2, epochs=2, seed=0).trial_id, [0.4, 0.5], seconds=1.0)
    rows = [row for row in equal_cost(opened, "demo").to_pylist() if row["budget_of"] == "device_seconds"]
    assert [(row["budget"], row["lr"], row["num_seeds"]) for row in rows][:2] == [(1.5, 0.2, 1), (3.0, 0.1, 2)]


def test_pareto_front_is_what_nothing_beats():
    assert pareto_front([3, 1, 2, 2, 5], [0.9, 0.5, 0.4, 0.7, 0.9]) == [1, 3, 0]
    assert pareto_front([1, 1], [0.5, None]) == [0] and pareto_front([], []) == []


def test_pareto_has_a_front_for_each_cost(results):
    opened = results(
        ({"lr": 0.1}, 0, "completed", 0.9, {"train_seconds": 30.0}),
        ({"lr": 0.2}, 0, "completed", 0.8, {"train_seconds": 10.0}),
        ({"lr": 0.3}, 0, "completed", 0.7, {"train_seconds": 20.0}),
    )
    rows = pareto(opened, "demo").to_pylist()
    fronts = {cost: [row["lr"] for row in rows if row["against"] == cost] for cost in {row["against"] for row in rows}}
    assert fronts == {"num_parameters": [0.1], "device_seconds_per_trial": [0.2, 0.1]}


def test_stops_say_rung_cutoff_and_what_was_saved(results, paths, make_config):
    opened = results(
        ({"lr": 0.1, "epochs": 9}, 0, "completed", 0.9),
        ({"lr": 0.2, "epochs": 9}, 0, "stopped", 0.3, {"epochs_run": 3, "train_seconds": 6.0}),
    )
    trial_id = make_config(lr=0.2, epochs=9).trial_id
    with SweepWriter(paths) as writer:
        writer.add_decision(make_decision(trial_id, epoch=1, rung=0, value=0.2, cutoff=None, action="continue"))
        writer.add_decision(make_decision(trial_id, epoch=3, rung=1, value=0.3, cutoff=0.5))
    stops = stopped_trials(opened, "demo")
    (row,) = stops.to_pylist()
    assert (row["rung"], row["epoch"], row["value"], row["cutoff"]) == (1, 3, 0.3, 0.5)
    assert (row["saved_epochs"], row["saved_device_seconds"]) == (6, 12.0)
    (rung,) = stops_by_rung(stops).to_pylist()
    assert (rung["num_stopped"], rung["median_cutoff"], rung["saved_device_seconds"]) == (1, 0.5, 12.0)
    assert stops_by_rung(stops.slice(0, 0)).num_rows == 0


def test_diff_of_configurations_names_settings_and_pairs_seeds(results, make_config):
    opened = results(
        *((SGD, seed, "completed", 0.90 + 0.01 * seed) for seed in range(3)),
        *((ADAM, seed, "completed", 0.88 + 0.012 * seed) for seed in range(3)),
    )
    ids = [make_config(**values).config_id for values in (SGD, ADAM)]
    rows = {row["what"]: row for row in diff(opened, ids[0][:6], ids[1]).to_pylist()}
    assert (rows["optimizer"]["a"], rows["optimizer"]["b"]) == ("sgd", "adam") and "lr" not in rows
    assert rows["best_val_accuracy"]["test"] == "paired"
    assert rows["best_val_accuracy"]["difference"] == pytest.approx(0.018)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("dmeo", "demo"), "demo is a sweep and 'dmeo' is none"),
        (("dmeo", "abcdef"), "'dmeo' is neither a sweep nor .*; did you mean demo\\?; sweeps: demo"),
    ],
)
def test_diff_refuses_what_it_does_not_know(results, pair, message):
    with pytest.raises(ResultsError, match=message):
        diff(results((SGD, 0, "completed", 0.9)), *pair)


def test_importance_finds_the_parameter_that_matters_the_same_way_each_time(results):
    grid = [(lr, wd) for lr in (0.001, 0.01, 0.1, 1.0) for wd in (0.0, 1e-4, 1e-3, 1e-2)]
    trials = [
        ({"lr": lr, "weight_decay": wd}, 0, "completed", 0.5 + 0.1 * place + 0.001 * k)
        for k, (lr, wd) in enumerate(grid)
        for place in [(0.001, 0.01, 0.1, 1.0).index(lr)]
    ]
    opened = results(*trials, ({"lr": 0.5}, 0, "stopped", 0.1))
    table = parameter_importance(opened, "demo", repeats=5)
    first, second = table.to_pylist()
    assert first["parameter"] == "lr" and first["importance_mean"] > 0.9 > 0.1 > second["importance_mean"]
    assert (first["num_trials"], first["num_left_out"], first["repeats"]) == (16, 1, 5) and first["importance_sd"] > 0
    assert table.equals(parameter_importance(opened, "demo", repeats=5))


def test_importance_of_few_trials_is_refused_with_the_rule(results):
    opened = results(*(({"lr": 0.1 * k}, 0, "completed", 0.9) for k in range(1, 4)))
    with pytest.raises(
        ResultsError, match=f"needs at least {MIN_TRIALS} trials .* but has 3 and 1; .*Add values or seeds"
    ):
        parameter_importance(opened, "demo")


def test_leaderboard_says_who_is_separable(results):
    opened = results(
        *((SGD, seed, "completed", value) for seed, value in enumerate((0.971, 0.975, 0.969))),
        *((ADAM, seed, "completed", value) for seed, value in enumerate((0.801, 0.806, 0.798))),
        ({"optimizer": "adamw"}, 0, "completed", 0.97),
        ({"optimizer": "adagrad"}, 0, "stopped", 0.99),
    )
    rows = {row["optimizer"]: row for row in leaderboard(opened).to_pylist()}
    assert {name: row["separable_from_leader"] for name, row in rows.items()} == {
        "sgd": "leader", "adam": "yes", "adamw": "one seed: no interval", "adagrad": None,
    }  # fmt: skip
    assert rows["adam"]["compared_by"] == "paired" and rows["adam"]["p_value"] < 0.05
    assert rows["adam"]["behind_leader_low"] < rows["adam"]["behind_leader"] < rows["adam"]["behind_leader_high"]
    assert rows["sgd"]["best_val_accuracy_low"] < 0.9717 < rows["sgd"]["best_val_accuracy_high"]


def test_screened_configurations_are_not_compared_with_confirmed_ones(results):
    confirm = {"stage": "confirm"}
    opened = results(
        *((SGD, seed, "completed", 0.9 + seed / 1000, confirm) for seed in (10, 11)),
        *((ADAM, seed, "completed", 0.99 + seed / 1000) for seed in (0, 1)),
    )
    assert [row["separable_from_leader"] for row in leaderboard(opened).to_pylist()] == ["leader", None]
