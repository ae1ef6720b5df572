"""Many trials at once: no row is lost or doubled, and never more trials run than there are slots."""

import pytest
from helpers.witness import most_at_once, run_witnesses

from flexres_tune.results import open_results
from flexres_tune.spec import Resources

pytestmark = pytest.mark.cluster

NUM_SLOTS, NUM_TRIALS = 64, 300


def test_64_trials_at_once_of_300(tmp_path):
    from flexres_tune.bench.driver.fake_cluster import fake_cluster

    with fake_cluster([(NUM_SLOTS / 4, 0)] * 4) as cluster:  # 64 processes take minutes to start on two cores
        share, notes = run_witnesses(cluster, tmp_path, Resources(cpu=1, gpu=0), NUM_TRIALS, patience_s=600)
    assert share.num_concurrent == NUM_SLOTS
    assert len(notes) == NUM_TRIALS
    assert len({note["node"] for note in notes}) == 4
    assert most_at_once(notes) == NUM_SLOTS
    results = open_results(tmp_path / "results")
    rows = results.trials("witness").to_pylist()
    assert sorted(row["seed"] for row in rows) == list(range(NUM_TRIALS)), "one row per trial"
    assert {(row["status"], row["attempt"]) for row in rows} == {("completed", 1)}
    epochs = results.epochs("witness").to_pylist()
    assert sorted(row["trial_id"] for row in epochs) == sorted(row["trial_id"] for row in rows)
