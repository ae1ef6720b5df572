"""The table of all trials, the notes, training against validation, and the sizes that a reader needs."""

import re

import numpy as np
import pytest
from helpers.factories import make_predictions

from flexres_tune.report import trials
from flexres_tune.report.data import read_data
from flexres_tune.report.facts import facts_html
from flexres_tune.report.notes import notes_html
from flexres_tune.report.plots.curves import plot_curves
from flexres_tune.report.plots.effects import plot_effects
from flexres_tune.report.plots.heatmap import plot_heatmap, smallest_span
from flexres_tune.report.plots.overlay import plot_overlay
from flexres_tune.report.sections import report_html
from flexres_tune.results import open_results
from flexres_tune.results.tags import add_tag
from flexres_tune.results.writer import SweepWriter

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def write(paths, make_config, make_trial, make_epoch):
    """Writes [(configuration, value; None for a stopped trial)], four epochs each; the data of the report."""

    def make(*trials, **changes):
        with SweepWriter(paths) as writer:
            for values, value in trials:
                config = make_config(epochs=4, **values)
                for epoch in range(1, 5 if value else 2):
                    reached = (value or 0.2) - 0.01 * (4 - epoch)
                    metrics = {"train_accuracy": reached + 0.05, "val_loss": 1.0 + 0.1 * (epoch - 2) ** 2}
                    writer.add_epoch(make_epoch(config.trial_id, epoch, val_accuracy=reached, **metrics))
                status = "completed" if value else "stopped"
                writer.add_trial(make_trial(config, status, value or 0.2, **changes), config)
        return read_data(open_results(paths.root), "demo")

    return make


def rows_of(html):
    """The texts of the cells of each row."""
    body = html.split("<tbody>")[1].split("</tbody>")[0]
    return [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in body.split("<tr")[1:]]


def test_every_trial_is_a_row_best_first_with_a_key_to_sort_by(write, make_config):
    data = write(({"lr": 0.1}, 0.9), ({"lr": 0.01}, 0.95), ({"lr": 1.0}, None))
    html = trials.trials_html(data)
    assert [row[2] for row in rows_of(html)] == ["0.01", "0.1", "1"]
    assert re.findall(r'data-name="(\w+)"', html) == [
        *("best_val_accuracy", "lr", "seed", "status", "test_accuracy", "epochs_run", "train_seconds", "trial_id")
    ]
    assert 'data-v="0.95">95.0 %' in html
    assert f'data-trial="{make_config(lr=0.01, epochs=4).trial_id}"' in html


def test_curves_of_the_rows_are_in_the_page(write):
    data = write(({"lr": 0.1}, 0.9), ({"lr": 1.0}, None))
    curves = trials.trial_curves(data)
    assert [(name, epochs) for name, epochs, _ in curves.values()] == [
        ("lr=0.1, seed 0", [1, 2, 3, 4]),
        ("lr=1, seed 0", [1]),
    ]
    assert curves[data.trials[0].trial_id][2] == [87.0, 88.0, 89.0, 90.0]
    assert '"lr=0.1, seed 0",[1,2,3,4],[87.0,88.0,89.0,90.0]' in report_html(data, "results")


def test_more_trials_than_a_browser_can_sort_are_left_out_and_counted(write, monkeypatch):
    data = write(({"lr": 0.1}, 0.9), ({"lr": 0.01}, 0.95), ({"lr": 1.0}, None))
    monkeypatch.setattr(trials, "MOST_ROWS", 2)
    html = trials.trials_html(data)
    assert len(rows_of(html)) == 2 and "The 1 trial with worse values, or none, is left out" in html
    assert len(trials.trial_curves(data)) == 2


def test_notes_and_tags_are_shown_as_text(write, paths):
    data = write(({"lr": 0.1}, 0.9))
    assert notes_html(data) == ""
    paths.notes.write_text(f"Try warm-up.\n{HOSTILE}")
    add_tag(paths, data.trials[0].trial_id, f"odd {HOSTILE}")
    add_tag(paths, "gone-0", "of a trial that has no row")
    html = report_html(read_data(open_results(paths.root), "demo"), "results")
    assert "<h2>Notes</h2>" in html and "Try warm-up.\n&lt;script&gt;" in html
    assert html.count("odd &lt;script&gt;alert(1)&lt;/script&gt;") == 2  # among the notes, and in the trial's row
    assert HOSTILE not in html and "that has no row" not in html


def test_training_is_drawn_against_validation_with_the_gap_in_words(write):
    data = write(({"lr": 0.1, "seed": 0}, 0.90), ({"lr": 0.1, "seed": 1}, 0.92), ({"lr": 0.01}, 0.8))
    accuracy, loss = plot_overlay(data)
    assert accuracy.finding == (
        "lr=0.1: training accuracy is 5.0 points above validation accuracy after epoch 4 (96.0 and 91.0 %)"
    )
    assert loss.finding == "lr=0.1: validation loss is lowest after epoch 2, 1, and 1.4 after 2 epochs more"
    assert [trace.name for trace in accuracy.figure.data] == [
        *("1. lr=0.1: training", "1. lr=0.1: validation", "2. lr=0.01: training", "2. lr=0.01: validation")
    ]
    assert list(accuracy.figure.data[1].y) == pytest.approx([88.0, 89.0, 90.0, 91.0])
    assert plot_overlay(write(({"lr": 1.0}, None))) != []  # stopped trials do not lead


def test_epochs_have_whole_ticks(write):
    (plot,) = plot_curves(write(({"lr": 0.1}, 0.9)))
    assert plot.figure.layout.xaxis.dtick == 1


def test_colours_of_a_map_do_not_make_an_effect_of_luck(write):
    grid = [
        ({"lr": lr, "batch_size": size, "seed": seed}, 0.9 + 0.0001 * size + (0.02 if seed else 0))
        for lr in (0.1, 0.01)
        for size in (16, 32)
        for seed in (0, 1)
    ]
    data = write(*grid)
    (plot,) = plot_heatmap(data)
    (trace,) = plot.figure.data
    values = [value for line in trace.z for value in line]
    assert max(values) - min(values) == pytest.approx(0.16)
    assert trace.zmax - trace.zmin == pytest.approx(smallest_span(data, values)) == pytest.approx(4 * 2 / np.sqrt(2))
    assert "The colours span 5.7 points" in " ".join(plot.notes)


def test_interval_that_is_wider_than_the_plot_is_not_drawn(write):
    data = write(*(({"lr": lr, "seed": seed}, 0.90 + 0.03 * seed) for lr in (0.1, 0.01) for seed in (0, 1)))
    (plot,) = plot_effects(data)
    assert set(plot.figure.data[1].error_y.array) == {None}
    assert "No interval is drawn for 0.01, 0.1: from so few runs it is wider than the plot." in plot.notes


def test_facts_have_the_numbers_of_images(write, paths):
    row, labels = make_predictions([[0.7, 0.3]] * 7, [0] * 7)
    with SweepWriter(paths) as writer:
        writer.add_predictions([row], [labels])
    html = facts_html(write(({"lr": 0.1, "num_train_images": 1000}, 0.9)))
    assert "<dt>training images</dt><dd>1,000</dd>" in html and "<dt>validation images</dt><dd>7</dd>" in html
    assert "test images" not in html
