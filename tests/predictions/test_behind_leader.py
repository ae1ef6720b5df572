"""The two intervals of each level: in words, for the trials that count, and only if both are measured alike."""

import numpy as np
import pytest
from helpers.factories import make_config, make_epoch, make_predictions, make_sweep, make_trial

from flexres_tune.analysis.answer import answer_of
from flexres_tune.predictions.behind_leader import behind_leader
from flexres_tune.predictions.disagreement import difference_interval, disagreement
from flexres_tune.query.answers import answer_answer, behind_section
from flexres_tune.query.evidence import answer_compare
from flexres_tune.query.predictions import answer_classes
from flexres_tune.report.board import answer_html
from flexres_tune.report.data import read_data
from flexres_tune.report.sections import report_html
from flexres_tune.results import open_results
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter

NUM_IMAGES = 400
BASE = {"model": "tiny", "dataset": "digits"}  # of make_config()


@pytest.fixture
def sweep(paths):
    """lr 0.1 is right on 90 % of the images, 0.2 on 80 %, each in the seeds given; all rows of one stage."""

    def make(seeds=(10, 11, 12), stage="confirm", split="test", shares=(0.9, 0.8), **changes):
        right = {}
        with SweepWriter(paths) as writer:
            for lr, share in zip((0.1, 0.2, 0.3, 0.4), shares, strict=False):
                for seed in seeds:
                    is_right = np.random.default_rng([seed, int(10 * lr)]).random(NUM_IMAGES) < share
                    right.setdefault(lr, []).append(is_right)
                    config = make_config(lr=lr, seed=seed)
                    writer.add_epoch(make_epoch(config.trial_id, 1, val_loss=1 - share))
                    writer.add_trial(make_trial(config, best=share + seed / 1000, stage=stage), config)
                    probabilities = np.where(is_right[:, None], [0.9, 0.1], [0.1, 0.9])
                    rows = make_predictions(probabilities, [0] * NUM_IMAGES, config.trial_id, split=split)
                    writer.add_predictions([rows[0]], [rows[1]])
        values = [0.1, 0.2, 0.3, 0.4][: len(shares)]
        spec = make_sweep(**{"name": "demo", "parameters": {"lr": {"values": values}}, "compare": ["lr"]} | changes)
        write_plan(paths, make_plan(spec, [], "the command", {}))
        return open_results(paths.root), {lr: np.array(each, float) for lr, each in right.items()}

    return make


def test_both_intervals_stand_beside_the_answer_and_in_the_report(sweep):
    results, right = sweep()
    answer = answer_of(results, "demo")
    [found] = behind_leader(results, answer)
    assert found.interval == difference_interval(right[0.1], right[0.2], is_paired=True)
    assert found.sentence.startswith("On the 400 test images, accuracy of lr=0.1 less lr=0.2, after the last epoch: +")
    assert "; if we trained again: +" in found.sentence
    assert "; if we trained again and drew other test images: +" in found.sentence
    [row] = behind_section([found])[0].table.to_pylist()
    low, high = (100 * end for end in found.interval.seeds_and_images)
    assert row["configuration"] == "lr=0.2" and row["and_on_other_images"] == f"{low:.2f} to {high:.2f}"
    assert (row["images"], row["num_seeds"]) == ("400 test", "3") and "these_models_on_others" not in row
    assert "if we trained again and drew other test images" in report_html(read_data(results, "demo"), "results")


@pytest.mark.parametrize("split", ["test", "val"])
def test_each_level_has_the_intervals_that_disagree_gives_for_it_and_the_leader(sweep, split):
    results, _ = sweep(split=split, shares=(0.9, 0.8, 0.85))
    answer = answer_of(results, "demo")
    levels = {row.config_id: row.parameters["lr"] for row in answer.rows}
    found = behind_leader(results, answer)
    assert [levels[each.config_id] for each in found] == [0.3, 0.2]
    leader = answer.rows[0].config_id
    for each in found:
        assert each.split == split
        assert each.interval == disagreement(results, "demo", leader, each.config_id, split).interval
    printed = answer_answer(results, "demo", None)
    rows = {row["lr"]: row for row in printed.table.to_pylist()}
    for each in found:
        row, interval = rows[levels[each.config_id]], each.interval
        assert (row["images_split"], row["num_images"]) == (split, NUM_IMAGES)
        assert row["behind_on_images"] == interval.difference
        assert (row["trained_again_low"], row["trained_again_high"]) == interval.seeds
        assert (row["other_images_low"], row["other_images_high"]) == interval.seeds_and_images
    levels_section, distances = printed.sections
    assert not any("trained again" in note for note in levels_section.notes)
    assert [row["configuration"] for row in distances.table.to_pylist()] == ["lr=0.3", "lr=0.2"]
    assert rows[0.1]["images_split"] is None and rows[0.1]["behind_on_images"] is None


def test_query_compare_says_the_same_of_the_parameter_that_the_sweep_compares(sweep):
    results, _ = sweep(shares=(0.9, 0.8, 0.85))
    [expected] = behind_section(behind_leader(results, answer_of(results, "demo")))
    _, found = answer_compare(results, "demo", "lr", None, None).sections
    assert found.table.equals(expected.table) and found.table.num_rows == 2


def test_report_has_the_intervals_of_each_level_in_the_table_of_the_answer(sweep):
    results, _ = sweep(shares=(0.9, 0.8, 0.85))
    data = read_data(results, "demo")
    page = answer_html(data)
    assert "behind on test images</th>" in page and "and on other test images</th>" in page
    for each in data.behind:
        low, high = (100 * end for end in each.interval.seeds_and_images)
        assert f"<td>{100 * each.interval.difference:.2f}</td>" in page and f"<td>{low:.2f} to {high:.2f}</td>" in page
    assert "if we trained again and drew other images too" in page


def test_levels_of_one_seed_have_a_difference_and_no_interval(sweep):
    results, _ = sweep(seeds=(10,), shares=(0.9, 0.8, 0.85))
    rows = answer_answer(results, "demo", None).table.to_pylist()
    assert [row["behind_on_images"] is None for row in rows] == [True, False, False]
    assert all(row["trained_again_low"] is None and row["other_images_high"] is None for row in rows)


def test_sweep_without_predictions_has_no_such_columns_in_its_report(paths):
    with SweepWriter(paths) as writer:
        for lr in (0.1, 0.2):
            config = make_config(lr=lr)
            writer.add_trial(make_trial(config), config)
    spec = make_sweep(name="demo", parameters={"lr": {"values": [0.1, 0.2]}}, compare="lr")
    write_plan(paths, make_plan(spec, [], "the command", {}))
    assert "trained again" not in answer_html(read_data(open_results(paths.root), "demo"))


def test_baseline_is_compared_as_well_without_levels(sweep):
    """lr 0.2 is the last of three and the baseline; the second one is lr 0.3."""
    results, _ = sweep(shares=(0.9, 0.8, 0.85), compare=[], baseline={"lr": 0.2}, base=BASE)
    answer = answer_of(results, "demo")
    assert [each.names for each in behind_leader(results, answer)] == [("lr=0.1", "lr=0.3"), ("lr=0.1", "lr=0.2")]
    assert "lr=0.1 less lr=0.2" in report_html(read_data(results, "demo"), "results")


def test_one_seed_claims_nothing_about_training_again(sweep):
    results, _ = sweep(seeds=(10,))
    sentence = behind_leader(results, answer_of(results, "demo"))[0].sentence
    assert "with one seed nothing is known about training again" in sentence and "if we trained again" not in sentence
    _, distances = answer_answer(results, "demo", None).sections
    [row] = distances.table.to_pylist()
    assert "if_trained_again" not in row and " to " in row["these_models_on_others"]
    assert "with one seed nothing is known about training again" in distances.notes


def test_difference_of_accuracies_is_called_so_if_the_loss_ranks(sweep):
    results, _ = sweep(metric={"name": "val_loss"})
    for each in behind_leader(results, answer_of(results, "demo")):
        assert "test images, accuracy of lr=0." in each.sentence


def test_validation_images_are_not_called_test_images(sweep):
    results, _ = sweep(split="val")
    sentence = behind_leader(results, answer_of(results, "demo"))[0].sentence
    assert "other validation images" in sentence and "test images" not in sentence


def test_a_screened_configuration_is_not_compared_with_a_confirmed_one(sweep, paths):
    results, _ = sweep()
    with SweepWriter(paths) as writer:
        for lr in (0.1, 0.2, 0.3):
            config = make_config(lr=lr, seed=0)
            writer.add_trial(make_trial(config, best=0.99), config)
            rows = make_predictions([[0.1, 0.9]] * NUM_IMAGES, [0] * NUM_IMAGES, config.trial_id, split="test")
            writer.add_predictions([rows[0]], [rows[1]])
    results = open_results(paths.root)
    [found] = behind_leader(results, answer_of(results, "demo"))
    assert found.names == ("lr=0.1", "lr=0.2") and found.interval.num_seeds == (3, 3)


def test_without_predictions_there_is_no_sentence(paths):
    with SweepWriter(paths) as writer:
        for lr in (0.1, 0.2):
            config = make_config(lr=lr)
            writer.add_trial(make_trial(config), config)
    results = open_results(paths.root)
    assert behind_leader(results, answer_of(results, "demo")) == []


@pytest.mark.parametrize(("at", "says"), [("best", True), ("last", False)])
def test_queries_name_the_best_epoch_only_if_it_ranks(sweep, paths, at, says):
    sweep(split="val")
    write_plan(paths, make_plan(make_sweep(name="demo", metric={"at": at}), [], "the command", {}))
    (section,) = answer_classes(open_results(paths.root), "demo", "val", None).sections
    assert ("the leaderboard has the best epoch" in section.notes[0]) == says
