"""The report's sections about predictions: classes, confusion matrix and the hardest images."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.factories import make_config, make_predictions, make_trial

from flexres_tune.datasets import load_dataset
from flexres_tune.datasets.pictures import stored_images
from flexres_tune.predictions.classes import wilson
from flexres_tune.report.data import read_data
from flexres_tune.report.hardest import hardest_html
from flexres_tune.report.plots.predictions import plot_predictions
from flexres_tune.report.sections import report_html
from flexres_tune.results import open_results
from flexres_tune.results.writer import SweepWriter


@pytest.fixture
def write(paths):
    def make(dataset="digits", with_predictions=True, num_images=60, wrong=(0.1, 0.2)):
        labels = np.arange(num_images) % 3
        with SweepWriter(paths) as writer:
            for lr, share in zip((0.1, 0.2), wrong, strict=True):
                num_wrong = round(share * num_images)
                config = make_config(lr=lr, dataset=dataset)
                values = np.full((num_images, 3), 0.1)
                values[np.arange(num_images), labels] = 0.8
                values[:num_wrong] = (0.1, 0.1, 0.8)
                row, images = make_predictions(values, labels, config.trial_id, dataset=dataset)
                writer.add_trial(make_trial(config, best=1 - share), config)
                if with_predictions:
                    writer.add_predictions([row], [images])
        return read_data(open_results(paths.root), paths.sweep)

    return make


def test_classes_and_confusion_are_of_the_winner(write):
    classes, confusion = plot_predictions(write())
    assert [bar.name for bar in classes.figure.data] == ["lr=0.1", "lr=0.2"]
    assert list(classes.figure.data[0].x) == [90, 90, 100]
    assert classes.finding == "lr=0.1: no class is shown to be harder than another"  # of 20 images each, 2 are wrong
    assert confusion.finding == (  # class 1 is taken for class 2 as often
        "lr=0.1 takes 10.0 % of the images of class 0 for class 2; 1 other pair of classes with the same share, and none "
        "with a higher one"
    )
    assert np.diag(np.array(confusion.figure.data[0].z)).tolist() == [0, 0, 0]


def test_class_is_called_hard_only_if_its_interval_shows_it(write):
    classes, confusion = plot_predictions(write(num_images=3000, wrong=(0.2, 0.3)))
    assert classes.finding == (
        "lr=0.1 has its highest accuracy on class 2, 100 %, and its lowest on class 0 and 1 more, 80 %"
    )
    assert "takes 20.0 % of the images of class 0 for class 2" in confusion.finding


def predict(paths, labels, predicted):
    """One trial that predicts these classes; the two findings."""
    config = make_config()
    with SweepWriter(paths) as writer:
        row, images = make_predictions(np.eye(max(labels) + 1)[np.asarray(predicted)], labels, config.trial_id)
        writer.add_trial(make_trial(config), config)
        writer.add_predictions([row], [images])
    return [plot.finding for plot in plot_predictions(read_data(open_results(paths.root), paths.sweep))]


def test_extremes_of_equally_hard_classes_are_not_called_hard(paths):
    """Of ten classes of 200 images with the accuracy 80 %, the best and the worst of a draw have intervals apart."""
    right = np.full(10, 160)
    right[3], right[7] = 172, 148
    labels = np.repeat(np.arange(10), 200)
    is_right = np.concatenate([np.arange(200) < count for count in right])
    low, high = wilson(right, np.full(10, 200))
    assert low[3] > high[7]  # but of 45 pairs some two are often that far apart
    classes, _ = predict(paths, labels, np.where(is_right, labels, (labels + 1) % 10))
    assert classes.endswith(": no class is shown to be harder than another")


def test_class_that_is_a_number_is_called_a_class_in_sentences(paths):
    """And its name stays level under the matrix, because it needs no room."""
    config = make_config()
    with SweepWriter(paths) as writer:
        row, images = make_predictions(np.eye(2)[np.arange(200) % 4 // 3], [0] * 100 + [1] * 100, config.trial_id)
        writer.add_trial(make_trial(config), config)
        writer.add_predictions([row], [replace(images, class_names=("0", "8"))])
    classes, confusion = plot_predictions(read_data(open_results(paths.root), paths.sweep))
    assert "highest accuracy on class 0, 75 %, and its lowest on class 8, 25 %" in classes.finding
    assert "of the images of class 8 for class 0" in confusion.finding
    assert confusion.figure.layout.xaxis.tickangle == 0


def test_largest_share_of_a_small_class_is_not_called_the_most_frequent_error(paths):
    """2 of 10 images of class 0 are taken for 1, and 50 of 500 of class 1 for 2."""
    labels = np.repeat([0, 1, 2], [10, 500, 10])
    predicted = labels.copy()
    predicted[:2], predicted[10:60] = 1, 2
    _, confusion = predict(paths, labels, predicted)
    assert "takes 20.0 % of the images of class 0 for class 1, the highest share of any pair" in confusion
    assert "most often" not in confusion


def test_model_without_errors_is_not_said_to_confuse_classes(write):
    classes, confusion = plot_predictions(write(wrong=(0.0, 0.2)))
    assert confusion.finding == "lr=0.1 makes no error on these images"
    assert "no class is shown to be harder" in classes.finding


def test_sweep_without_predictions_has_no_such_section(write):
    data = write(with_predictions=False)
    assert plot_predictions(data) == [] and hardest_html(data) == ""
    assert "Hardest images" not in report_html(data, "results")


def test_hardest_images_are_shown_as_pictures_if_this_machine_has_them(write):
    load_dataset("digits", "cpu")
    page = hardest_html(write())
    assert page.count("data:image/png;base64,") == page.count("<figure") == 8  # wrong: labels 0 and 1 of the first 12
    assert "2 of 2 wrong" in page and "→ class 2 (100&nbsp;%)" in page


def test_image_that_one_of_two_trials_gets_wrong_is_not_said_to_be_wrong_in_most(write):
    page = hardest_html(write(dataset="parquet:/no/such/folder", wrong=(0.0, 0.2)))
    assert "1 of 2 wrong" in page and "images that most trials" not in page and "that the most trials get wrong" in page


def test_hardest_images_are_named_if_the_data_set_is_not_here(write):
    page = hardest_html(write(dataset="parquet:/no/such/folder"))
    assert "<img" not in page and "this machine has not decoded the data set" in page and "<i>0</i>" in page


def test_picture_is_the_image_of_that_number():
    data = load_dataset("digits", "cpu")
    for split, images in (("val", data.val), ("test", data.test)):
        number = int(images.numbers[7])
        assert (stored_images("digits", split, [number])[number] == images.images[7].numpy()).all()
    assert stored_images("digits", "val", [10**6]) == {} == stored_images("./own.py:load", "val", [1])
