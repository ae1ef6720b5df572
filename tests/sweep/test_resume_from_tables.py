"""A driver is killed at any moment of a sweep that pauses trials; the same command ends with the tables of a calm run.

Real searches, journal and tables; a loop with one slot takes the place of Ray and of the training.
"""

import random

import pytest
from helpers.factories import make_metrics, make_sweep

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.records import TrialStatus, Versions
from flexres_tune.results import open_results
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from flexres_tune.search.base import DONE, Outcome
from flexres_tune.search.confirmation import make_confirmation
from flexres_tune.search.methods import make_search
from flexres_tune.spec import expand_trials
from flexres_tune.sweep.history import read_history, read_reports
from flexres_tune.sweep.journal import Journal
from flexres_tune.sweep.worker import TrialReport

COLUMNS = {
    "trials": ("trial_id", "stage", "status", "epochs_run", "best_val_accuracy"),
    "epochs": ("trial_id", "epoch", "val_accuracy"),
    "decisions": ("trial_id", "epoch", "action", "value", "cutoff", "rank", "num_compared", "until_epoch", "rung"),
}
PROMOTION = {"type": "asha", "grace_period": 2}
DRAWN = {"method": "tpe", "num_trials": 11, "parameters": {"lr": {"min": 0.01, "max": 0.1}}}
DRAWN_IN_LEVELS = {
    "method": "tpe",
    "num_trials": 9,
    "parameters": [
        {"optimizer": {"value": "sgd"}, "lr": {"min": 0.01, "max": 0.1}},
        {"optimizer": {"value": "adam"}, "lr": {"min": 0.001, "max": 0.01}, "batch_size": {"values": [32, 64]}},
    ],
    "compare": "optimizer",
}
HALVING = {"type": "halving", "rungs": [{"epochs": 2, "keep": 2}, {"epochs": 4, "keep": 1}]}


class Killed(Exception):
    pass


class Machine:
    """Runs a sweep, and is killed at the event of that number."""

    def __init__(self, spec, paths, kill_at=None):
        self.spec, self.paths, self.kill_at = spec, paths, kill_at
        self.num_events = 0

    def run(self):
        trials = expand_trials(self.spec, describe_dataset)
        for stage in ("screen", "confirm"):
            history = read_history(self.paths, self.spec, with_curves=True)
            search = screen = make_search(self.spec, trials, history)
            if stage == "confirm":
                search = make_confirmation(self.spec, screen.work.trials, history)
            self.writer = SweepWriter(self.paths)
            past = read_reports(self.paths, self.spec.metric)
            self.journal = Journal(self.spec, self.writer, Versions(), None)
            self.journal.replay(past, trials)
            attempts = past.num_attempts(history)
            reached = {trial_id: max(each.scores, default=0) for trial_id, each in history.trials.items()}
            while (step := search.ask()) is not DONE:
                self.decide(search)
                trial_id = step.trial.config.trial_id
                attempts[trial_id] = attempts.get(trial_id, 0) + 1
                self.train(step, attempts[trial_id], reached)
                state = self.journal.states[trial_id]
                status = TrialStatus(state.record.status)
                search.tell(Outcome(step, status, state.score(self.spec.metric), state.last_score(self.spec.metric)))
                self.decide(search)
            self.writer.flush()

    def train(self, step, attempt, reached):
        config = step.trial.config
        self.journal.start(step.trial, attempt, step.until_epoch)
        for epoch in range(1, step.until_epoch + 1):
            value = random.Random(f"{config.trial_id} {epoch}").random()
            report = TrialReport(make_metrics(epoch, value), is_repeat=epoch <= reached.get(config.trial_id, 0))
            self.journal.add(config.trial_id, report)
            self.event()
        reached[config.trial_id] = step.until_epoch
        is_last = step.until_epoch == config.epochs
        self.journal.finish(config.trial_id, TrialStatus.COMPLETED if is_last else TrialStatus.PAUSED)
        self.event()

    def decide(self, search):
        for decision in search.take_decisions():
            self.journal.record_decision(decision)
            self.event()

    def event(self):
        """The rows of one event reach the disk together."""
        self.num_events += 1
        self.writer.flush()
        if self.num_events == self.kill_at:
            raise Killed


def tables(paths):
    results = open_results(paths.root)
    return {
        name: sorted(
            (tuple(row[column] for column in columns) for row in getattr(results, name)("test").to_pylist()), key=str
        )
        for name, columns in COLUMNS.items()
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"early_terminate": PROMOTION, "confirm": {"top": 2, "num_runs": 4}},
        {"early_terminate": PROMOTION, "compare": "optimizer", "confirm": {"top": 1, "num_runs": 3}},
        {"early_terminate": HALVING, "seeds": [0, 1], "confirm": {"top": 1, "seeds": [7]}},
        {"early_terminate": PROMOTION, **DRAWN, "confirm": {"top": 2, "num_runs": 4}},
        {"early_terminate": HALVING, **DRAWN, "seeds": [0, 1], "confirm": {"top": 1, "seeds": [7]}},
        {"early_terminate": PROMOTION, **DRAWN_IN_LEVELS, "confirm": {"top": 1, "num_runs": 3}},
    ],
    ids=["promotion", "levels", "halving of pairs", "promotion of draws", "halving of drawn pairs", "draws in levels"],
)
def test_killed_at_any_moment_the_tables_end_as_those_of_a_calm_run(changes, tmp_path):
    values = {
        "base": {"model": "tiny", "dataset": "digits", "epochs": 5},
        "parameters": {"optimizer": {"values": ["sgd", "adam"]}, "lr": {"values": [0.01, 0.1]}},
    }
    spec = make_sweep(**values | changes)
    calm = Machine(spec, SweepPaths(tmp_path / "calm", "test"))
    calm.run()
    expected = tables(calm.paths)
    assert {"promote", "pause"} <= {row[2] for row in expected["decisions"]}
    num_kills = 2 if spec.method == "tpe" else 6  # each draw takes milliseconds
    for kill_at in sorted(random.Random(0).sample(range(1, calm.num_events), num_kills)):
        paths = SweepPaths(tmp_path / str(kill_at), "test")
        with pytest.raises(Killed):
            Machine(spec, paths, kill_at).run()
        Machine(spec, paths).run()
        assert tables(paths) == expected, kill_at
