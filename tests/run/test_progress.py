import io
import json
import re
import time
from datetime import UTC, datetime

import pytest
from helpers.factories import make_metrics, make_planned, make_trial
from rich.console import Console

from flexres_tune.records import TrialStatus
from flexres_tune.run.progress import Best, SweepProgress, best_of, describe, waiting
from flexres_tune.search.base import History, PastTrial
from flexres_tune.spec import Metric, TrialConfig
from flexres_tune.sweep.journal import TrialState


def test_output_to_a_file_is_one_plain_line_per_trial_that_ended(make_state):
    output = io.StringIO()
    with SweepProgress(Console(file=output, width=200), num_trials=2, num_epochs=4) as progress:
        progress.update(make_state(status=None))
        progress.update(make_state(status="completed"))
    lines = output.getvalue().splitlines()
    assert lines == ["1/2  completed    val  90.00%     2/2 epochs    3.0 s  lr=0.1 seed=3"]
    assert "\x1b" not in output.getvalue()


def printed_lines(states, width):
    output = io.StringIO()
    console = Console(file=output, width=width, force_terminal=True, color_system=None)
    with SweepProgress(console, num_trials=len(states), num_epochs=100) as progress:
        for state in states:
            progress.update(state)
    printed = re.sub(r"\x1b\[[0-9?]*[a-zA-Z]", "", output.getvalue())
    return [line.rstrip() for line in printed.splitlines() if re.match(r" *\d+/\d+ +\w", line)]


@pytest.mark.parametrize("status", ["completed", "stopped", "out_of_memory"])
@pytest.mark.parametrize("num_parameters", [1, 2, 3, 5])
def test_trial_that_ended_is_one_line_of_80_columns_with_all_its_values(make_state, status, num_parameters):
    values = {"optimizer": "nesterov", "lr": 0.02635, "label_smoothing": 0.1, "batch_size": 128, "mixup_alpha": 0.25}
    states = [make_state(status=status, seed=seed) for seed in range(12)]
    for state in states:
        state.planned.varied.update(list(values.items())[:num_parameters])
    lines = [line for line in printed_lines(states, 80) if status in line]
    assert len(lines) == 12 and max(map(len, lines)) <= 80
    for seed, line in enumerate(lines):
        assert "90.00%" in line and line.endswith(f"seed={seed}")
        assert all(f"={value}" in line for value in list(values.values())[:num_parameters])


def test_names_that_would_be_abbreviated_alike_are_whole(make_state):
    state = make_state(status="completed")
    values = {"label_smoothing": 0.1, "lr_schedule": "cosine", "weight_decay": 0.0005, "own.beta": 0.9}
    state.planned.varied.update(values)
    [line] = [line for line in printed_lines([state], 80) if "completed" in line]
    assert "label_smoothing=0.1 lr_schedule=cosine wd=0.0005 ob=0.9 seed=3" in line


def test_failed_trial_shows_the_last_line_of_its_error(make_state):
    output = io.StringIO()
    with SweepProgress(Console(file=output, width=200), 1, 2) as progress:
        progress.update(make_state(status="failed", error="Traceback ...\nValueError: [bold]no"))
    assert output.getvalue().splitlines()[-1].strip() == "ValueError: [bold]no"


def test_terminal_shows_trials_time_left_and_the_best_trial(make_state):
    output = io.StringIO()
    console = Console(file=output, width=120, force_terminal=True, color_system=None)
    with SweepProgress(console, num_trials=2, num_epochs=4) as progress:
        progress.update(make_state(status=None))
        progress.update(make_state(status="completed", seed=4))
    text = output.getvalue()
    assert "1/2 trials" in text
    assert "elapsed" in text and "left" in text
    assert "best 90.00% (lr=0.1 seed=3)" in text


@pytest.mark.parametrize("width", [80, 120])
def test_running_trials_have_a_line_each_and_no_line_is_wider_than_the_terminal(make_state, width):
    output = io.StringIO()
    console = Console(file=output, width=width, force_terminal=True, color_system=None)
    best = Best(0.95, "optimizer=sgd lr=0.3 label_smoothing=0.1 batch_size=128 mixup_alpha=0.2 epochs=30 seed=1")
    with SweepProgress(console, 2, 4, "optim: confirm", best=best) as progress:
        progress.update(make_state(status=None))
    lines = [line.rstrip() for line in re.sub(r"\x1b\[[0-9?]*[a-zA-Z]", "", output.getvalue()).splitlines()]
    assert "  epoch 2/2  val  90.00%    1,000 images/s  lr=0.1 seed=3" in lines
    assert any("optim: confirm · 0/2 trials" in line and "elapsed" in line for line in lines)
    assert any(line.startswith("best 95.00% (optimizer=sgd lr=0.3") for line in lines), "of an earlier run"
    assert max(map(len, lines)) <= width


def test_other_metric_is_shown_as_what_it_is(make_state):
    output = io.StringIO()
    console = Console(file=output, width=120, force_terminal=True, color_system=None)
    with SweepProgress(console, 2, 4, metric=Metric(name="val_loss")) as progress:
        progress.update(make_state(status=None))
    assert "best 1.4 (lr=0.1 seed=3)" in output.getvalue()


@pytest.mark.parametrize(("name", "shown"), [("f1", "82.35%"), ("gain", "0.8235"), ("top5_count", "0.8235")])
def test_metric_is_in_percent_if_it_is_known_to_be_a_fraction(make_state, name, shown):
    state = make_state(status=None)
    state.history[2] = make_metrics(2, metrics=json.dumps({name: 0.82352}))
    output = io.StringIO()
    console = Console(file=output, width=120, force_terminal=True, color_system=None)
    with SweepProgress(console, 2, 4, metric=Metric(name=name)) as progress:
        progress.update(state)
    assert f"best {shown} (lr=0.1 seed=3)" in output.getvalue()


def test_best_of_earlier_runs_is_that_of_the_sweeps_trials(make_state):
    planned = make_state(status=None).planned
    scores = {planned.config.trial_id: 0.8, "other-0": 0.9}
    trials = {
        key: PastTrial(key, "c", 0, "screen", TrialStatus.COMPLETED, 1, 0.0, s, True) for key, s in scores.items()
    }
    assert best_of([planned], History(trials)) == Best(0.8, "lr=0.1 seed=3")
    assert best_of([planned], History()) is None


def test_long_wait_says_in_a_file_what_it_is_and_a_short_one_nothing(monkeypatch):
    monkeypatch.setattr("flexres_tune.run.progress.SAY_AFTER_S", 0.05)
    output = io.StringIO()
    with waiting(Console(file=output, width=80), "starting [Ray]"):
        until = time.monotonic() + 5
        while not output.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
    assert output.getvalue() == "starting [Ray] ...\n"
    monkeypatch.setattr("flexres_tune.run.progress.SAY_AFTER_S", 60)
    with waiting(Console(file=output, width=80), "reading"):
        pass
    assert output.getvalue() == "starting [Ray] ...\n"


def test_long_values_are_cut_in_the_middle(make_state):
    state = make_state(status=None)
    state.planned.varied["dataset"] = "parquet:" + "x" * 300
    assert "…" in describe(state.planned)
    assert len(describe(state.planned)) < 80


def test_drawn_numbers_have_four_digits():
    planned = make_planned(varied={"lr": 0.026349817231, "batch_size": 128, "augmentation": ["crop", "flip"]})
    assert describe(planned) == "lr=0.02635 batch_size=128 augmentation=crop, flip seed=0"


@pytest.fixture
def make_state():
    def make(status, error=None, seed=3):
        config = TrialConfig(model="tiny", dataset="digits", epochs=2, seed=seed)
        planned = make_planned(config, varied={"lr": 0.1})
        state = TrialState(planned, 1, datetime.now(UTC))
        for epoch, accuracy in ((1, 0.5), (2, 0.9)):
            state.history[epoch] = make_metrics(epoch, val_accuracy=accuracy, epoch_seconds=1.5)
        if status:
            state.record = make_trial(config, status, error=error, train_seconds=3.0, epochs_run=2)
        return state

    return make
