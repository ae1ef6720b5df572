"""Expected best of n configurations: unbiased, with a band that covers the truth for all n at once."""

from itertools import combinations

import numpy as np
import pytest

from flexres_tune.effects.effort import band, expected_best, tuning_effort
from flexres_tune.errors import ResultsError
from flexres_tune.query.effort import answer_effort


def test_estimate_is_the_mean_over_all_subsets():
    values = np.random.default_rng(0).random(8)
    for n in range(1, 9):
        expected = np.mean([max(subset) for subset in combinations(values, n)])
        assert expected_best(values, n) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("num_configs", [5, 20, 80])
def test_band_covers_the_whole_curve_in_95_percent(num_configs):
    random = np.random.default_rng(num_configs)
    sizes = [1, 2, 4, num_configs]
    truth = [n / (n + 1) for n in sizes]  # of the maximum of n uniform draws
    covered = [
        all(
            low <= value <= high
            for (low, high), value in zip(band(random.random(num_configs), sizes), truth, strict=True)
        )
        for _ in range(1000)
    ]
    assert np.mean(covered) >= 0.935


def test_optimizer_with_more_tries_is_not_better_at_equal_n(results):
    trials = [({"optimizer": "sgd", "lr": 0.01 * i}, 0, "completed", 0.5 + 0.04 * i) for i in range(1, 9)]
    trials += [({"optimizer": "adam", "lr": 0.01 * i}, 0, "completed", 0.6 + 0.04 * i) for i in range(1, 5)]
    trials += [({"optimizer": "adam", "lr": 0.5}, 0, "diverged", None)]
    trials += [({"optimizer": "adam", "lr": 0.01}, 9, "completed", 0.99, {"stage": "confirm"})]
    made = results(*trials)
    rows = tuning_effort(made, "demo", "optimizer")
    at = {(row.parameters["optimizer"], row.num_tried): row for row in rows}
    assert [row.num_tried for row in rows if row.parameters["optimizer"] == "sgd"] == [1, 2, 4, 8]
    assert at["adam", 5].expected_best == pytest.approx(0.76) and at["adam", 5].num_failed == 1
    assert at["sgd", 8].expected_best == pytest.approx(0.82)
    assert at["sgd", 4].expected_best < 0.82 and at["sgd", 4].expected_best_low < at["sgd", 4].expected_best
    (section,) = answer_effort(made, "demo", "optimizer", None).sections
    assert sorted(section.table.column_names) == ["adam", "n", "sgd"]
    assert "diverged or ran out of memory, and count as 0: 1 configuration" in " ".join(section.notes)


def test_configurations_that_a_search_has_paused_are_tries_too(results):
    """Of eight tries of sgd the search has kept the best; adam ran one, which is better than most of the eight."""
    trials = [({"optimizer": "sgd", "lr": 0.01 * i}, 0, "paused", 0.5 + 0.01 * i) for i in range(1, 8)]
    trials += [({"optimizer": "sgd", "lr": 0.08}, 0, "completed", 0.9), ({"optimizer": "adam"}, 0, "completed", 0.8)]
    made = results(*trials)
    rows = {(row.parameters["optimizer"], row.num_tried): row for row in tuning_effort(made, "demo", "optimizer")}
    assert rows["sgd", 1].expected_best < 0.6 < rows["adam", 1].expected_best  # not 0.9, as of the survivor
    assert (rows["sgd", 1].num_configs, rows["sgd", 1].num_stopped) == (8, 7)
    (section,) = answer_effort(made, "demo", "optimizer", None).sections
    assert "stopped early or paused, and count with what they had reached: 7 configurations" in section.notes


def test_configurations_without_a_result_are_counted_as_left_out(results):
    trials = [({"optimizer": "sgd", "lr": 0.01 * i}, 0, "failed", None) for i in range(1, 4)]
    trials += [({"optimizer": "sgd", "lr": 0.5}, 0, "completed", 0.9), ({"optimizer": "adam"}, 0, "completed", 0.8)]
    made = results(*trials)
    rows = {row.parameters["optimizer"]: row for row in tuning_effort(made, "demo", "optimizer")}
    assert (rows["sgd"].num_configs, rows["sgd"].num_left_out, rows["adam"].num_left_out) == (1, 3, 0)
    (section,) = answer_effort(made, "demo", "optimizer", None).sections
    assert "failed or were interrupted with all trials, and do not count: 3 configurations" in section.notes


def test_parameter_that_does_not_vary_is_named(results):
    made = results(({"lr": 0.1}, 0, "completed", 0.9), ({"lr": 0.2}, 0, "completed", 0.9))
    with pytest.raises(ResultsError, match="'optimizr' does not vary; what varies: lr"):
        tuning_effort(made, "demo", "optimizr")
