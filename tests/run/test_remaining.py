"""`run`, its dry run and `query status` say the same number of trials that remain, in every state of a sweep."""

import io
import re

import pytest
from helpers.factories import make_epoch, make_trial
from rich.console import Console

from flexres_tune.analysis.status import sweep_status
from flexres_tune.datasets import describe_dataset
from flexres_tune.estimate.price import DryRun
from flexres_tune.query.views import answer_status
from flexres_tune.records import Stage
from flexres_tune.results import open_results
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import SweepWriter
from flexres_tune.run.remaining import count_todo, describe_todo, read_remaining
from flexres_tune.run.session import Session
from flexres_tune.spec import expand_trials, load_sweep, trial_from_assignment
from flexres_tune.sweep.options import RunOptions

DONE = "completed"
STOPPING = {"early_terminate": {"type": "asha", "variant": "stopping", "grace_period": 1}}
CONFIRM = {"confirm": {"top": 2, "seeds": [10, 11]}}


def write(paths, statuses, **changes):
    """A sweep of four learning rates whose trials have these statuses, in the order of rates and seeds; None: no row."""
    values = {"name": paths.sweep, "base": {"model": "tiny", "dataset": "digits", "epochs": 4}, **changes}
    values |= {"parameters": {"lr": {"values": [0.1, 0.2, 0.3, 0.4]}}}
    spec = load_sweep(values, describe=describe_dataset)
    trials = sorted(expand_trials(spec, describe_dataset), key=lambda each: (each.config.lr, each.config.seed))
    write_plan(paths, make_plan(spec, trials, "the command", {}))
    with SweepWriter(paths) as writer:
        for config, status in zip((each.config for each in trials), statuses, strict=False):
            for epoch in range(1, 5 if status == DONE else 2) if status else ():
                writer.add_epoch(make_epoch(config.trial_id, epoch, val_accuracy=config.lr + epoch / 10))
            if status:
                writer.add_trial(make_trial(config, status, best=0.5 + config.lr / 10), config)
    return values, spec, trials


def printed(values, paths, call):
    out = io.StringIO()
    call(Session(values, RunOptions(storage=paths.root), Console(file=out, width=200)))
    return out.getvalue()


@pytest.mark.parametrize(
    ("statuses", "changes", "remaining"),
    [
        ([], {}, "4 trials to run"),
        ([DONE, DONE, "interrupted"], {}, "2 trials to run"),
        ([DONE] * 4, {}, "0 trials to run"),
        ([DONE, "stopped", "stopped", DONE], STOPPING, "0 trials to run"),
        ([DONE, "stopped", "stopped"], STOPPING, "1 trial to run"),
        ([DONE, "failed", "out_of_memory", "diverged"], {}, "0 trials to run"),
        ([DONE, "failed"], {}, "2 trials to run"),
        ([DONE] * 4, CONFIRM, "4 trials to run: 4 of the confirmation"),
        ([DONE, DONE], CONFIRM, "6 trials to run: 2 of the screening and 4 of the confirmation"),
        ([], CONFIRM, "8 trials to run: 4 of the screening and 4 of the confirmation"),
    ],
)
def test_all_of_them_agree(paths, statuses, changes, remaining):
    values, spec, trials = write(paths, statuses, **changes)
    assert describe_todo(count_todo(spec, read_remaining(paths, spec, trials, ()))) == remaining  # what `run` prints
    assert f"\n{remaining}\n" in printed(values, paths, lambda session: session.list_trials(DryRun()))
    status = sweep_status(open_results(paths.root), paths.sweep)
    number = int(re.match(r"\d+", remaining)[0])
    assert status.missing + status.interrupted == number
    notes = answer_status(open_results(paths.root), paths.sweep, None).sections[0].notes
    assert any(note.startswith(f"demo: {remaining.partition(':')[0]}: ") for note in notes) == bool(number)


def test_a_paused_trial_that_may_continue_is_told_apart(paths):
    halving = {"early_terminate": {"type": "halving", "grace_period": 1}}
    _, spec, trials = write(paths, ["paused"], **halving)
    assert count_todo(spec, read_remaining(paths, spec, trials, ()))[Stage.SCREEN] == 4
    notes = answer_status(open_results(paths.root), paths.sweep, None).sections[0].notes
    assert "demo: 3 trials to run, and 1 paused trial that may continue: the command" in notes


def test_paused_draws_of_a_finished_sweep_are_not_to_run(paths):
    values = {
        "name": paths.sweep,
        "method": "tpe",
        "num_trials": 4,
        "base": {"model": "tiny", "dataset": "digits", "epochs": 4},
        "parameters": {"optimizer": {"values": ["sgd", "adam"]}, "lr": {"min": 0.1, "max": 0.4}},
        "compare": "optimizer",
        "early_terminate": {"type": "halving", "rungs": [{"epochs": 1, "keep": 1}]},
    }
    spec = load_sweep(values, describe=describe_dataset)
    before = printed(values, paths, lambda session: session.list_trials(DryRun()))
    assert "\n4 trials to run\n" in before and " 0 B of tables" not in before, "the disk is that of what will be drawn"
    drawn = [(name, lr) for name in ("sgd", "adam") for lr in (0.2, 0.3)]
    with SweepWriter(paths) as writer:
        for number, (name, lr) in enumerate(drawn):
            trial = trial_from_assignment(spec, {"optimizer": name, "lr": lr}, 0, describe_dataset)
            for epoch in range(1, 5 if number % 2 else 2):
                writer.add_epoch(make_epoch(trial.config.trial_id, epoch, val_accuracy=lr))
            row = make_trial(trial.config, DONE if number % 2 else "paused", best=lr, epochs_run=4 if number % 2 else 1)
            writer.add_trial(row, trial.config)
    after = printed(values, paths, lambda session: session.list_trials(DryRun()))
    assert "\n0 trials to run\n" in after and "0 B of checkpoints and 0 B of tables" in after
    assert count_todo(spec, read_remaining(paths, spec, (), ()))[Stage.SCREEN] == 0


def test_seeds_that_a_stopped_first_seed_spares_are_not_missing_once_the_command_was_typed_again(paths):
    """A driver that was killed at the very end has left them in its plan."""
    statuses = [DONE, DONE, "stopped", None, "stopped", None, DONE, DONE]
    values, _, _ = write(paths, statuses, seeds=[0, 1], **STOPPING)
    assert sweep_status(open_results(paths.root), paths.sweep).missing == 2
    assert "nothing to do" in printed(values, paths, lambda session: session.run())
    assert sweep_status(open_results(paths.root), paths.sweep).missing == 0
