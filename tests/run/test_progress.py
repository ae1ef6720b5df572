import io
from datetime import UTC, datetime

import pytest
from helpers.factories import make_metrics, make_planned, make_trial
from rich.console import Console

from flexres_tune.run.progress import SweepProgress, describe
from flexres_tune.spec import TrialConfig
from flexres_tune.sweep.journal import TrialState


def test_output_to_a_file_is_one_plain_line_per_trial_that_ended(make_state):
    output = io.StringIO()
    with SweepProgress(Console(file=output, width=200), num_trials=2, num_epochs=4) as progress:
        progress.update(make_state(status=None))
        progress.update(make_state(status="completed"))
    lines = output.getvalue().splitlines()
    assert lines == ["1/2  completed    val  90.00%     2/2 epochs    3.0 s  lr=0.1 seed=3"]
    assert "\x1b" not in output.getvalue()


def test_failed_trial_shows_the_last_line_of_its_error(make_state):
    output = io.StringIO()
    with SweepProgress(Console(file=output, width=200), 1, 2) as progress:
        progress.update(make_state(status="failed", error="Traceback ...\nValueError: [bold]no"))
    assert output.getvalue().splitlines()[-1].strip() == "ValueError: [bold]no"


def test_terminal_shows_trials_time_left_and_the_best_trial(make_state):
    output = io.StringIO()
    console = Console(file=output, width=120, force_terminal=True, color_system=None)
    with SweepProgress(console, num_trials=2, num_epochs=4) as progress:
        progress.update(make_state(status="completed"))
    text = output.getvalue()
    assert "1/2 trials" in text
    assert "left" in text
    assert "best 90.00% (lr=0.1 seed=3)" in text


def test_long_values_are_cut_in_the_middle(make_state):
    state = make_state(status=None)
    state.planned.varied["dataset"] = "parquet:" + "x" * 300
    assert "…" in describe(state)
    assert len(describe(state)) < 80


@pytest.fixture
def make_state():
    def make(status, error=None):
        config = TrialConfig(model="tiny", dataset="digits", epochs=2, seed=3)
        planned = make_planned(config, varied={"lr": 0.1})
        state = TrialState(planned, 1, datetime.now(UTC))
        for epoch, accuracy in ((1, 0.5), (2, 0.9)):
            state.history[epoch] = make_metrics(epoch, val_accuracy=accuracy, epoch_seconds=1.5)
        if status:
            state.record = make_trial(config, status, error=error, train_seconds=3.0, epochs_run=2)
        return state

    return make
