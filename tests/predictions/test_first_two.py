"""The two intervals beside the answer: in words, for the trials that count, and only if both are measured alike."""

import numpy as np
import pytest
from helpers.factories import make_config, make_predictions, make_sweep, make_trial

from flexres_tune.analysis.answer import answer_of
from flexres_tune.predictions.disagreement import difference_interval
from flexres_tune.predictions.first_two import first_two
from flexres_tune.query.answers import answer_section
from flexres_tune.query.predictions import answer_classes
from flexres_tune.report.data import read_data
from flexres_tune.report.sections import report_html
from flexres_tune.results import open_results
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter

NUM_IMAGES = 400


@pytest.fixture
def sweep(paths):
    """lr 0.1 is right on 90 % of the images, 0.2 on 80 %, each in the seeds given; all rows of one stage."""

    def make(seeds=(10, 11, 12), stage="confirm", split="test"):
        right = {}
        with SweepWriter(paths) as writer:
            for lr, share in ((0.1, 0.9), (0.2, 0.8)):
                for seed in seeds:
                    is_right = np.random.default_rng([seed, int(10 * lr)]).random(NUM_IMAGES) < share
                    right.setdefault(lr, []).append(is_right)
                    config = make_config(lr=lr, seed=seed)
                    writer.add_trial(make_trial(config, best=share + seed / 1000, stage=stage), config)
                    probabilities = np.where(is_right[:, None], [0.9, 0.1], [0.1, 0.9])
                    rows = make_predictions(probabilities, [0] * NUM_IMAGES, config.trial_id, split=split)
                    writer.add_predictions([rows[0]], [rows[1]])
        spec = make_sweep(name="demo", parameters={"lr": {"values": [0.1, 0.2]}}, compare="lr")
        write_plan(paths, make_plan(spec, [], "the command", {}))
        return open_results(paths.root), {lr: np.array(each, float) for lr, each in right.items()}

    return make


def test_both_intervals_stand_beside_the_answer_and_in_the_report(sweep):
    results, right = sweep()
    answer = answer_of(results, "demo")
    found = first_two(results, answer)
    assert found.interval == difference_interval(right[0.1], right[0.2], is_paired=True)
    assert found.sentence.startswith("On the 400 test images, lr=0.1 less lr=0.2, after the last epoch: +")
    assert "; if we trained again: +" in found.sentence
    assert "; if we trained again and drew other test images: +" in found.sentence
    assert found.sentence in answer_section(results, answer).notes
    assert "if we trained again and drew other test images" in report_html(read_data(results, "demo"), "results")


def test_one_seed_claims_nothing_about_training_again(sweep):
    results, _ = sweep(seeds=(10,))
    sentence = first_two(results, answer_of(results, "demo")).sentence
    assert "with one seed nothing is known about training again" in sentence and "if we trained again" not in sentence


def test_validation_images_are_not_called_test_images(sweep):
    results, _ = sweep(split="val")
    sentence = first_two(results, answer_of(results, "demo")).sentence
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
    found = first_two(results, answer_of(results, "demo"))
    assert found.names == ("lr=0.1", "lr=0.2") and found.interval.num_seeds == (3, 3)


def test_without_predictions_there_is_no_sentence(paths):
    with SweepWriter(paths) as writer:
        for lr in (0.1, 0.2):
            config = make_config(lr=lr)
            writer.add_trial(make_trial(config), config)
    results = open_results(paths.root)
    assert first_two(results, answer_of(results, "demo")) is None


@pytest.mark.parametrize(("at", "says"), [("best", True), ("last", False)])
def test_queries_name_the_best_epoch_only_if_it_ranks(sweep, paths, at, says):
    sweep(split="val")
    write_plan(paths, make_plan(make_sweep(name="demo", metric={"at": at}), [], "the command", {}))
    (section,) = answer_classes(open_results(paths.root), "demo", "val", None).sections
    assert ("the leaderboard has the best epoch" in section.notes[0]) == says
