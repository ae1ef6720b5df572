"""One trial's stream of reports without Ray, its stop file on each kind of storage, and the hook that tests use."""

import importlib.abc
import pickle
import sys
import time
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from sklearn import metrics

from flexres_tune.datasets import load_dataset
from flexres_tune.models import build_model
from flexres_tune.spec import TrialConfig
from flexres_tune.storage import make_path
from flexres_tune.sweep.worker import TRIAL_HOOK, StopCheck, TrialJob, run_job
from flexres_tune.training import Execution
from flexres_tune.training.checkpoint import load_checkpoint
from flexres_tune.training.device import device_name
from flexres_tune.training.graph import CaptureError

REMOTE_FILE = "s3://bucket/results/.stop-1"


def make_job(**values):
    config = TrialConfig(model="tiny", dataset="digits", epochs=1, num_train_images=64, augmentation=[])
    return TrialJob(config.trial_id, config.to_dict(), None, 10.0, num_threads=1, **values)


def make_check(stop_file):
    return StopCheck(stop_file, period_s=0.0, remote_period_s=0.02)


def becomes_true(condition):
    for _ in range(1000):
        if condition():
            return True
        time.sleep(0.01)
    return False


@pytest.mark.parametrize("place", ["FOLDER", "s3://bucket/results"])
def test_stop_file_is_seen_after_it_is_created(bucket, tmp_path, place):
    stop_file = make_path(place.replace("FOLDER", str(tmp_path))) / ".stop-1"
    with make_check(str(stop_file)) as must_stop:
        assert not must_stop.was_called and not must_stop() and must_stop.was_called
        stop_file.touch()
        assert becomes_true(must_stop)


def test_step_does_not_wait_for_a_server_that_is_down(bucket):
    bucket.go_away()
    with make_check(REMOTE_FILE) as must_stop:
        assert becomes_true(lambda: bucket.num_requests > 2), "the thread keeps checking"
        assert not must_stop()
        bucket.come_back()
        make_path(REMOTE_FILE).touch()
        assert becomes_true(must_stop)


def test_no_request_is_made_after_the_trial(bucket):
    with make_check(REMOTE_FILE):
        pass
    time.sleep(0.1)
    before = bucket.num_requests
    time.sleep(0.1)
    assert bucket.num_requests == before


def test_trial_without_a_stop_file_is_not_stopped():
    with make_check(None) as must_stop:
        assert not must_stop()


def fail(job, reports):
    yield next(reports)
    raise MemoryError(job.trial_id)


def test_hook_replaces_the_reports_and_its_exception_is_the_trials(monkeypatch):
    monkeypatch.setenv(TRIAL_HOOK, f"{__name__}:fail")
    job = make_job()
    first, last = run_job(job)
    assert first.metrics.epoch == 1
    assert last.status == "out_of_memory" and job.trial_id in last.error


def break_the_device(job, reports):
    raise torch.AcceleratorError("CUDA error: device-side assert triggered", 710)
    yield


def test_process_ends_if_it_cannot_use_its_device_any_more(monkeypatch):
    monkeypatch.setenv(TRIAL_HOOK, f"{__name__}:break_the_device")
    with pytest.raises(torch.AcceleratorError):
        list(run_job(make_job()))


def test_trial_without_a_gpu_trains_on_the_cpu_of_a_machine_that_has_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    *_, last = run_job(make_job(num_gpus=0.0))
    assert (last.status, last.facts.device) == ("completed", device_name(torch.device("cpu"))), last.error


def test_trial_whose_graph_cannot_be_captured_runs_eagerly_and_its_row_says_so(monkeypatch):
    """Without a GPU CUDA's recorder cannot be made, so that a stand-in fails as a capture does."""

    class Recorder:
        def eager(self):
            return nullcontext()

        def record(self, function):
            raise CaptureError("the step cannot be captured as a CUDA graph: no")

    monkeypatch.setattr("flexres_tune.training.step.CudaRecorder", lambda device, generators: Recorder())
    execution = Execution(torch.device("cpu"), "fp32", graph="step")
    monkeypatch.setattr("flexres_tune.training.choose_execution", lambda *args: execution)
    job = make_job()
    *_, last = run_job(replace(job, config=job.config | {"batch_size": 8}))
    assert (last.status, last.facts.execution) == ("completed", "fp32 channels-last"), last.error
    assert "the step cannot be captured as a CUDA graph: no; trials train eagerly there" in last.facts.notice


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU here")
@pytest.mark.parametrize(("num_gpus", "says_so"), [(0.25, True), (0.0, False)])
def test_trial_that_holds_a_gpu_which_torch_does_not_see_says_so(num_gpus, says_so):
    (report,) = run_job(make_job(num_gpus=num_gpus))
    assert report.status == "completed"
    assert bool(report.facts.notice) is says_so
    if says_so:
        assert f"{report.facts.hostname}: torch must see the GPU that a trial holds" in report.facts.notice
        assert "resources_per_trial.gpu=0" in report.facts.notice


def runs_out(job, reports):
    raise MemoryError("in the model")


def test_process_without_any_memory_left_reports_that(monkeypatch):
    """Even what judges the error cannot be imported."""

    class NothingLeft(importlib.abc.MetaPathFinder):
        def find_spec(self, name, path, target=None):
            raise MemoryError

    monkeypatch.setenv(TRIAL_HOOK, f"{__name__}:runs_out")
    monkeypatch.delitem(sys.modules, "flexres_tune.training.device", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NothingLeft()])
    (report,) = run_job(make_job())
    assert (report.status, report.error) == ("out_of_memory", "MemoryError, after MemoryError: in the model")


def test_predictions_are_those_of_the_saved_model(tmp_path):
    config = TrialConfig(model="tiny", dataset="digits", epochs=1, num_train_images=512, augmentation=[])
    path = tmp_path / "a.pt"
    (report,) = run_job(TrialJob(config.trial_id, config.to_dict(), str(path), 0.0, 1, with_predictions=True))
    model = build_model(config.model, 10, 8)
    model.load_state_dict(load_checkpoint(path, config.trial_id)["model"])
    data = load_dataset("digits", torch.device("cpu"))
    for row, labels, split in zip(report.predictions, report.labels, (data.val, data.test), strict=True):
        images = (split.images.float() / 255 - data.mean.view(3, 1, 1)) / data.std.view(3, 1, 1)
        with torch.inference_mode():
            predicted = model.eval()(images).argmax(1)
        assert labels.label.tolist() == split.labels.tolist()
        expected = metrics.confusion_matrix(split.labels, predicted, labels=range(10))
        assert (metrics.confusion_matrix(labels.label, row.predicted, labels=range(10)) == expected).all()


@pytest.mark.parametrize("with_predictions", [True, False])
def test_last_report_has_the_predictions_if_they_are_wanted(with_predictions):
    (report,) = run_job(make_job(with_predictions=with_predictions))
    assert [row.split for row in report.predictions] == [row.split for row in report.labels]
    assert [row.split for row in report.predictions] == (["val", "test"] if with_predictions else [])
    if with_predictions:
        val, labels = report.predictions[0], report.labels[0]
        assert (val.trial_id, val.dataset, val.subset) == (make_job().trial_id, "digits", "fixed")
        assert (val.predicted == labels.label).mean() == pytest.approx(report.metrics.val_accuracy)
        assert len(set(labels.image)) == len(labels.label) == 300 and labels.class_names == tuple("0123456789")
        assert len(pickle.dumps(report)) < 600 * 25 + 5_000, "bytes that Ray carries"
