"""Fixtures that write a few trials, for the tests of what the tables say."""

from datetime import UTC, datetime

import pytest

from flexres_tune.results import open_results
from flexres_tune.results.writer import SweepWriter


@pytest.fixture
def results(paths, make_config, make_trial):
    """Writes [(configuration, seed, status, best, other values)] and returns the results."""

    def make(*trials):
        with SweepWriter(paths) as writer:
            for values, seed, status, best, *other in trials:
                config = make_config(**values, seed=seed)
                record = {"finished_at": datetime(2026, 1, 2, tzinfo=UTC)} | (other[0] if other else {})
                writer.add_trial(make_trial(config, status, best, **record), config)
        return open_results(paths.root)

    return make


@pytest.fixture
def write_curve(paths, make_config, make_epoch):
    """Writes the epochs of a trial of `demo`: its validation accuracies, `seconds` each."""

    def write(values, accuracies, seconds=1.0):
        trial_id = make_config(**values).trial_id
        with SweepWriter(paths) as writer:
            for epoch, accuracy in enumerate(accuracies, 1):
                writer.add_epoch(make_epoch(trial_id, epoch, val_accuracy=accuracy, epoch_seconds=seconds))

    return write
