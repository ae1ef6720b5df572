"""The driver's side of steering, without Ray's loop: requests are done, answered, and become rows of `decisions`."""

import pytest
from helpers.factories import VERSIONS, make_metrics, make_sweep

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.raytune.steering import SteeringCallback
from flexres_tune.results import open_results
from flexres_tune.results.holder import Holder
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.writer import SweepWriter
from flexres_tune.search.base import Assignment
from flexres_tune.search.ladders import Candidate, Rung
from flexres_tune.search.lists import FirstSeedSearch, ListSearch
from flexres_tune.search.rungs import RungSearch
from flexres_tune.spec import expand_trials
from flexres_tune.sweep.journal import Journal
from flexres_tune.sweep.signals import Signals
from flexres_tune.sweep.steering import Act, Inbox, identity, send_request, wait_for_answer
from flexres_tune.sweep.worker import TrialReport

SPEC = make_sweep(parameters={"lr": {"values": [0.01, 0.02, 0.03]}})
TRIALS = expand_trials(SPEC, describe_dataset)
IDS = [trial.config.trial_id for trial in TRIALS]
HOLDER = Holder(host="here", pid=7)


class Desk:
    """A driver whose first trial runs."""

    def __init__(self, folder, problem=""):
        self.paths = SweepPaths(folder, "test")
        self.writer = SweepWriter(self.paths)
        self.journal = Journal(SPEC, self.writer, VERSIONS, None)
        self.search = ListSearch(TRIALS)
        self.signals, self.messages = Signals(), []
        self.inbox = Inbox(self.paths, identity(HOLDER))
        steering = (self.inbox, self.journal, self.search, self.signals, lambda: problem, self.messages.append)
        self.callback = SteeringCallback(*steering)
        self.journal.start(self.search.ask().trial, 1)
        self.journal.add(IDS[0], TrialReport(make_metrics(1, 0.7)))

    def ask(self, act, trial_id=""):
        request = send_request(self.paths, act, trial_id, HOLDER)
        self.inbox.look()
        self.callback.on_step_end(0, [])
        return wait_for_answer(self.paths, request, 0.0)

    def rows(self):
        self.writer.flush()
        return open_results(self.paths.root).decisions("test").to_pylist()


@pytest.fixture
def desk(tmp_path):
    return Desk(tmp_path)


def test_running_trial_is_stopped_at_its_next_report_and_the_row_says_who_asked_when(desk):
    assert desk.ask(Act.STOP, IDS[0]).is_done
    assert desk.journal.must_stop(IDS[0], TrialReport(make_metrics(2)))
    assert not desk.journal.must_stop(IDS[1], TrialReport(make_metrics(2)))
    (row,) = desk.rows()
    assert (row["action"], row["trial_id"], row["epoch"], row["value"]) == ("steer stop", IDS[0], 1, 0.7)
    assert "@" in row["who"] and row["decided_at"] is not None
    assert desk.messages == [f"{row['who']}: stop {IDS[0]}: trial {IDS[0]} stops after its current epoch"]


def test_trial_that_does_not_run_cannot_be_stopped(desk):
    answer = desk.ask(Act.STOP, IDS[1])
    assert not answer.is_done and answer.text.endswith(f"running: {IDS[0]}")
    assert desk.rows() == []


def test_waiting_trial_is_the_next_one_and_a_running_one_cannot_be(desk):
    assert desk.ask(Act.PRIORITISE, IDS[2]).is_done
    assert not desk.ask(Act.PRIORITISE, IDS[0]).is_done
    assert [desk.search.ask().trial.config.trial_id for _ in range(2)] == [IDS[2], IDS[1]]
    assert [row["action"] for row in desk.rows()] == ["steer prioritise"]


def test_each_act_has_its_own_row(desk):
    for _ in range(2):
        desk.ask(Act.PRIORITISE, IDS[2])
    assert len(desk.rows()) == 2


def test_reload_ends_the_run_as_a_signal_does_unless_the_file_is_wrong(desk, tmp_path):
    answer = Desk(tmp_path / "wrong", problem="x.yaml:3: no such key").ask(Act.RELOAD)
    assert not answer.is_done and answer.text.endswith("x.yaml:3: no such key")
    assert desk.ask(Act.RELOAD).is_done
    assert desk.signals.requested and desk.signals.must_reload
    assert not desk.ask(Act.STOP, IDS[0]).is_done, "the sweep is ending"


@pytest.mark.parametrize("kind", ["first seed", "rungs"])
def test_other_searches_begin_the_prioritised_configuration_first(kind):
    search = (
        FirstSeedSearch(TRIALS, 0)
        if kind == "first seed"
        else RungSearch([Candidate(t.config.config_id, (t,)) for t in TRIALS], {None: [Rung(1, 1)]}, 2)
    )
    assert search.prioritise(IDS[1])
    assert not search.prioritise("x-0")
    step = search.ask()
    assert isinstance(step, Assignment) and step.trial.config.trial_id == IDS[1]
