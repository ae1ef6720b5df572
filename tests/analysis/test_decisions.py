"""Decisions in words, with the numbers that they were based on."""

import pytest

from flexres_tune.analysis.decisions import explain
from flexres_tune.analysis.metric import METRICS

ROW = {"value": 0.61, "cutoff": 0.75, "epoch": 4, "until_epoch": None, "rank": 3, "num_compared": 5}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"action": "stop"}, "61.0 % after epoch 4: it is stopped, because a trial needs at least 75.0 %"),
        ({"action": "continue", "cutoff": None}, "61.0 % after epoch 4: nothing to compare it with yet"),
        ({"action": "pause"}, "number 3 of 5 at epoch 4, with 61.0 %: those with at least 75.0 % continue"),
        (
            {"action": "pause", "cutoff": None},
            "number 3 of 5 at epoch 4, with 61.0 %: none continues until more have reached the rung",
        ),
        ({"action": "promote", "until_epoch": 9}, "number 3 of 5 at epoch 4, with 61.0 %: it continues to epoch 9"),
        (
            {"action": "allocate", "value": None},
            "its comparison with lr=0.1 is not decided, because one of them has no result yet",
        ),
        (
            {"action": "allocate"},
            "after 5 runs, its mean 61.0 % against 75.0 % of lr=0.1 was the least decided comparison, and it had the fewer "
            "runs of the two",
        ),
    ],
)
def test_a_decision_is_explained_with_its_numbers(changes, words):
    assert explain({**ROW, **changes}, METRICS["val_accuracy"], "lr=0.1") == words


def test_a_loss_must_be_low():
    row = {**ROW, "action": "stop"}
    assert explain(row, METRICS["val_loss"]).endswith("a trial needs at most 0.750")


def test_the_first_two_runs_on_fresh_seeds_are_told_apart():
    row = {**ROW, "action": "allocate", "cutoff": None}
    assert explain(row, METRICS["val_accuracy"], None, 1) == "its first run on a fresh seed"
    assert explain(row, METRICS["val_accuracy"], None, 2).endswith("with fewer than two runs, its mean has no interval")
