"""--trial-timeout: which trials are killed, and what their rows say."""

import time
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest
from helpers.factories import make_config, make_metrics, make_planned
from ray.tune.experiment import Trial

from flexres_tune.raytune.watchdog import START_S, Watchdog
from flexres_tune.sweep.journal import TrialState
from flexres_tune.sweep.worker import TrialReport

TIMEOUT_S = 1.0


@pytest.fixture
def check():
    """Check one running trial `seconds` after its start or last report: the error of its row, None if it lives."""

    def check(seconds, num_epochs=0):
        config = make_config()
        state = TrialState(make_planned(config), 1, datetime.now(UTC))
        for epoch in range(1, num_epochs + 1):
            state.history[epoch] = make_metrics(epoch)
            state.report = TrialReport(state.history[epoch])
        watchdog = Watchdog(SimpleNamespace(states={config.trial_id: state}), TIMEOUT_S)
        trial = SimpleNamespace(
            status=Trial.RUNNING,
            config={"trial_id": config.trial_id},
            temporary_state=SimpleNamespace(ray_actor=None),
        )
        watchdog.check([trial], time.monotonic() + seconds)
        return watchdog.ended.get(config.trial_id)

    return check


def test_start_of_a_process_does_not_count(check):
    assert check(TIMEOUT_S + START_S / 2) is None
    assert "no report for 1 s (--trial-timeout) and 60 s to start; its process was killed" in check(TIMEOUT_S + START_S)


def test_epoch_that_takes_too_long_is_named(check):
    assert check(TIMEOUT_S / 2, num_epochs=3) is None
    assert "no report for 1 s (--trial-timeout) after epoch 3" in check(TIMEOUT_S + 0.1, num_epochs=3)
