"""fANOVA's importance of parameters."""

import pytest

from flexres_tune.effects.importance import MIN_TRIALS, parameter_importance
from flexres_tune.errors import ResultsError


def test_importance_finds_the_parameter_that_matters_the_same_way_each_time(results):
    grid = [(lr, wd) for lr in (0.001, 0.01, 0.1, 1.0) for wd in (0.0, 1e-4, 1e-3, 1e-2)]
    trials = [
        ({"lr": lr, "weight_decay": wd}, 0, "completed", 0.5 + 0.1 * place + 0.001 * k)
        for k, (lr, wd) in enumerate(grid)
        for place in [(0.001, 0.01, 0.1, 1.0).index(lr)]
    ]
    opened = results(*trials, ({"lr": 0.5}, 0, "stopped", 0.1))
    importances = parameter_importance(opened, "demo", repeats=5)
    first, second = importances
    assert first.parameter == "lr" and first.importance_mean > 0.9 > 0.1 > second.importance_mean
    assert (first.num_trials, first.num_left_out, first.repeats) == (16, 1, 5) and first.importance_sd > 0
    assert importances == parameter_importance(opened, "demo", repeats=5)


def test_importance_of_few_trials_is_refused_with_the_rule(results):
    opened = results(*(({"lr": 0.1 * k}, 0, "completed", 0.9) for k in range(1, 4)))
    with pytest.raises(
        ResultsError, match=f"needs at least {MIN_TRIALS} trials .* but has 3 and 1; .*Add values or seeds"
    ):
        parameter_importance(opened, "demo")
