import pytest
from helpers.factories import make_epoch, make_trial

from flexres_tune.records import TrialStatus
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.reader import Results
from flexres_tune.results.writer import SweepWriter
from flexres_tune.search.base import History
from flexres_tune.spec import SweepSpec, TrialConfig
from flexres_tune.sweep.history import read_history, read_reports


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


def spec(**changes):
    return SweepSpec.model_validate({"name": "test"} | changes)


def test_what_is_missing_is_known_without_reading_epochs(paths, monkeypatch):
    """A sweep of a million epochs with nothing to do must say so at once."""
    monkeypatch.setattr(Results, "epochs", lambda *_: pytest.fail("epochs were read"))
    history = read_history(paths, spec())
    assert history.is_done(config(0).trial_id) and history.is_done(config(1).trial_id)
    assert not history.is_done(config(2).trial_id)
    assert {trial_id: past.score for trial_id, past in history.trials.items()} == {
        config(0).trial_id: 0.7,
        config(1).trial_id: None,
    }
    loss = spec(metric={"name": "val_loss"})
    assert read_history(paths, loss, with_scores=False).trials[config(0).trial_id].score is None


def test_attempts_count_those_that_left_only_epochs(paths):
    reports = read_reports(paths, spec().metric)
    assert reports.num_attempts(read_history(paths, spec())) == {
        config(0).trial_id: 1,
        config(1).trial_id: 2,
        config(2).trial_id: 3,
    }


def test_score_at_the_last_epoch_is_read_for_both_metrics(paths):
    accuracy, loss = (
        read_history(paths, spec(metric={"name": name, "at": "last"})).trials[config(0).trial_id]
        for name in ("val_accuracy", "val_loss")
    )
    assert accuracy.score == accuracy.val_accuracy == pytest.approx(0.69)  # make_trial: 0.01 below the best epoch
    assert loss.score == -0.6


def test_loss_scores_the_other_way_round(paths):
    history = read_history(paths, spec(metric={"name": "val_loss"}))
    assert history.trials[config(0).trial_id].score == -0.4


def test_retried_statuses_are_missing_until_they_were_tried(paths):
    retry = (TrialStatus.FAILED,)
    assert not read_history(paths, spec(), retry=retry).is_done(config(1).trial_id)
    assert read_history(paths, spec(), retry=retry, tried=[config(1).trial_id]).is_done(config(1).trial_id)


def test_values_of_a_tpe_sweep_are_those_of_its_parameters(paths):
    tpe = spec(
        method="tpe", num_trials=1, base={"model": "tiny"},
        parameters=[{"lr": {"min": 0.1, "max": 0.2}, "model.channels": {"values": [[8, 8], [16, 16]]}}],
    )  # fmt: skip
    assert read_history(paths, tpe).trials[config(0).trial_id].values == {
        "lr": config(0).lr,
        "model.channels": list(config(0).model.channels),
    }


def test_values_of_several_mappings_are_those_of_all_their_parameters(paths):
    parts = [{"lr": {"min": 0.1, "max": 0.2}}, {"model.width": {"values": [8, 16]}}]
    tpe = spec(method="tpe", num_trials=2, base={"model": "tiny"}, parameters=parts)
    values = read_history(paths, tpe).trials[config(0).trial_id].values
    assert values == {"lr": config(0).lr, "model.width": None}, "no row has a value of an own model"


def test_sweep_that_never_ran_has_no_history(tmp_path):
    paths = SweepPaths(tmp_path / "none", "test")
    reports = read_reports(paths, spec().metric)
    assert read_history(paths, spec()) == History()
    assert (reports.epochs.num_rows, reports.decisions, reports.num_attempts(History())) == (0, (), {})


def test_paused_trial_is_not_done_and_its_scores_end_with_its_row(paths):
    with SweepWriter(paths) as writer:
        writer.add_trial(make_trial(config(3), "paused", best=0.5), config(3))
        for epoch, loss in ((1, 0.5), (2, 0.25), (3, float("nan"))):
            writer.add_epoch(make_epoch(config(3).trial_id, epoch, val_loss=loss))
    history = read_history(paths, spec(metric={"name": "val_loss"}), with_curves=True)
    past = history.trials[config(3).trial_id]
    assert (past.status, past.is_done, past.scores) == (TrialStatus.PAUSED, False, {1: -0.5})
