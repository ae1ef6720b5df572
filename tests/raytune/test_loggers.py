"""Loggers get each epoch once, under our names; a logger that fails or is not installed is reported."""

import struct
from types import SimpleNamespace

import pytest
from helpers.factories import make_metrics
from ray.tune.logger import LoggerCallback

from flexres_tune.errors import FlexResError
from flexres_tune.raytune.loggers import LOGGERS, Logger, make_logger
from flexres_tune.records import TrialStatus
from flexres_tune.results.paths import SweepPaths
from flexres_tune.run.option_values import LOGGER_PACKAGES, LoggerName, check_logger
from flexres_tune.spec import TrialConfig
from flexres_tune.sweep.worker import TrialReport

CONFIG = TrialConfig(model="tiny", dataset="digits", lr=0.05, seed=3, augmentation=("crop",))
TRIAL = SimpleNamespace(config={"trial_id": CONFIG.trial_id, "config": CONFIG.to_dict()})


class Recorder(LoggerCallback):
    def __init__(self, breaks=False):
        self.results, self.ends, self.views, self.breaks = [], [], [], breaks

    def log_trial_start(self, trial):
        self.views.append(trial)

    def log_trial_result(self, iteration, trial, result):
        if self.breaks:
            raise ConnectionError("the server is down")
        self.results.append(result)

    def log_trial_end(self, trial, failed=False):
        self.ends.append(failed)


@pytest.fixture
def paths(tmp_path):
    return SweepPaths(tmp_path, "demo")


def play(logger, epochs=3, repeated=0):
    """One trial's events in Ray's order."""
    logger.setup()
    logger.on_trial_start(0, [], TRIAL)
    for epoch in range(1, epochs + 1):
        metrics = make_metrics(epoch, val_accuracy=0.1 * epoch, val_loss=0.9, lr=0.05)
        report = TrialReport(metrics, status=TrialStatus.COMPLETED if epoch == epochs else None)
        report = TrialReport(metrics, report.facts, report.status, is_repeat=epoch <= repeated)
        logger.on_trial_result(epoch, [], TRIAL, {"report": report, "done": epoch == epochs, "pid": 1})
    logger.on_trial_result(9, [], TRIAL, {"done": True})
    logger.on_trial_complete(epochs, [], TRIAL)
    logger.on_experiment_end([])


def test_epochs_are_numbers_with_the_names_of_the_table(paths):
    recorder = Recorder()
    play(Logger("x", recorder, paths, print), repeated=1)
    assert [result["training_iteration"] for result in recorder.results] == [2, 3]  # the first was logged before
    assert recorder.results[1]["val_accuracy"] == pytest.approx(0.3)
    assert all(isinstance(value, int | float) for result in recorder.results for value in result.values())
    (view,) = recorder.views
    assert (view.trial_id, view.config["lr"], view.config["seed"]) == (CONFIG.trial_id, 0.05, 3)
    assert view.config["augmentation"] == '["crop"]' and str(view) == CONFIG.trial_id and recorder.ends == [False]


def test_a_paused_trial_continues_under_its_own_name(paths):
    recorder = Recorder()
    logger = Logger("x", recorder, paths, print)
    play(logger, epochs=2)
    play(logger, epochs=4, repeated=2)
    assert [result["training_iteration"] for result in recorder.results] == [1, 2, 3, 4]
    assert len({id(view) for view in recorder.views}) == 1


def test_logger_that_fails_is_reported_once_and_switched_off(paths):
    messages = []
    play(Logger("wandb", Recorder(breaks=True), paths, messages.append))
    assert messages == ["--logger wandb: ConnectionError: the server is down; the sweep continues without it"]


def test_every_name_of_the_option_has_a_logger_and_a_package():
    assert set(LOGGERS) == set(LOGGER_PACKAGES) == set(LoggerName)


@pytest.mark.parametrize("name", list(LoggerName))
def test_missing_package_is_an_error_with_the_command_that_installs_it(name, monkeypatch):
    import importlib

    def missing(package):
        raise ModuleNotFoundError(f"No module named {package!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(FlexResError, match=r"--logger \w+ needs the package \w+: No module .*; pip install \w+$"):
        check_logger(name)


def test_tensorboard_file_has_the_epochs(paths):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    play(make_logger("tensorboard", paths, pytest.fail))
    (file,) = (paths.logs("tensorboard") / CONFIG.trial_id).glob("events.*")
    data, scalars = file.read_bytes(), {}
    while data:  # TFRecord: length, its checksum, payload, its checksum
        (length,) = struct.unpack("<Q", data[:8])
        event = Event.FromString(data[12 : 12 + length])
        data = data[16 + length :]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    assert scalars["ray/tune/val_accuracy"] == pytest.approx({1: 0.1, 2: 0.2, 3: 0.3})


def test_mlflow_has_the_configuration_and_the_epochs(paths, monkeypatch, tmp_path):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("sqlalchemy")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    play(make_logger("mlflow", paths, pytest.fail))
    client = mlflow.MlflowClient(f"sqlite:///{(paths.logs('mlflow') / 'mlflow.db').resolve()}")
    (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id])
    assert (run.data.params["lr"], run.data.params["seed"]) == ("0.05", "3")
    assert run.data.metrics["val_accuracy"] == pytest.approx(0.3)
