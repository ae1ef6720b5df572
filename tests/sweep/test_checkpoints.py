"""Checkpoints: which are kept, how large they are, how often they are written."""

from dataclasses import dataclass, replace

import pytest
from helpers.factories import VERSIONS, make_config, make_metrics, make_planned, make_sweep

from flexres_tune.records import TrialStatus
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from flexres_tune.search.base import History
from flexres_tune.spec import Metric, TrialConfig
from flexres_tune.spec.trial import OPTIMIZER_NAMES
from flexres_tune.storage import list_folder, temporary_path
from flexres_tune.sweep.checkpoints import (
    KEPT,
    KEPT_WHILE_RUNNING,
    CheckpointRetention,
    checkpoint_bytes,
    checkpoint_period_s,
    describe_disk,
)
from flexres_tune.sweep.history import read_history, read_reports
from flexres_tune.sweep.journal import Journal
from flexres_tune.sweep.worker import TrialFacts, TrialReport


@dataclass(frozen=True)
class Record:
    trial_id: str
    config_id: str
    stage: str = "screen"
    status: str = "completed"
    score: float | None = 0.5


@dataclass
class State:
    """A trial of this run that has ended, whose value of any metric is that of its record."""

    record: Record | None

    def score(self, metric):
        return self.record.score


@pytest.fixture
def paths(tmp_path):
    paths = SweepPaths(tmp_path, "demo")
    paths.checkpoints.mkdir(parents=True)
    return paths


def end(retention, paths, record):
    paths.checkpoint(record.trial_id).touch()
    retention.update(State(record))


def remaining(paths):
    return {path.stem for path in paths.checkpoints.glob("*.pt")}


def record(config, seed=0, score=0.5, **values):
    return replace(Record(f"c{config}-{seed}", f"c{config}", score=score), **values)


def keep(paths, rows=None):
    """The retention of a sweep that ranks by validation accuracy, with records of earlier runs."""
    rows = rows or {}
    return CheckpointRetention(paths, Metric(), rows, {trial_id: row.score for trial_id, row in rows.items()})


@pytest.mark.parametrize(
    ("metric", "kept"),
    [
        ({"name": "val_accuracy"}, {3, 4, 5}),
        ({"name": "val_loss"}, {0, 1, 2}),
        ({"name": "val_loss", "at": "last"}, {2, 3, 4}),
    ],
)
@pytest.mark.parametrize("is_past", [False, True])
def test_checkpoints_are_kept_of_what_the_metric_ranks_first(paths, metric, kept, is_past):
    """Of six trials the last has the highest accuracy, the first the lowest loss, and the fourth the lowest last loss."""
    spec, states = make_sweep(name="demo", metric=metric), []
    with SweepWriter(paths) as writer:
        journal = Journal(spec, writer, VERSIONS, None)
        for k in range(6):
            state = journal.start(make_planned(make_config(lr=0.01 * (k + 1), epochs=2)), 1)
            for epoch, loss in enumerate((0.1 * (k + 1), 1.0 + abs(k - 3)), 1):
                measured = make_metrics(epoch, val_accuracy=0.1 * (k + 1), val_loss=loss)
                status = TrialStatus.COMPLETED if epoch == 2 else None
                journal.add(state.trial_id, TrialReport(measured, TrialFacts(), status))
            journal.finish(state.trial_id)
            states.append(state)
    for state in states:
        paths.checkpoint(state.trial_id).touch()
    history = read_history(paths, spec, with_scores=False) if is_past else History()
    retention = CheckpointRetention(
        paths, spec.metric, history.trials, read_reports(paths, spec.metric).scores(history, spec.metric)
    )
    for state in () if is_past else states:
        retention.update(state)
    retention.close()
    assert remaining(paths) == {states[k].trial_id for k in kept}


def test_best_three_configurations_of_each_stage_keep_their_best_seed(paths):
    retention = keep(paths)
    for config in range(20):
        for seed in (0, 1):
            end(retention, paths, record(config, seed, 0.5 + 0.01 * config + 0.001 * seed))
    for config in range(5):
        end(retention, paths, record(config, 10, 0.9 - 0.01 * config, stage="confirm"))
    assert len(remaining(paths)) == 2 * KEPT_WHILE_RUNNING + 5
    retention.close()
    assert KEPT == 3 and remaining(paths) == {"c19-1", "c18-1", "c17-1", "c0-10", "c1-10", "c2-10"}


def test_a_late_seed_that_lifts_a_configuration_is_kept(paths):
    retention = keep(paths)
    for config in range(KEPT_WHILE_RUNNING):
        end(retention, paths, record(config, 0, 0.6))
    end(retention, paths, record(99, 0, 0.55))
    assert "c99-0" not in remaining(paths)
    end(retention, paths, record(99, 1, 0.9))
    retention.close()
    assert "c99-1" in remaining(paths)


@pytest.mark.parametrize("status", ["stopped", "failed", "diverged", "out_of_memory"])
def test_trials_that_did_not_complete_leave_no_checkpoint(paths, status):
    retention = keep(paths)
    end(retention, paths, record(1, status=status, score=0.99))
    assert remaining(paths) == set()


def test_trial_that_will_be_resumed_keeps_its_checkpoint(paths):
    retention = keep(paths)
    end(retention, paths, record(1, status="interrupted"))
    end(retention, paths, record(2))
    retention.update(State(None))
    retention.close()
    assert remaining(paths) == {"c1-0", "c2-0"}


def test_configuration_with_a_stopped_seed_comes_after_whole_ones(paths):
    retention = keep(paths)
    for config in range(3):
        end(retention, paths, record(config))
    end(retention, paths, record(9, 0, 0.99))
    end(retention, paths, record(9, 1, status="stopped"))
    retention.close()
    assert remaining(paths) == {"c0-0", "c1-0", "c2-0"}


def test_earlier_runs_are_ranked_too(paths):
    rows = {f"c{k}-0": record(k, score=0.9 + 0.01 * k) for k in range(4)}
    for trial_id in rows:
        paths.checkpoint(trial_id).touch()
    retention = keep(paths, rows)
    end(retention, paths, record(7, 0, 0.1))
    retention.close()
    assert remaining(paths) == {"c1-0", "c2-0", "c3-0"}


def test_on_object_storage_only_existing_files_are_deleted_and_a_server_that_is_down_gets_one_request(bucket):
    paths = SweepPaths("s3://bucket/results", "demo")
    for config in range(KEPT_WHILE_RUNNING):
        paths.checkpoint(f"c{config}-0").touch()
    rows = {f"c{config}-0": record(config, 0, 0.5 + config / 100) for config in range(50)}
    retention = keep(paths, rows)
    bucket.go_away()
    before = bucket.num_requests
    retention.close()
    assert bucket.num_requests == before + 1
    bucket.come_back()
    retention.close()
    assert list(list_folder(paths.checkpoints)) == []
    assert bucket.num_requests <= before + 1 + KEPT_WHILE_RUNNING + 1, "50 trials, ten files"


def test_temporary_files_of_killed_processes_are_deleted(paths):
    def leave_torn():
        torn = temporary_path(paths.checkpoint("c1-0"))
        torn.write_bytes(b"half a checkpoint")
        return torn

    paths.checkpoint("c1-0").touch()
    torn = leave_torn()
    retention = keep(paths)
    assert not torn.exists() and remaining(paths) == {"c1-0"}, "of the driver before"
    torn = leave_torn()
    retention.close()
    assert not torn.exists(), "of a trial of this one"


def make_trial(optimizer="sgd", seed=0, **values):
    config = TrialConfig(model="tiny", dataset="digits", optimizer=optimizer, epochs=10, seed=seed, **values)
    return make_planned(config)


def test_estimated_size_of_a_checkpoint_is_about_the_real_one(tmp_path):
    import torch

    from flexres_tune.training import choose_execution
    from flexres_tune.training.checkpoint import save_checkpoint
    from flexres_tune.training.state import TrainState

    for optimizer in OPTIMIZER_NAMES:
        planned = make_trial(optimizer)
        state = TrainState(planned.config, 10, 8, choose_execution(planned.config, torch.device("cpu")))
        state.model(torch.zeros(2, 3, 8, 8)).sum().backward()
        state.optimizer.step()
        num_parameters = sum(parameter.numel() for parameter in state.model.parameters())
        planned = make_planned(planned.config, num_parameters=num_parameters)
        save_checkpoint(tmp_path / "one.pt", state.to_payload())
        real = (tmp_path / "one.pt").stat().st_size
        assert 0.75 * checkpoint_bytes(planned) < real < 1.15 * checkpoint_bytes(planned), optimizer


def test_momentum_of_zero_has_no_state():
    assert checkpoint_bytes(make_trial(momentum=0.0)) < checkpoint_bytes(make_trial())


def test_line_names_the_number_of_concurrent_trials():
    trials = [make_trial(seed=seed) for seed in range(100)]
    assert describe_disk(trials, 2).startswith("disk: at most ")
    assert "(2 trials at once)" in describe_disk(trials, 2)


def test_nothing_to_run_needs_no_checkpoint():
    assert "0 B of checkpoints and 0 B of tables stay" in describe_disk([], 2)


def test_many_trials_at_once_write_ten_checkpoints_a_second_and_few_one_each_ten_seconds():
    assert [checkpoint_period_s(number) for number in (1, 100, 2560)] == [10, 10, 256]
