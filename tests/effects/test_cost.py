"""The best at equal cost, and the Pareto fronts."""

from flexres_tune.effects.cost import equal_cost, pareto, pareto_front


def test_equal_cost_names_the_best_at_each_budget(results, write_curve):
    fast, slow = {"lr": 0.1, "epochs": 4}, {"lr": 0.2, "epochs": 4}
    opened = results(
        (fast, 0, "completed", 0.8), (slow, 0, "completed", 0.9), ({"lr": 0.3, "epochs": 4}, 0, "stopped", 0.99)
    )
    write_curve(fast, [0.7, 0.75, 0.8, 0.8], seconds=1.0)
    write_curve(slow, [0.3, 0.6, 0.85, 0.9], seconds=2.0)
    rows = equal_cost(opened, "demo")
    best = {(row.budget_of, row.budget): (row.parameters["lr"], row.metric_mean) for row in rows}
    assert (
        best["epochs", 1.0] == (0.1, 0.7) and best["epochs", 2.0] == (0.1, 0.75) and best["epochs", 4.0] == (0.2, 0.9)
    )
    assert best["device_seconds", 4.0] == (0.1, 0.8) and best["device_seconds", 8.0] == (0.2, 0.9)
    assert {row.num_configs for row in rows} <= {1, 2}


def test_equal_cost_waits_until_every_seed_of_a_configuration_is_there(results, write_curve):
    trials = [({"lr": 0.1, "epochs": 2}, seed, "completed", 0.9) for seed in (0, 1)]
    opened = results(*trials, ({"lr": 0.2, "epochs": 2}, 0, "completed", 0.5))
    write_curve(dict(lr=0.1, epochs=2, seed=0), [0.8, 0.9], seconds=1.0)
    write_curve(dict(lr=0.1, epochs=2, seed=1), [0.8, 0.9], seconds=3.0)
    write_curve(dict(lr=0.2, epochs=2, seed=0), [0.4, 0.5], seconds=1.0)
    rows = [row for row in equal_cost(opened, "demo") if row.budget_of == "device_seconds"]
    assert [(row.budget, row.parameters["lr"], row.num_seeds) for row in rows][:2] == [(1.5, 0.2, 1), (3.0, 0.1, 2)]


def test_pareto_front_is_what_nothing_beats():
    assert pareto_front([3, 1, 2, 2, 5], [0.9, 0.5, 0.4, 0.7, 0.9]) == [1, 3, 0]
    assert pareto_front([1, 1], [0.5, None]) == [0] and pareto_front([], []) == []


def test_pareto_has_a_front_for_each_cost(results):
    opened = results(
        ({"lr": 0.1}, 0, "completed", 0.9, {"train_seconds": 30.0}),
        ({"lr": 0.2}, 0, "completed", 0.8, {"train_seconds": 10.0}),
        ({"lr": 0.3}, 0, "completed", 0.7, {"train_seconds": 20.0}),
    )
    rows = pareto(opened, "demo")
    fronts = {
        cost: [row.parameters["lr"] for row in rows if row.against == cost] for cost in {row.against for row in rows}
    }
    assert fronts == {"num_parameters": [0.1], "device_seconds_per_trial": [0.2, 0.1]}
