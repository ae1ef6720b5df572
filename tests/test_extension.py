"""Adding something touches the rows of this table and nothing else; each test adds one more while the program runs.

| to add | rows |
|---|---|
| an optimizer | `OPTIMIZERS` in optim/optimizers.py, `OPTIMIZER_TRAITS` in spec/trial.py |
| a learning-rate schedule | `SCHEDULES` in optim/schedules.py, `SCHEDULE_NAMES` in spec/trial.py |
| an augmentation | `AUGMENTATIONS` in augment/registry.py, `AUGMENTATION_NAMES` in spec/trial.py |
| a data source | `SOURCES` in datasets/sources.py, `DATASET_FORMS` in spec/trial.py |
| a stopping rule | `STOPPING_RULES` in search/early_stopping.py, `EARLY_STOPPING` in spec/keys/early_terminate.py |
| a result column | a field of the row in records.py, and the line that fills it |

What was added goes through `run --dry-run`, real trials on digits, the tables and the leaderboard. The trials run in
this process, because a worker of Ray would import the registries without the addition.
"""

from dataclasses import asdict, dataclass

import numpy as np
import pytest
import torch
from helpers.factories import make_config, make_sweep_yaml, make_trial
from typer.testing import CliRunner

from flexres_tune.analysis.leaderboard import leaderboards
from flexres_tune.augment import AUGMENTATIONS
from flexres_tune.augment.registry import Pixelwise
from flexres_tune.datasets import describe_dataset
from flexres_tune.datasets.arrays import DataShape, split_arrays
from flexres_tune.datasets.sources import SOURCES, Source
from flexres_tune.optim import OPTIMIZERS, SCHEDULES
from flexres_tune.provenance import versions
from flexres_tune.records import TrialRecord, column
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.schema import columns_markdown, row_type, table_schema
from flexres_tune.results.writer import SweepWriter
from flexres_tune.run.__main__ import app
from flexres_tune.search.early_stopping import STOPPING_RULES, NoRule, Verdict
from flexres_tune.spec import expand_trials, load_sweep, trial
from flexres_tune.spec.keys.early_terminate import EARLY_STOPPING
from flexres_tune.spec.trial import OPTIMIZER_TRAITS, OptimizerTraits
from flexres_tune.sweep.journal import Journal
from flexres_tune.sweep.worker import TrialJob, run_job


@pytest.fixture
def take_through(tmp_path, monkeypatch):
    """Function that dry-runs and runs a sweep of two learning rates; returns its results and its leaderboard."""
    monkeypatch.chdir(tmp_path)

    def take(listed: str, base=None, **changes):
        file, root = tmp_path / "test.yaml", tmp_path / "results"
        changes = {"parameters": {"lr": {"values": [0.01, 0.02]}}} | changes
        file.write_text(make_sweep_yaml(base={"epochs": 1, "num_train_images": 256} | (base or {}), **changes))
        shown = CliRunner().invoke(app, [str(file), "--dry-run"], env={"COLUMNS": "200"}, catch_exceptions=False)
        assert shown.exit_code == 0, shown.output
        assert listed in shown.output
        train(load_sweep(file), SweepPaths(root, "test"))
        (board,) = leaderboards(open_results(root))
        return open_results(root), board

    return take


def train(spec, paths):
    """Run the sweep as the driver does, one trial after the other and without Ray."""
    with SweepWriter(paths) as writer:
        journal = Journal(spec, writer, versions(), git_commit=None)
        for planned in expand_trials(spec, describe_dataset):
            config = planned.config
            journal.start(planned, attempt=1)
            for report in run_job(TrialJob(config.trial_id, config.to_dict(), None, 0.0, num_threads=1)):
                verdict = journal.judge(config.trial_id, report)
                journal.states[config.trial_id].was_stopped = verdict is not None and verdict.stop
                journal.add(config.trial_id, report)
                if verdict is not None and verdict.stop:
                    break
            journal.finish(config.trial_id)


def only(table, name):
    """The one value of a column."""
    (value,) = set(table.column(name).to_pylist())
    return value


def assert_complete(board):
    assert [(row.rank, row.outcome) for row in board.rows] == [(1, "completed"), (2, "completed")]


def test_optimizer(monkeypatch, take_through):
    monkeypatch.setitem(OPTIMIZERS, "rmsprop", (torch.optim.RMSprop, {}))
    monkeypatch.setitem(OPTIMIZER_TRAITS, "rmsprop", OptimizerTraits(num_state_slots=1))
    _, board = take_through("rmsprop", parameters={"optimizer": {"values": ["sgd", "rmsprop"]}})
    assert_complete(board)
    assert {row.parameters["optimizer"] for row in board.rows} == {"sgd", "rmsprop"}


def test_learning_rate_schedule(monkeypatch, take_through):
    monkeypatch.setitem(SCHEDULES, "linear", lambda step, num_steps: 1 - step / num_steps)
    monkeypatch.setattr(trial, "SCHEDULE_NAMES", (*trial.SCHEDULE_NAMES, "linear"))
    results, board = take_through("lr", base={"lr_schedule": "linear"})
    assert_complete(board)
    assert only(results.trials("test"), "lr_schedule") == "linear"
    assert max(results.epochs("test").column("lr").to_pylist()) < 0.02


def test_augmentation(monkeypatch, take_through):
    monkeypatch.setitem(AUGMENTATIONS, "invert", Pixelwise(lambda images, generator: 1 - images))
    monkeypatch.setattr(trial, "AUGMENTATION_NAMES", (*trial.AUGMENTATION_NAMES, "invert"))
    parameters = {"augmentation": {"values": [["crop", "invert"], []]}}
    _, board = take_through("invert", parameters=parameters)
    assert_complete(board)
    assert sorted(row.parameters["augmentation"] for row in board.rows) == [[], ["crop", "invert"]]


def test_data_source(monkeypatch, take_through):
    def read(path, options):
        images = np.zeros((96, 3, 8, 8), np.uint8)
        labels = np.arange(96) % int(path)
        images[np.arange(96), :, labels] = 255  # class k: row k is white
        return split_arrays(images, labels, images[:32], labels[:32], num_val=16), tuple(map(str, range(int(path))))

    def describe(path, options):
        return DataShape(image_size=8, num_classes=int(path), num_train=80, num_val=16, num_test=32)

    monkeypatch.setitem(SOURCES, "stripes", Source(describe, read, needs_path=True))
    monkeypatch.setattr(trial, "DATASET_FORMS", (*trial.DATASET_FORMS, "stripes:PATH"))
    results, board = take_through("lr", base={"dataset": "stripes:4", "num_train_images": 80, "batch_size": 16})
    assert_complete(board)
    assert board.dataset == only(results.trials("test"), "dataset") == "stripes:4"


def test_stopping_rule(monkeypatch, take_through):
    class StopEarly(NoRule):
        """Stops every trial after its grace period."""

        def __init__(self, grace_period):
            self.grace_period = grace_period

        def judge(self, trial_id, epoch, score):
            return Verdict(rung=0, cutoff=1.0, stop=True) if epoch == self.grace_period else None

    monkeypatch.setitem(STOPPING_RULES, "early", lambda settings, epochs: StopEarly(settings.grace_period))
    monkeypatch.setitem(EARLY_STOPPING, "early", {"grace_period": 2})
    results, board = take_through("lr", base={"epochs": 3}, early_terminate={"type": "early"})
    assert [(row.rank, row.outcome) for row in board.rows] == [(None, "stopped")] * 2
    assert only(results.trials("test"), "epochs_run") == 2
    assert only(results.decisions("test"), "ladder") == "early, 3 epochs"


@dataclass(frozen=True, kw_only=True)
class WiderRecord(TrialRecord):
    energy_joules: float | None = column("energy of the trial", "J", default=None)


def test_result_column(monkeypatch, tmp_path):
    monkeypatch.setattr("flexres_tune.results.schema.TrialRecord", WiderRecord)
    table_schema.cache_clear()
    row_type.cache_clear()
    try:
        with SweepWriter(SweepPaths(tmp_path, "test")) as writer:
            config = make_config()
            writer.add_trial(WiderRecord(**vars(make_trial(config)), energy_joules=7.5), config)
        results = open_results(tmp_path)
        assert results.sql("SELECT sum(energy_joules) AS sum FROM trials").column("sum").to_pylist() == [7.5]
        (board,) = leaderboards(results)
        assert asdict(board.rows[0])["rank"] == 1
        assert "| `energy_joules` | double | J | energy of the trial |" in columns_markdown()
    finally:
        table_schema.cache_clear()
        row_type.cache_clear()
