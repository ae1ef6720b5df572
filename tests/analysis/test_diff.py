"""What differs between configurations or sweeps, as numbers."""

import pytest

from flexres_tune.analysis.diff import diff
from flexres_tune.errors import ResultsError

SGD, ADAM = {"optimizer": "sgd"}, {"optimizer": "adam"}


def test_diff_of_configurations_names_settings_and_pairs_seeds(results, make_config):
    opened = results(
        *((SGD, seed, "completed", 0.90 + 0.01 * seed) for seed in range(3)),
        *((ADAM, seed, "completed", 0.88 + 0.012 * seed) for seed in range(3)),
    )
    ids = [make_config(**values).config_id for values in (SGD, ADAM)]
    rows = {row.what: row for row in diff(opened, ids[0][:6], ids[1])}
    assert (rows["optimizer"].a, rows["optimizer"].b) == ("sgd", "adam") and "lr" not in rows
    assert rows["best_val_accuracy"].test == "paired"
    assert rows["best_val_accuracy"].difference == pytest.approx(0.018)


def test_diff_of_trials_names_the_seed(results, make_config):
    opened = results((SGD, 0, "completed", 0.90), (SGD, 1, "completed", 0.88), (ADAM, 0, "completed", 0.85))
    first, second = (make_config(**SGD, seed=seed).trial_id for seed in (0, 1))
    rows = {row.what: row for row in diff(opened, first, second)}
    assert (rows["seed"].a, rows["seed"].b) == ("0", "1") and "optimizer" not in rows
    assert rows["best_val_accuracy"].difference == pytest.approx(0.02) and rows["best_val_accuracy"].test == "none"


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        (("dmeo", "demo"), "demo is a sweep and 'dmeo' is not"),
        (("dmeo", "abcdef"), "'dmeo' is neither a sweep nor .*; did you mean demo\\?; sweeps: demo"),
    ],
)
def test_diff_refuses_what_it_does_not_know(results, pair, message):
    with pytest.raises(ResultsError, match=message):
        diff(results((SGD, 0, "completed", 0.9)), *pair)
