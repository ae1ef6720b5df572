"""The tables `predictions` and `labels`: written once, replaced, copied, and one row per image in SQL."""

import numpy as np
import pandas
from helpers.factories import make_predictions

from flexres_tune.results import open_results, parts
from flexres_tune.results.parts import list_parts
from flexres_tune.results.schema import table_schema
from flexres_tune.results.writer import SweepWriter

PROBABILITIES = [[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.25, 0.5, 0.25]]
LABELS = [0, 1, 2]


def write(paths, *trials, is_repeat=False):
    with SweepWriter(paths) as writer:
        for trial_id, probabilities in trials:
            row, labels = make_predictions(probabilities, LABELS[: len(probabilities)], trial_id)
            writer.add_predictions([row], [labels], is_repeat)


def test_predictions_are_read_back_in_float16_precision(paths):
    write(paths, ("a-0", PROBABILITIES))
    (row,) = open_results(paths.root).predictions(paths.sweep).to_pylist()
    assert (row["sweep"], row["trial_id"], row["split"], row["subset"]) == (paths.sweep, "a-0", "val", "fixed")
    assert (row["predicted"], row["second"], row["third"]) == ([0, 2, 1], [1, 1, 0], [2, 0, 2])
    assert row["true_probability"] == [float(np.float16(x)) for x in (0.7, 0.3, 0.25)]


def test_two_classes_have_no_third(paths):
    write(paths, ("a-0", [[0.7, 0.3], [0.4, 0.6]]))
    assert open_results(paths.root).predictions()["third"].to_pylist() == [None]


def test_labels_are_written_once_for_all_trials_and_writers(paths):
    write(paths, ("a-0", PROBABILITIES), ("b-0", PROBABILITIES))
    write(paths, ("c-0", PROBABILITIES))
    assert len(list_parts(paths.table("labels"))[0]) == 1
    assert open_results(paths.root).labels()["label"].to_pylist() == [LABELS]


def test_repeated_predictions_are_skipped_and_computed_ones_replace(paths):
    write(paths, ("a-0", PROBABILITIES))
    write(paths, ("a-0", PROBABILITIES[::-1]), is_repeat=True)
    results = open_results(paths.root)
    assert results.predictions()["predicted"].to_pylist() == [[0, 2, 1]]
    write(paths, ("a-0", PROBABILITIES[::-1]))
    assert results.predictions()["predicted"].to_pylist() == [[1, 2, 0]]
    assert len(pandas.read_parquet(paths.table("predictions"))) == 1, "other programs find it once"


def test_only_the_columns_that_are_asked_for_are_read(paths):
    write(paths, ("a-0", PROBABILITIES))
    results = open_results(paths.root)
    assert results.predictions(columns=["predicted"]).column_names == ["predicted"]
    assert results.predictions().column_names == table_schema("predictions").names


def test_sql_has_one_row_per_image(paths):
    write(paths, ("a-0", PROBABILITIES), ("b-0", PROBABILITIES[::-1]))
    results = open_results(paths.root)
    rows = results.sql("SELECT trial_id, image, label, predicted FROM predictions ORDER BY ALL").to_pylist()
    assert [tuple(row.values()) for row in rows[:3]] == [("a-0", 0, 0, 0), ("a-0", 1, 1, 2), ("a-0", 2, 2, 1)]
    query = "SELECT trial_id, avg((predicted = label)::INT) AS accuracy FROM predictions GROUP BY ALL ORDER BY ALL"
    assert results.sql(query).to_pylist() == [
        {"trial_id": "a-0", "accuracy": 1 / 3},
        {"trial_id": "b-0", "accuracy": 0},
    ]
    joined = "SELECT count(*) AS n FROM predictions JOIN labels USING (dataset)"  # DuckDB cannot name its tables
    assert results.sql(joined).to_pylist() == [{"n": 6}]


def test_pandas_opens_the_folder(paths):
    write(paths, ("a-0", PROBABILITIES))
    frame = pandas.read_parquet(paths.table("predictions")).explode(["predicted", "true_probability"])
    assert list(frame["predicted"]) == [0, 2, 1]


def test_list_that_unpacks_to_too_many_values_is_refused(paths, monkeypatch, caplog):
    write(paths, ("a-0", PROBABILITIES))
    monkeypatch.setattr(parts, "MAX_VALUES", 2)
    assert open_results(paths.root).predictions().num_rows == 0
    assert "must have at most 2 values per column, but has 3" in caplog.text
