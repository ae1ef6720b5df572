"""The final run is never ranked or compared; the answer has its test accuracy."""

import pytest
from helpers.factories import make_config, make_epoch, make_predictions, make_sweep, make_trial

from flexres_tune.analysis.answer import answer_of
from flexres_tune.analysis.final import final_run
from flexres_tune.analysis.leaderboard import leaderboards
from flexres_tune.effects.effort import tuning_effort
from flexres_tune.predictions.classes import read_predictions
from flexres_tune.report.data import read_data
from flexres_tune.results import open_results
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter

NONE = {"best_val_accuracy": None, "last_val_accuracy": None, "best_epoch": None}


@pytest.fixture
def results(paths):
    """lr 0.1 wins; it was trained once more on all images, as an earlier winner, 0.2, was."""
    with SweepWriter(paths) as writer:
        for lr, accuracy in ((0.1, 0.90), (0.2, 0.85)):
            for seed in range(3):
                config = make_config(lr=lr, seed=seed)
                writer.add_trial(make_trial(config, best=accuracy + 0.01 * seed), config)
                for split in ("val", "test"):
                    row = make_predictions([[0.9, 0.1]], [0], config.trial_id, split=split)
                    writer.add_predictions([row[0]], [row[1]])
            final = make_config(lr=lr, seed=0, val_split="none")
            writer.add_trial(make_trial(final, best=None, stage="final", test_accuracy=0.98 + lr / 10, **NONE), final)
            row = make_predictions([[0.1, 0.9]], [0], final.trial_id, split="test")
            writer.add_predictions([row[0]], [row[1]])
            writer.add_epoch(make_epoch(final.trial_id, val_accuracy=None, val_loss=None))
    spec = make_sweep(name="demo", parameters={"lr": {"values": [0.1, 0.2]}}, compare="lr")
    write_plan(paths, make_plan(spec, [], "the command", {}))
    return open_results(paths.root)


def test_final_run_is_on_no_board(results):
    (board,) = leaderboards(results)
    assert [(row.parameters, row.num_seeds) for row in board.rows] == [({"lr": 0.1}, 3), ({"lr": 0.2}, 3)]
    assert {row.num_configs for row in tuning_effort(results, "demo", "lr")} == {1}


def test_answer_has_the_test_accuracy_of_the_leaders_final_run(results):
    (board,) = leaderboards(results)
    assert final_run(results, board).row["test_accuracy"] == pytest.approx(0.99)
    sentence = answer_of(results, "demo").sentence
    assert "lr=0.1, trained once more on all training images (seed 0): 99.00 % test accuracy." in sentence
    assert "no interval, and it is not ranked" in sentence
    assert read_data(results, "demo").answer.sentence == sentence


def test_final_run_of_a_former_winner_is_not_shown_as_the_leaders(results, paths):
    with SweepWriter(paths) as writer:
        for seed in range(3):
            config = make_config(lr=0.3, seed=seed)
            writer.add_trial(make_trial(config, best=0.95), config)
    opened = open_results(paths.root)
    (board,) = leaderboards(opened)
    assert board.ranked[0].parameters == {"lr": 0.3} and final_run(opened, board) is None
    assert "trained once more" not in answer_of(opened, "demo").sentence


def test_what_the_final_run_predicts_is_stored_and_compared_with_nothing(results):
    (group,) = read_predictions(results, "demo", "test")
    assert len(group.trials) == 6
    assert results.predictions("demo", ["trial_id"]).num_rows == 14
