import os
from datetime import UTC, datetime

import pytest
from helpers.factories import make_epoch, make_planned, make_predictions, make_trial

from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import TrialConfig
from flexres_tune.sweep.reuse import reuse_rows


@pytest.fixture
def done(tmp_path):
    """Write a trial of sweep `first`; the same trial, planned."""

    def write(status="completed", num_epochs=2, dataset="digits", **changes):
        config = TrialConfig(model="tiny", dataset=dataset, epochs=2)
        with SweepWriter(SweepPaths(tmp_path, "first")) as writer:
            for epoch in range(1, num_epochs + 1):
                writer.add_epoch(make_epoch(config.trial_id, epoch, val_accuracy=0.7, attempt=2))
            writer.add_trial(make_trial(config, status, **changes), config)
        return make_planned(config)

    return write


def test_completed_trial_is_taken_over_with_its_epochs_and_says_where_from(done, tmp_path):
    paths = SweepPaths(tmp_path, "second")
    assert reuse_rows(paths, [done()], "confirm", "laptop", {}) == {"first": 1}
    results = open_results(tmp_path)
    (row,) = results.trials("second").to_pylist()
    assert (row["sweep"], row["reused_from"], row["stage"], row["profile"]) == ("second", "first", "confirm", "laptop")
    assert [(e["sweep"], e["epoch"], e["attempt"]) for e in results.epochs("second").to_pylist()] == [
        ("second", 1, 2),
        ("second", 2, 2),
    ]
    assert results.trials("first")["reused_from"].to_pylist() == [None]


def test_predictions_are_copied_with_their_labels(done, tmp_path):
    trial = done()
    with SweepWriter(SweepPaths(tmp_path, "first")) as writer:
        for split in ("val", "test"):
            row, labels = make_predictions([[0.1, 0.9], [0.8, 0.2]], [1, 1], trial.config.trial_id, split=split)
            writer.add_predictions([row], [labels])
    reuse_rows(SweepPaths(tmp_path, "second"), [trial], "screen", "none", {})
    results = open_results(tmp_path)
    for table in (results.predictions, results.labels):
        copied = [row | {"sweep": "first"} for row in table("second").to_pylist()]
        assert copied == table("first").to_pylist() and len(copied) == 2


def test_sweep_that_ran_it_is_named_through_a_chain(done, tmp_path):
    trial = done()
    reuse_rows(SweepPaths(tmp_path, "a"), [trial], "screen", "none", {})  # "a" is found before "first"
    reuse_rows(SweepPaths(tmp_path, "third"), [trial], "screen", "none", {})
    assert open_results(tmp_path).trials("third")["reused_from"].to_pylist() == ["first"]


@pytest.mark.parametrize("status", ["stopped", "failed", "diverged", "out_of_memory", "interrupted"])
def test_trial_that_did_not_complete_is_run(done, tmp_path, status):
    assert not reuse_rows(SweepPaths(tmp_path, "second"), [done(status)], "screen", "none", {})


def test_trial_whose_curve_has_a_hole_is_run(done, tmp_path):
    assert not reuse_rows(SweepPaths(tmp_path, "second"), [done(num_epochs=1)], "screen", "none", {})
    assert "second" not in open_results(tmp_path).sweeps() or not open_results(tmp_path).trials("second").num_rows


@pytest.mark.parametrize(("age", "reused"), [(-100, True), (100, False)])
def test_images_that_changed_since_are_other_images(done, tmp_path, age, reused):
    images, started_at = tmp_path / "images", datetime(2026, 1, 1, tzinfo=UTC)
    images.mkdir()
    for name in ("train.parquet", "test.parquet"):
        (images / name).write_bytes(b"")
        moment = started_at.timestamp() + age
        os.utime(images / name, (moment, moment))
    trial = done(dataset=f"parquet:{images}", started_at=started_at)
    assert bool(reuse_rows(SweepPaths(tmp_path, "second"), [trial], "screen", "none", {})) == reused


@pytest.mark.parametrize(
    ("precisions", "reused"), [({}, 1), ({"cpu": "fp32"}, 1), ({"cpu": "bf16"}, 0), ({"any device": "bf16"}, 0)]
)
def test_row_of_another_precision_than_this_sweeps_is_not_copied(done, tmp_path, precisions, reused):
    copied = reuse_rows(SweepPaths(tmp_path, "second"), [done(precision_used="fp32")], "screen", "none", precisions)
    assert sum(copied.values(), 0) == reused


def test_new_sweep_copies_rows_of_one_precision_only(tmp_path):
    trials = []
    with SweepWriter(SweepPaths(tmp_path, "first")) as writer:
        for seed, precision in enumerate(["fp32", "bf16", "bf16"]):  # an older version has let trials choose
            config = TrialConfig(model="tiny", dataset="digits", epochs=1, seed=seed)
            writer.add_epoch(make_epoch(config.trial_id, 1))
            writer.add_trial(make_trial(config, precision_used=precision), config)
            trials.append(make_planned(config))
    assert reuse_rows(SweepPaths(tmp_path, "second"), trials, "screen", "none", {}) == {"first": 2}
    assert set(open_results(tmp_path).trials("second")["precision_used"].to_pylist()) == {"bf16"}


def test_a_row_without_a_metric_that_the_sweep_lists_is_run(done, tmp_path):
    paths = SweepPaths(tmp_path, "second")
    assert not reuse_rows(paths, [done()], "screen", "none", {}, ("top5",))
    assert reuse_rows(paths, [done(metrics='{"top5": 0.9, "ece": 0.1}')], "screen", "none", {}, ("top5",)) == {
        "first": 1
    }
