"""One trial's stream of reports, without Ray; its question before each step: the stop file, wherever it lies."""

import time

import pytest
import torch

from flexres_tune.spec import TrialConfig
from flexres_tune.storage import make_path
from flexres_tune.sweep import worker as job
from flexres_tune.sweep.worker import TrialJob, _Steps, run_job


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(job, "STOP_PERIOD_S", 0.0)
    monkeypatch.setattr(job, "REMOTE_STOP_PERIOD_S", 0.02)


def comes(is_so):
    for _ in range(1000):
        if is_so():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("place", ["FOLDER", "s3://bucket/results"])
def test_stop_file_is_seen_once_it_is_there(bucket, tmp_path, place):
    folder = make_path(place.replace("FOLDER", str(tmp_path)))
    stop_file = folder / ".stop-1"
    with _Steps(str(stop_file)) as steps:
        assert not steps.have_begun and not steps() and steps.have_begun
        stop_file.touch()
        assert comes(steps)


def test_step_does_not_wait_for_a_server_that_is_away(bucket):
    bucket.go_away()
    with _Steps("s3://bucket/results/.stop-1") as steps:
        assert comes(lambda: bucket.num_requests > 2), "the thread goes on looking"
        assert not steps()
        bucket.come_back()
        make_path("s3://bucket/results/.stop-1").touch()
        assert comes(steps)


def test_nobody_looks_once_the_trial_is_over(bucket):
    with _Steps("s3://bucket/results/.stop-1"):
        pass
    time.sleep(0.1)
    before = bucket.num_requests
    time.sleep(0.1)
    assert bucket.num_requests == before


def test_trial_without_a_stop_file_is_not_stopped():
    with _Steps(None) as steps:
        assert not steps()


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")
@pytest.mark.parametrize(("num_gpus", "says_so"), [(0.25, True), (0.0, False)])
def test_trial_that_holds_a_gpu_which_torch_does_not_see_says_so(num_gpus, says_so):
    config = TrialConfig(model="tiny", dataset="digits", epochs=1, num_train_images=64, augmentation=[])
    job = TrialJob(config.trial_id, config.to_dict(), None, 10.0, num_threads=1, num_gpus=num_gpus)
    (report,) = run_job(job)
    assert report.status == "completed"
    assert bool(report.facts.notice) is says_so
    if says_so:
        assert f"{report.facts.hostname}: torch must see the GPU that a trial holds" in report.facts.notice
        assert "resources_per_trial.gpu=0" in report.facts.notice
