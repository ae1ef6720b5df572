"""The `Search` protocol: ask() for what to train next, tell() what came of it; and the records that it is built from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

from flexres_tune.records import Decision, TrialStatus
from flexres_tune.spec import PlannedTrial


@dataclass(frozen=True)
class Assignment:
    """Train `trial` up to and including epoch `until_epoch`, from its checkpoint if it has one."""

    trial: PlannedTrial
    until_epoch: int

    @classmethod
    def whole(cls, trial: PlannedTrial) -> Assignment:
        """All epochs of the trial."""
        return cls(trial, trial.config.epochs)


class Step(Enum):
    """What ask() returns if there is no assignment."""

    WAIT = "wait"  # none until one of the running assignments ends
    DONE = "done"  # no further one


WAIT, DONE = Step.WAIT, Step.DONE


@dataclass(frozen=True)
class Outcome:
    """How an assignment ended: `paused` at its `until_epoch`, or with one of the statuses that end a trial."""

    assignment: Assignment
    status: TrialStatus
    score: float | None  # the metric at its best or last epoch so far, higher is better; None if the trial has none
    last_score: float | None = None  # value of the metric at the epoch reached, higher is better
    num_epochs: int = 0  # that the trial has trained so far, over all its assignments
    train_seconds: float = 0.0  # the same


@dataclass(frozen=True)
class PastTrial:
    """A trial of an earlier run: its newest row in the tables."""

    trial_id: str
    config_id: str
    seed: int
    stage: str
    status: TrialStatus
    attempt: int
    val_accuracy: float | None  # at the epoch that `metric.at` says
    score: float | None  # as in Outcome; None also for trials that did not end well
    is_done: bool  # the sweep's command does not run it again
    values: Mapping[str, Any] = field(default_factory=dict)  # parameters of method tpe, by key of the sweep file
    scores: Mapping[int, float] = field(default_factory=dict)  # finite values of the metric by epoch, higher is better
    until_epoch: int | None = None  # the latest epoch to which it was promoted, from `decisions`; None: never


@dataclass(frozen=True)
class History:
    """The trials of earlier runs of one sweep, by trial_id."""

    trials: Mapping[str, PastTrial] = field(default_factory=dict)

    def is_done(self, trial_id: str) -> bool:
        """Whether the trial has ended in a way that the same command does not run again."""
        return trial_id in self.trials and self.trials[trial_id].is_done

    def missing(self, trials: Iterable[PlannedTrial]) -> tuple[PlannedTrial, ...]:
        """The trials that are not done, in their order."""
        return tuple(trial for trial in trials if not self.is_done(trial.config.trial_id))


@dataclass(frozen=True)
class Workload:
    """What a search has to train, as known before its first ask()."""

    trials: tuple[PlannedTrial, ...]  # known so far, done or not; TPE draws further ones while it runs
    missing: tuple[PlannedTrial, ...]  # those of `trials` that are not done
    num_todo: int  # trials to run, including those that will be drawn
    num_done: int
    num_epochs: int  # of the trials to run, if none is stopped early


class Search(Protocol):
    """Decides what to train next. Searches are subclasses, so that they inherit take_decisions().

    A search is deterministic in what it was told: built from the tables of a killed run, it continues exactly as that
    run would have. It may assign a trial several times, each time up to a later epoch, so that trials can be paused.
    """

    work: Workload

    def ask(self) -> Assignment | Step:
        """The next assignment, WAIT or DONE."""

    def tell(self, outcome: Outcome) -> None:
        """An assignment has ended."""

    def most_to_come(self) -> int:
        """The most assignments, of those that were not given yet, that may run at once: 0 if no further one will come.

        As many processes are kept for them, and the cluster keeps their machines. It may be too high; it is too low only if
        a running trial fails and another one takes its place.
        """

    def prioritise(self, trial_id: str) -> bool:
        """Assign a trial that has not begun next; whether there is such a trial."""
        return False

    def take_decisions(self) -> Sequence[Decision]:
        """Why trials were paused or promoted, for the table: the decisions since the last call.

        `value` and `cutoff` are scores, higher is better. A search that was rebuilt from the tables may repeat those
        of the killed run.
        """
        return ()
