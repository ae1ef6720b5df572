"""FailFast: which first trials end a run, and what its message says."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from helpers.factories import make_config, make_metrics, make_planned, make_trial

from flexres_tune.sweep.fail_fast import NUM_SAME_ERRORS, FailFast, without_what_varies
from flexres_tune.sweep.journal import TrialState

ERROR = (
    "Traceback (most recent call last):\n  File x, line {n}\nOSError: [Errno 2] trial {trial}: no file /data/{n}.png"
)


def make_state(seed, num_epochs=0):
    """A trial that runs and has reported some epochs."""
    state = TrialState(make_planned(make_config(seed=seed)), 1, datetime.now(UTC))
    state.history = {epoch: make_metrics(epoch) for epoch in range(1, num_epochs + 1)}
    return state


def end(state, status="failed", error=ERROR):
    text = error.format(trial=state.trial_id, n=state.planned.config.seed)
    return replace(state, record=make_trial(state.planned.config, status=status, error=text))


def fail(fail_fast, seeds, error=ERROR):
    for seed in seeds:
        fail_fast.update(end(make_state(seed), error=error))


def test_first_five_trials_that_fail_alike_end_the_run():
    fail_fast = FailFast()
    fail(fail_fast, range(NUM_SAME_ERRORS - 1))
    assert fail_fast.error is None
    fail(fail_fast, [NUM_SAME_ERRORS])
    assert fail_fast.error.startswith("OSError: [Errno 2] trial ")
    message = fail_fast.message("run x.yaml --retry failed")
    assert message.startswith("the first 5 trials ended with the same error, so no further trial starts:\nOSError")
    assert message.endswith("to continue: run x.yaml --retry failed")


def test_trial_that_fails_twice_counts_once():
    fail_fast = FailFast()
    for _ in range(2):
        fail(fail_fast, range(NUM_SAME_ERRORS - 1))
    assert fail_fast.error is None


@pytest.mark.parametrize("status", ["completed", "stopped", "paused", "diverged", "out_of_memory"])
def test_sweep_with_a_trial_that_ends_otherwise_continues(status):
    fail_fast = FailFast()
    fail_fast.update(end(make_state(0), status))
    fail(fail_fast, range(1, 20))
    assert fail_fast.error is None


def test_interrupted_trial_says_nothing():
    fail_fast = FailFast()
    fail_fast.update(end(make_state(0), "interrupted"))
    fail(fail_fast, range(1, 6))
    assert fail_fast.error is not None


def test_different_errors_do_not_end_the_run():
    fail_fast = FailFast()
    fail(fail_fast, [0], "ValueError: something else")
    fail(fail_fast, range(1, 20))
    assert fail_fast.error is None


def test_running_trial_that_has_got_further_than_those_that_failed_shows_that_the_sweep_can_work():
    fail_fast = FailFast()
    fail_fast.update(make_state(100, num_epochs=1))
    fail(fail_fast, range(5))
    assert fail_fast.error is None
    fail_fast.update(end(make_state(100, num_epochs=1)))
    assert fail_fast.error is not None, "it has failed like the others"


@pytest.mark.parametrize(
    ("line", "same"),
    [
        ("at 0x7f12ab, after 12 s", "at 0x7f99, after 1.5e-3 s"),
        ("trial deadbeef12-3: lr=0.1", "trial cafebabe34-0: lr=3e-4"),
        ("expected -1 got +2", "expected 3 got 4"),
    ],
)
def test_numbers_ids_and_addresses_do_not_make_errors_different(line, same):
    assert without_what_varies(line, "x-0") == without_what_varies(same, "y-0")


def test_words_make_errors_different():
    assert without_what_varies("no optimizer sgd", "a-0") != without_what_varies("no optimizer adam", "a-0")
