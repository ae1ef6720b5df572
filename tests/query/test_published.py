"""`query published`: our results next to the published ones, and how a run differs from the report."""

import csv
import io
import json
from datetime import UTC, datetime

import pytest
from helpers.command import invoke

from flexres_tune.errors import ResultsError
from flexres_tune.query.__main__ import app
from flexres_tune.query.published import answer_published
from flexres_tune.query.views import answer_leaderboard
from flexres_tune.records import Versions
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import Plan, write_plan
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import TrialConfig

AS_PUBLISHED = {
    "model": "resnet22_2",
    "dataset": "cifar10",
    "batch_size": 32,
    "lr_schedule": "constant",
    "augmentation": [],
    "epochs": 20,
}


@pytest.fixture
def write(tmp_path, make_trial):
    """Writes a sweep that reproduces a table: rows of (changes to AS_PUBLISHED, changes to the record)."""

    def write(rows, sweep="flexres-optimizer", reproduces="flexres/optimizer"):
        paths = SweepPaths(tmp_path / "results", sweep)
        with SweepWriter(paths) as writer:
            for changes, record in rows:
                config = TrialConfig.model_validate(AS_PUBLISHED | changes)
                row = {"profile": "none", "num_parameters": 4_922_826, "best": 0.8, "sweep": sweep} | record
                writer.add_trial(make_trial(config, **row), config)
        now = datetime(2026, 1, 2, tzinfo=UTC)
        spec = {"reproduces": reproduces} if reproduces else {}
        write_plan(paths, Plan(sweep, "", "none", "run", 0, (), 0, now, Versions(), "here", 1, spec))
        return open_results(tmp_path / "results")

    return write


def lines(answer, **wanted):
    return [row for row in answer.table.to_pylist() if wanted.items() <= row.items()]


def test_nothing_run_shows_every_row_as_not_run():
    rows = answer_published(None, None, None).table.to_pylist()
    assert len(rows) == 74
    assert {row["run"] for row in rows} == {"not run"}
    assert {row["our_test_accuracy_mean"] for row in rows} == {None}
    flexres = [row for row in rows if row["report"] == "flexres"]
    assert {row["selected_on"] for row in flexres} == {"best on test"}


def test_ours_stands_beside_theirs_with_the_difference_and_what_each_was_selected_on(write):
    results = write([({"optimizer": "adadelta"}, {"best": 0.87})])
    answer = answer_published(results, "flexres-optimizer", None)
    assert answer.table.num_rows == 5
    assert len(lines(answer, run="not run")) == 4
    (row,) = lines(answer, optimizer="adadelta")
    assert (row["run"], row["conditions"]) == ("as published", None)
    assert (row["test_accuracy"], row["our_test_accuracy_mean"]) == (pytest.approx(0.8431), pytest.approx(0.85))
    assert row["our_val_accuracy_mean"] == pytest.approx(0.87)
    assert row["test_difference_points"] == pytest.approx(0.69)
    assert (row["num_parameters"], row["our_num_parameters"], row["epochs"], row["our_epochs"]) == (
        *(4_922_826, 4_922_826),
        *(20, 20),
    )
    assert (row["selected_on"], row["our_selected_on"]) == ("best on test", "last epoch")


def test_seeds_are_averaged_with_their_spread(write):
    results = write([({"optimizer": "adagrad", "seed": seed}, {"best": 0.8 + seed / 50}) for seed in range(3)])
    (row,) = lines(answer_published(results, None, None), optimizer="adagrad", experiment="optimizer")
    assert (row["our_num_seeds"], row["our_val_accuracy_mean"]) == (3, pytest.approx(0.82))
    assert row["our_test_accuracy_sd"] == pytest.approx(0.02)


def test_other_conditions_are_named_on_the_row_and_below_the_table(write):
    data = {"model": "small", "dataset": "parquet:images", "num_train_images": 10_000, "epochs": 5}
    results = write([({"optimizer": "sgd", **data}, {"profile": "cpu", "num_parameters": 78_042})])
    answer = answer_published(results, None, None)
    (row,) = lines(answer, optimizer="sgd", experiment="optimizer", report="flexres")
    conditions = "profile cpu; parquet:images; 10,000 training images; model small; 5 epochs"
    assert (row["run"], row["conditions"]) == ("otherwise", conditions)
    assert row["our_num_parameters"] == 78_042
    (section,) = [section for section in answer.sections if section.title.startswith("flexres/optimizer")]
    assert section.table["run"].to_pylist()[0] == "otherwise [a]"
    assert f"[a] differs from the report: {conditions}" in section.notes
    assert any("best epoch on the test set; ours:" in note for note in section.notes)


@pytest.mark.parametrize(
    ("dataset", "is_compared"),
    [("digits", False), ("mnist", False), ("cifar100", False), ("cifar10", True), ("parquet:images", True)],
)
def test_difference_is_taken_on_images_that_may_be_those_of_the_report(write, dataset, is_compared):
    data = {"model": "tiny", "dataset": dataset}
    results = write([({"optimizer": "sgd", **data}, {"profile": "laptop"})])
    (row,) = lines(answer_published(results, None, None), optimizer="sgd", experiment="optimizer", report="flexres")
    assert row["our_test_accuracy_mean"] is not None
    assert (row["test_difference_points"] is not None) == is_compared
    assert dataset == "cifar10" or dataset in row["conditions"]


def test_run_as_published_stands_before_a_run_otherwise(write):
    results = write([({"optimizer": "sgd", "epochs": 5}, {"profile": "cpu"}), ({"optimizer": "sgd"}, {})])
    rows = lines(answer_published(results, "flexres-optimizer", None), optimizer="sgd")
    assert [row["run"] for row in rows] == ["as published", "otherwise"]


def test_trial_that_did_not_end_well_says_how_and_has_no_accuracy(write):
    record = {"status": "diverged", "best": None}
    results = write([({"optimizer": "adam"}, record)])
    (row,) = lines(answer_published(results, None, None), optimizer="adam", experiment="optimizer", report="flexres")
    assert (row["run"], row["our_val_accuracy_mean"], row["our_selected_on"]) == ("diverged", None, None)


def test_stand_ins_for_other_models_are_no_rows_of_the_table(write):
    shape = {"blocks": [1, 1], "channels": [8, 16]}
    results = write([({"optimizer": "adadelta", "model": shape}, {"profile": "laptop"})], "flexres-net", "flexres/net")
    answer = answer_published(results, "flexres-net", None)
    assert {row["run"] for row in answer.table.to_pylist()} == {"not run"}
    assert any("replace the report's: 1 of profile laptop" in note for note in answer.sections[0].notes)


def test_run_shorter_than_the_epoch_that_was_read_is_not_as_published(write):
    settings = {"model": "baseline", "optimizer": "adamw", "lr": 0.01, "batch_size": 128, "epochs": 40}
    settings |= {"augmentation": ["crop", "flip", "rotation"]}
    rows = [(settings, {}), (settings | {"epochs": 30}, {})]
    results = write(rows, "modified_resnet-lr_wd", "modified_resnet/lr_wd")
    found = lines(answer_published(results, "modified_resnet-lr_wd", None), lr=0.01, weight_decay=5e-4)
    assert [(row["epochs"], row["our_epochs"], row["conditions"]) for row in found] == [
        (34, 40, None),
        (34, 30, "30 epochs"),
    ]


def test_sweep_that_names_no_table_is_refused(write):
    results = write([({}, {})], "plain", None)
    with pytest.raises(ResultsError, match="'plain' reproduces no published table"):
        answer_published(results, "plain", None)
    with pytest.raises(ResultsError, match="no sweep 'plane'; did you mean plain"):
        answer_published(results, "plane", None)


def test_leaderboard_names_the_reference(write):
    results = write([({"optimizer": "sgd"}, {})])
    (section,) = answer_leaderboard(results, "flexres-optimizer", None).sections
    (note,) = [note for note in section.notes if note.startswith("reproduces")]
    assert 'table "optimizer" of "FlexRes: Flexible ResNet with Reduced Parameters"' in note
    assert "best epoch on the test set" in note and "query published --sweep flexres-optimizer" in note


def test_misspelt_reference_is_reported_by_the_query_and_the_leaderboard(write):
    results = write([({}, {})], "typo", "flexres/optimiser")
    with pytest.raises(
        ResultsError, match="typo: reproduces must be a published table.* did you mean flexres/optimizer"
    ):
        answer_published(results, "typo", None)
    assert answer_published(results, None, 1).sections
    notes = answer_leaderboard(results, "typo", None).sections[0].notes
    assert [note for note in notes if "did you mean flexres/optimizer?" in note]


def test_leaderboard_of_another_sweep_names_none(write):
    results = write([({}, {})], "plain", None)
    notes = answer_leaderboard(results, "plain", None).sections[0].notes
    assert not [note for note in notes if "reproduces" in note]


def query(*args):
    done = invoke(app, "published", *args)
    assert done.exit_code == 0, done.output
    return done.stdout


def test_command_prints_every_format(write, tmp_path):
    write([({"optimizer": "sgd"}, {})])
    args = ["--results", tmp_path / "results", "--sweep", "flexres-optimizer"]
    assert "flexres/optimizer: table" in query(*args)
    assert len(list(csv.DictReader(io.StringIO(query(*args, "--format", "csv"))))) == 5
    assert json.loads(query(*args, "--format", "json"))[0]["run"] == "as published"
    assert query(*args, "--format", "markdown").count("\n") == 7


def test_command_needs_no_results_folder(tmp_path):
    assert query("--results", tmp_path / "none").count("not run") == 74
