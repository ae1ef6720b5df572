"""Ray Tune's loggers for TensorBoard, Weights & Biases and MLflow, with our names for trials, settings and metrics."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune
from ray.tune.experiment import Trial
from ray.tune.logger import LoggerCallback

from flexres_tune.raytune.adapters import DriverSide
from flexres_tune.raytune.trainable import REPORT_KEY
from flexres_tune.results.paths import SweepPaths
from flexres_tune.spec import TrialConfig


class TrialView:
    """The attributes of a Ray Trial that loggers read, with our names and values.

    A Ray Trial itself has the fields of a TrialJob as its configuration, and a folder that is deleted after the sweep.
    Loggers use it as a key, so there is one object per trial.
    """

    def __init__(self, trial: Trial, sweep: str, folder: Path):
        config = TrialConfig.model_validate(trial.config["config"])
        self.trial_id = config.trial_id
        self.config = {name: _plain(value) for name, value in (config.columns() | {"seed": config.seed}).items()}
        self.evaluated_params = self.config
        self.experiment_dir_name = sweep
        self.local_path = str(folder / config.trial_id)
        self.checkpoint = None

    def init_local_path(self) -> None:
        Path(self.local_path).mkdir(parents=True, exist_ok=True)

    def __str__(self) -> str:
        return self.trial_id


class Logger(DriverSide, tune.Callback):
    """Passes each epoch once to one of Ray's LoggerCallbacks, as numbers under the names of the `epochs` table.

    After its first error it is switched off, with one message: a server that is down must not end a sweep.
    """

    def __init__(self, name: str, inner: LoggerCallback, paths: SweepPaths, on_message: Callable[[str], None]):
        self._name, self._inner, self._sweep = name, inner, paths.sweep
        self._folder = paths.logs(name).resolve()
        self._on_message = on_message
        self._views: dict[str, TrialView] = {}
        self._is_off = False

    def setup(self, **info: Any) -> None:
        self._try(self._inner.setup, **info)

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._try(lambda: self._inner.log_trial_start(self._view(trial)))

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info: Any) -> None:
        report = result.get(REPORT_KEY)
        if report is None or report.metrics is None or report.is_repeat:
            return
        values = {k: v for k, v in dataclasses.asdict(report.metrics).items() if v is not None}
        values |= {"training_iteration": report.metrics.epoch}  # the loggers' step
        self._try(lambda: self._inner.log_trial_result(iteration, self._view(trial), values))

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._try(lambda: self._inner.log_trial_end(self._view(trial), failed=False))

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info: Any) -> None:
        self._try(lambda: self._inner.log_trial_end(self._view(trial), failed=True))

    def on_experiment_end(self, trials: list[Trial], **info: Any) -> None:
        self._try(lambda: self._inner.on_experiment_end(list(self._views.values()), **info))

    def _view(self, trial: Trial) -> TrialView:
        trial_id = trial.config["trial_id"]
        if trial_id not in self._views:
            self._views[trial_id] = TrialView(trial, self._sweep, self._folder)
            if self._name == "wandb":  # the working directory of its process
                self._views[trial_id].init_local_path()
        return self._views[trial_id]

    def _try(self, call: Callable[..., None], **info: Any) -> None:
        if self._is_off:
            return
        try:
            call(**info)
        except Exception as error:
            self._is_off = True
            self._on_message(f"--logger {self._name}: {type(error).__name__}: {error}; the sweep continues without it")


def make_logger(name: str, paths: SweepPaths, on_message: Callable[[str], None]) -> Logger:
    """The logger of that name, which writes below paths.logs(name) unless it has a server.

    Its package must be installed, which the command checks before anything starts (run/option_values.py).
    """
    return Logger(name, LOGGERS[name](paths), paths, on_message)


def _tensorboard(paths: SweepPaths) -> LoggerCallback:
    from ray.tune.logger.tensorboardx import TBXLoggerCallback

    return TBXLoggerCallback()


def _wandb(paths: SweepPaths) -> LoggerCallback:
    from ray.air.integrations.wandb import WandbLoggerCallback

    folder = paths.logs("wandb").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    mode = os.environ.get("WANDB_MODE")  # passed on, because its process may lack the variable
    # a trial that was paused or interrupted continues in its own run
    return WandbLoggerCallback(project="flexres_tune", group=paths.sweep, dir=str(folder), mode=mode, resume="allow")


def _mlflow(paths: SweepPaths) -> LoggerCallback:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    server = os.environ.get("MLFLOW_TRACKING_URI")
    if not server:
        folder = paths.logs("mlflow").resolve()
        folder.mkdir(parents=True, exist_ok=True)
        server = f"sqlite:///{folder / 'mlflow.db'}"  # mlflow no longer accepts a folder of plain files
    return MLflowLoggerCallback(server, experiment_name=paths.sweep)


LOGGERS: dict[str, Callable[[SweepPaths], LoggerCallback]] = {
    "tensorboard": _tensorboard,
    "wandb": _wandb,
    "mlflow": _mlflow,
}


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float | bool) else json.dumps(value)
