"""The published rows as data: what each row states, and what each table compares."""

import csv
from importlib.resources import files
from pathlib import Path

import pytest

from flexres_tune.analysis.published import (
    REPORTS,
    published_rows,
    reference_problem,
    references,
    rows_of,
    varied_settings,
)

REFERENCE = Path(__file__).parents[3] / "shared/reference/published_results.csv"


def test_there_are_74_rows_and_their_source():
    assert len(published_rows()) == 74
    sources = (files("flexres_tune.analysis") / "reference" / "SOURCES.md").read_text()
    assert all(report.title in sources for report in REPORTS.values())


@pytest.mark.skipif(not REFERENCE.exists(), reason="the reference table is not beside this checkout")
def test_packaged_rows_equal_the_reference_table():
    packaged = files("flexres_tune.analysis") / "reference" / "published_results.csv"
    ours = [row | {"num_dropouts": None} for row in csv.DictReader(packaged.read_text().splitlines())]
    theirs = [row | {"num_dropouts": None} for row in csv.DictReader(REFERENCE.read_text().splitlines())]
    assert ours == theirs  # num_dropouts is our own column: it repeats a number of `note`


def test_names_that_a_sweep_may_give_are_those_of_the_rows():
    assert {row.reference for row in published_rows()} == set(references())
    assert len(references()) == 19
    assert all(reference_problem(reference) is None for reference in references())


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("flexres/optimiser", "did you mean flexres/optimizer?"),
        ("x", "tables: flexres/best, flexres/long"),
    ],
)
def test_unknown_reference_is_refused(value, message):
    assert message in reference_problem(value)


def test_what_a_report_selected_on_is_that_of_its_rows():
    words = {"test": "test", "val": "validation", "": "not stated"}
    for row in published_rows():
        assert words[row.selected_on] in REPORTS[row.report].selected_on


def test_row_states_what_its_report_states_and_no_more():
    row = rows_of("flexres/optimizer")[0]
    stated = {key: value for key, value in row.settings.items() if key != "model"}
    assert stated == {
        "optimizer": "sgd",
        "lr": 0.1,
        "weight_decay": 5e-4,
        "momentum": 0.9,
        "batch_size": 32,
        "lr_schedule": "constant",
        "augmentation": [],
        "mixup_alpha": 0.0,
        "dropout": [0.0],
    }
    assert (row.epochs, row.test_accuracy, row.num_parameters) == (20, pytest.approx(0.7789), 4_922_826)
    (resnet10, *_) = rows_of("flexres/net")
    assert "augmentation" not in resnet10.settings


def test_rotation_normalisation_and_dropouts_are_read_from_their_words():
    last = rows_of("modified_resnet/augmentation")[-1]
    assert (last.settings["normalize"], last.settings["augmentation"]) == (True, ["crop", "flip", "rotation"])
    assert rows_of("modified_resnet/augmentation")[0].settings["normalize"] is False
    dropouts = [row.settings["dropout"] for row in rows_of("modified_resnet/layers")]
    assert dropouts == [
        [0.0], [0.0], [0.0, 0.0, 0.0], [0.0, 0.2, 0.2], [0.0, 0.4, 0.4], [0.2] * 3, [0.4] * 3, [0.2], [0.2] * 3
    ]  # fmt: skip


def test_what_a_table_is_about_is_what_its_rows_vary():
    assert varied_settings(rows_of("flexres/optimizer")) == ("optimizer",)
    assert varied_settings(rows_of("modified_resnet/layers")) == ("model", "dropout")
    assert varied_settings(rows_of("flexres/best")) == ()
