import pytest
from helpers.factories import make_epoch, make_trial

from flexres_tune.records import TrialStatus
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.reader import Results
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import Metric, TrialConfig
from flexres_tune.sweep.history import read_history


def config(seed):
    return TrialConfig(model="tiny", dataset="digits", epochs=2, seed=seed)


@pytest.fixture
def paths(tmp_path):
    """Trials 0 completed, 1 failed, 2 killed with its driver after an epoch of its third attempt."""
    paths = SweepPaths(tmp_path, "test")
    with SweepWriter(paths) as writer:
        for seed, status in ((0, "completed"), (1, "failed")):
            for epoch, loss in ((1, 0.4), (2, 0.6)):
                writer.add_epoch(make_epoch(config(seed).trial_id, epoch, val_accuracy=0.7, val_loss=loss))
            record = make_trial(config(seed), status, best=0.7, attempt=seed + 1)
            writer.add_trial(record, config(seed))
        killed = make_epoch(config(2).trial_id, val_accuracy=0.9, val_loss=0.1, attempt=3)
        writer.add_epoch(killed)
    return paths


def test_what_is_missing_is_known_without_reading_epochs(paths, monkeypatch):
    """A sweep of a million epochs with nothing to do must say so at once."""
    monkeypatch.setattr(Results, "epochs", lambda *_: pytest.fail("epochs were read"))
    memory = read_history(paths, Metric())
    assert memory.is_done(config(0).trial_id) and memory.is_done(config(1).trial_id)
    assert not memory.is_done(config(2).trial_id)
    assert memory.scores == {config(0).trial_id: 0.7}


def test_attempts_count_those_that_left_only_epochs(paths):
    attempts = read_history(paths, Metric()).attempts
    assert attempts == {config(0).trial_id: 1, config(1).trial_id: 2, config(2).trial_id: 3}


def test_loss_scores_the_other_way_round(paths):
    assert read_history(paths, Metric(name="val_loss")).scores == {config(0).trial_id: -0.4}


def test_retried_statuses_are_missing_until_they_were_tried(paths):
    retry = (TrialStatus.FAILED,)
    assert not read_history(paths, Metric(), retry=retry).is_done(config(1).trial_id)
    assert read_history(paths, Metric(), retry=retry, tried=[config(1).trial_id]).is_done(config(1).trial_id)


def test_sweep_that_never_ran_remembers_nothing(tmp_path):
    memory = read_history(SweepPaths(tmp_path / "none", "test"), Metric())
    assert (memory.rows, memory.attempts, memory.scores, memory.decisions) == ({}, {}, {}, [])
