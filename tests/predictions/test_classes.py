"""Accuracy per class, confusion, disagreement, hardest images and ensembles: against scikit-learn and SciPy."""

import numpy as np
import pytest
from helpers.factories import make_config, make_predictions, make_trial
from scipy import stats
from sklearn import metrics

from flexres_tune.errors import ResultsError
from flexres_tune.predictions.behind_leader import interval_words
from flexres_tune.predictions.classes import class_accuracies, confusions, hardest_images, wilson
from flexres_tune.predictions.disagreement import coverage_of, difference_interval, disagreement, mcnemar
from flexres_tune.predictions.ensemble import ensemble_accuracies
from flexres_tune.query.predictions import answer_classes, answer_disagree
from flexres_tune.report.data import read_data
from flexres_tune.report.plots.predictions import plot_predictions
from flexres_tune.results import open_results
from flexres_tune.results.writer import SweepWriter

NUM_IMAGES, NUM_CLASSES = 120, 6


@pytest.fixture
def labels():
    return np.random.default_rng(0).integers(0, NUM_CLASSES, NUM_IMAGES)


@pytest.fixture
def write(paths, labels):
    """Writes trials given as {(lr, seed): (N, classes) probabilities}; returns the results."""

    def make(trials, split="val", subset="fixed"):
        with SweepWriter(paths) as writer:
            for (lr, seed), values in trials.items():
                config = make_config(lr=lr, seed=seed)
                row, images = make_predictions(values, labels, config.trial_id, split=split, subset=subset)
                writer.add_predictions([row], [images])
                writer.add_trial(make_trial(config), config)
        return open_results(paths.root)

    return make


def draw(seed, labels, skill=1.0):
    logits = np.random.default_rng(seed).normal(size=(len(labels), NUM_CLASSES))
    logits[np.arange(len(labels)), labels] += skill
    values = np.exp(logits)
    return values / values.sum(axis=1, keepdims=True)


def config_id(lr):
    return make_config(lr=lr).config_id


def test_accuracy_per_class_is_scikit_learns_recall(write, paths, labels):
    trials = {(lr, seed): draw(round(100 * lr) + seed, labels, skill=10 * lr) for lr in (0.1, 0.2) for seed in (0, 1)}
    rows, varied = class_accuracies(write({k: v for k, v in trials.items()}), paths.sweep, "val")
    assert varied == ["lr"] and len(rows) == 2 * NUM_CLASSES
    assert [row.config_id for row in rows[::NUM_CLASSES]] == [config_id(0.2), config_id(0.1)], "most accurate first"
    for row in rows:
        predicted = [trials[row.parameters["lr"], seed].argmax(axis=1) for seed in (0, 1)]
        recalls = [metrics.recall_score(labels, each, average=None)[row.class_number] for each in predicted]
        assert row.class_accuracy == pytest.approx(np.mean(recalls), abs=1e-9)
        assert row.num_images == (labels == row.class_number).sum() and row.num_seeds == 2
        assert row.class_accuracy_low < row.class_accuracy < row.class_accuracy_high


def test_confusion_is_scikit_learns_summed_over_seeds(write, paths, labels):
    trials = {(0.1, seed): draw(seed, labels) for seed in (0, 1)}
    rows = confusions(write(trials), paths.sweep, config_id(0.1)[:6], "val")
    matrix = np.array([row.count for row in rows]).reshape(NUM_CLASSES, NUM_CLASSES)
    assert (matrix == sum(metrics.confusion_matrix(labels, p.argmax(axis=1)) for p in trials.values())).all()


def test_unknown_configuration_is_named(write, paths, labels):
    results = write({(0.1, 0): draw(0, labels)})
    with pytest.raises(ResultsError, match="'zzzz' must be the beginning of one config_id that has predictions"):
        confusions(results, paths.sweep, "zzzz", "val")
    with pytest.raises(ResultsError, match="no trial has stored what it predicts for test images"):
        confusions(results, paths.sweep, config_id(0.1), "test")


def test_wilson_and_mcnemar_agree_with_scipy_on_random_tables():
    random = np.random.default_rng(1)
    for n in random.integers(1, 2000, 200):
        k, other = (int(x) for x in random.integers(0, n + 1, 2))
        low, high = wilson(k, n)
        expected = stats.binomtest(k, int(n)).proportion_ci(method="wilson")
        assert (float(low), float(high)) == pytest.approx((expected.low, expected.high), abs=1e-9)
        if k + other:
            assert mcnemar(k, other) == pytest.approx(stats.binomtest(k, k + other).pvalue, abs=1e-9)
    assert mcnemar(0, 0) == 1 and np.isnan(wilson(0, 0)).all()


def test_disagreement_counts_images_per_seed(write, paths, labels):
    trials = {(lr, seed): draw(round(100 * lr) + seed, labels) for lr in (0.1, 0.2) for seed in (0, 1)}
    found = disagreement(write(trials), paths.sweep, config_id(0.1), config_id(0.2), "val")
    right = {key: values.argmax(axis=1) == labels for key, values in trials.items()}
    for seed, row in enumerate(found.trials):
        a, b = right[0.1, seed], right[0.2, seed]
        assert row.only_a_right == tuple(np.flatnonzero(a & ~b)) and row.num_only_b_right == (b & ~a).sum()
        assert row.num_both_right + row.num_both_wrong + row.num_only_a_right + row.num_only_b_right == NUM_IMAGES
    assert found.always_a == tuple(
        np.flatnonzero(right[0.1, 0] & right[0.1, 1] & ~right[0.2, 0] & ~right[0.2, 1]).tolist()
    )
    assert found.interval.is_paired and found.interval.difference == pytest.approx(
        np.mean([right[0.1, s].mean() - right[0.2, s].mean() for s in (0, 1)])
    )
    with pytest.raises(ResultsError, match="needs two configurations"):
        disagreement(write(trials), paths.sweep, config_id(0.1), config_id(0.1), "val")


@pytest.mark.parametrize(("seeds", "says"), [((0,), False), ((0, 1), True)])
def test_one_model_each_is_not_said_to_be_always_right(write, paths, labels, seeds, says):
    trials = {(lr, seed): draw(round(100 * lr) + seed, labels) for lr in (0.1, 0.2) for seed in seeds}
    (section,) = answer_disagree(write(trials), paths.sweep, config_id(0.1), config_id(0.2), "val", None).sections
    assert any("always gets right" in note for note in section.notes) == says


def test_notes_do_not_claim_the_seeds_of_the_first_configuration_for_the_others(write, paths, labels):
    """Seeds 0 to 4 of lr 0.1, and 0 and 1 of 0.2."""
    trials = {(0.1, seed): draw(seed, labels, skill=3.0) for seed in range(5)}
    trials |= {(0.2, seed): draw(10 + seed, labels) for seed in range(2)}
    results = write(trials)
    (section,) = answer_classes(results, paths.sweep, "val", None).sections
    assert "mean over 2 to 5 seeds" in section.notes[0]
    classes, _ = plot_predictions(read_data(results, paths.sweep))
    assert "mean over 2 to 5 seeds" in classes.notes[0]


def test_one_seed_says_nothing_about_training_again():
    random = np.random.default_rng(0)
    a, b = random.random((2, 1, 500)) < 0.8
    interval = difference_interval(a.astype(float), b.astype(float), is_paired=False)
    assert interval.seeds is None and interval.seeds_and_images is None and interval.images[0] < interval.images[1]
    words = interval_words(interval, "test")
    assert "with one seed nothing is known about training again" in words


def test_interval_over_seeds_is_the_paired_t_test_and_the_other_is_wider():
    random = np.random.default_rng(0)
    a, b = (random.random((5, 400)) < 0.8 for _ in "ab")
    interval = difference_interval(a.astype(float), b.astype(float), is_paired=True)
    expected = stats.ttest_rel(a.mean(axis=1), b.mean(axis=1)).confidence_interval()
    assert interval.seeds == pytest.approx((expected.low, expected.high), abs=1e-9)
    words = interval_words(interval, "test")
    assert "if we trained again:" in words and "if we trained again and drew other test images:" in words


def test_hardest_images_are_those_that_most_trials_get_wrong(write, paths, labels):
    trials = {(0.1, seed): draw(seed, labels) for seed in range(5)}
    rows = hardest_images(write(trials), paths.sweep, "val", 10)
    wrong = sum(values.argmax(axis=1) != labels for values in trials.values())
    assert [row.num_wrong for row in rows] == sorted(wrong, reverse=True)[:10]
    assert all(row.num_wrong == wrong[row.image] and row.label == labels[row.image] for row in rows)
    counts = np.bincount([values[rows[0].image].argmax() for values in trials.values()], minlength=NUM_CLASSES)
    counts[rows[0].label] = 0
    assert rows[0].often_predicted_share == counts.max() / 5


def test_accuracy_of_an_ensemble_is_between_its_bounds(write, paths, labels):
    trials = {(0.1 + 0.01 * seed, seed): draw(seed, labels, skill=1.5) for seed in range(6)}
    accuracy = {
        make_config(lr=k[0], seed=k[1]).trial_id: (v.argmax(axis=1) == labels).mean() for k, v in trials.items()
    }
    values = {make_config(lr=k[0], seed=k[1]).trial_id: v for k, v in trials.items()}
    rows = ensemble_accuracies(write(trials), paths.sweep, 6, "val")
    order = sorted(accuracy, key=lambda each: (-accuracy[each], each))
    assert [row.added_trial_id for row in rows] == order
    for row in rows:
        mean = np.mean([values[trial_id] for trial_id in order[: row.num_members]], axis=0)
        exact = (mean.argmax(axis=1) == labels).mean()
        assert row.ensemble_accuracy_low <= exact <= row.ensemble_accuracy_high
        assert row.ensemble_accuracy_low <= row.ensemble_accuracy <= row.ensemble_accuracy_high
        assert row.ensemble_accuracy_high - row.ensemble_accuracy_low == pytest.approx(row.num_undecided / NUM_IMAGES)
    assert rows[0].num_undecided == 0 and rows[-1].num_undecided < NUM_IMAGES / 4


def test_row_that_does_not_fit_its_labels_is_left_out(write, paths, labels):
    results = write({(0.1, 0): draw(0, labels), (0.2, 0): draw(1, labels)})
    config = make_config(lr=0.3)
    with SweepWriter(paths) as writer:
        row, _ = make_predictions(draw(2, labels)[:50], labels[:50], config.trial_id)
        writer.add_predictions([row], [])
        writer.add_trial(make_trial(config), config)
    assert {row.parameters["lr"] for row in class_accuracies(results, paths.sweep, "val")[0]} == {0.1, 0.2}


def probit_world(random, num_worlds, num_seeds, num_images, sd_seed=0.15, sd_image=1.0, sd_own=0.4):
    """Correctness of two configurations, (2, worlds, seeds, images), and their true accuracies.

    An answer is right if mean + seed + image + noise > 0: the probability over all is Phi of mean / total sd.
    """
    means = np.array([1.2, 1.1])
    shape = (num_worlds, num_seeds, num_images)
    image = random.normal(size=(num_worlds, 1, num_images)) * sd_image
    right = []
    for mean in means:
        latent = mean + image + random.normal(size=(num_worlds, num_seeds, 1)) * sd_seed
        latent = latent + random.normal(size=(num_worlds, 1, num_images)) * sd_own + random.normal(size=shape)
        right.append(latent > 0)
    truth = stats.norm.cdf(means / np.sqrt(1 + sd_seed**2 + sd_image**2 + sd_own**2))
    return np.array(right, float), truth


@pytest.mark.slow
@pytest.mark.parametrize("num_seeds", [3, 5, 10])
@pytest.mark.parametrize("is_paired", [True, False])
def test_two_level_interval_covers_the_true_difference_if_seeds_and_images_are_drawn_again(num_seeds, is_paired):
    random = np.random.default_rng(num_seeds)
    covered = []
    for _ in range(8):
        (a, b), truth = probit_world(random, 500, num_seeds, 300)
        covered.append(coverage_of(a, b, is_paired, truth[0] - truth[1]))
    seeds, both = np.mean(covered, axis=0)
    print(f"{num_seeds} seeds, paired {is_paired}: seeds only {seeds:.3f}, seeds and images {both:.3f}")
    assert 0.942 < both < 0.968 and seeds < both + 0.005  # 4,000 draws: ± 0.3 %
