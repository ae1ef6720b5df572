"""Checkpoints of trials that have ended go, but for the best of each stage."""

from dataclasses import dataclass, replace

import pytest

from flexres_tune.results.paths import SweepPaths
from flexres_tune.storage import list_folder, temporary_path
from flexres_tune.sweep.checkpoints import KEPT, KEPT_WHILE_RUNNING, CheckpointRetention


@dataclass(frozen=True)
class Record:
    trial_id: str
    config_id: str
    stage: str = "screen"
    status: str = "completed"
    best_val_accuracy: float | None = 0.5


@dataclass
class State:
    record: Record | None


@pytest.fixture
def paths(tmp_path):
    paths = SweepPaths(tmp_path, "demo")
    paths.checkpoints.mkdir(parents=True)
    return paths


def end(keeper, paths, record):
    paths.checkpoint(record.trial_id).touch()
    keeper.update(State(record))


def left(paths):
    return {path.stem for path in paths.checkpoints.glob("*.pt")}


def record(config, seed=0, accuracy=0.5, **values):
    return replace(Record(f"c{config}-{seed}", f"c{config}", best_val_accuracy=accuracy), **values)


def test_best_three_configurations_of_each_stage_keep_their_best_seed(paths):
    keeper = CheckpointRetention(paths, {})
    for config in range(20):
        for seed in (0, 1):
            end(keeper, paths, record(config, seed, 0.5 + 0.01 * config + 0.001 * seed))
    for config in range(5):
        end(keeper, paths, record(config, 10, 0.9 - 0.01 * config, stage="confirm"))
    assert len(left(paths)) == 2 * KEPT_WHILE_RUNNING + 5
    keeper.close()
    assert KEPT == 3 and left(paths) == {"c19-1", "c18-1", "c17-1", "c0-10", "c1-10", "c2-10"}


def test_a_late_seed_that_lifts_a_configuration_is_kept(paths):
    keeper = CheckpointRetention(paths, {})
    for config in range(KEPT_WHILE_RUNNING):
        end(keeper, paths, record(config, 0, 0.6))
    end(keeper, paths, record(99, 0, 0.55))
    assert "c99-0" not in left(paths)
    end(keeper, paths, record(99, 1, 0.9))
    keeper.close()
    assert "c99-1" in left(paths)


@pytest.mark.parametrize("status", ["stopped", "failed", "diverged", "out_of_memory"])
def test_trials_that_did_not_run_to_their_end_leave_nothing(paths, status):
    keeper = CheckpointRetention(paths, {})
    end(keeper, paths, record(1, status=status, best_val_accuracy=0.99))
    assert left(paths) == set()


def test_trial_that_will_go_on_keeps_its_checkpoint(paths):
    keeper = CheckpointRetention(paths, {})
    end(keeper, paths, record(1, status="interrupted"))
    end(keeper, paths, record(2))
    keeper.update(State(None))
    keeper.close()
    assert left(paths) == {"c1-0", "c2-0"}


def test_configuration_with_a_stopped_seed_comes_after_whole_ones(paths):
    keeper = CheckpointRetention(paths, {})
    for config in range(3):
        end(keeper, paths, record(config))
    end(keeper, paths, record(9, 0, 0.99))
    end(keeper, paths, record(9, 1, status="stopped"))
    keeper.close()
    assert left(paths) == {"c0-0", "c1-0", "c2-0"}


def test_earlier_runs_are_ranked_too(paths):
    rows = {
        f"c{k}-0": {"config_id": f"c{k}", "stage": "screen", "status": "completed", "best_val_accuracy": 0.9 + 0.01 * k}
        for k in range(4)
    }
    for trial_id in rows:
        paths.checkpoint(trial_id).touch()
    keeper = CheckpointRetention(paths, rows)
    end(keeper, paths, record(7, 0, 0.1))
    keeper.close()
    assert left(paths) == {"c1-0", "c2-0", "c3-0"}


def test_on_object_storage_only_what_is_there_is_deleted_and_a_server_that_is_away_is_asked_once(bucket):
    paths = SweepPaths("s3://bucket/results", "demo")
    for config in range(KEPT_WHILE_RUNNING):
        paths.checkpoint(f"c{config}-0").touch()
    rows = {}
    for config in range(50):
        each = record(config, 0, 0.5 + config / 100)
        rows[each.trial_id] = {
            name: getattr(each, name) for name in ("config_id", "stage", "status", "best_val_accuracy")
        }
    keeper = CheckpointRetention(paths, rows)
    bucket.go_away()
    before = bucket.num_requests
    keeper.close()
    assert bucket.num_requests == before + 1
    bucket.come_back()
    keeper.close()
    assert list(list_folder(paths.checkpoints)) == []
    assert bucket.num_requests <= before + 1 + KEPT_WHILE_RUNNING + 1, "50 trials, ten files"


def test_what_a_process_killed_while_writing_left_is_deleted(paths):
    def leave_torn():
        torn = temporary_path(paths.checkpoint("c1-0"))
        torn.write_bytes(b"half a checkpoint")
        return torn

    paths.checkpoint("c1-0").touch()
    torn = leave_torn()
    keeper = CheckpointRetention(paths, {})
    assert not torn.exists() and left(paths) == {"c1-0"}, "of the driver before"
    torn = leave_torn()
    keeper.close()
    assert not torn.exists(), "of a trial of this one"
