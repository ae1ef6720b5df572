"""Budget: a search that assigns no more than fits into the sweep's `budget`, and the account of what was spent."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from flexres_tune.records import Decision
from flexres_tune.search.base import DONE, WAIT, Assignment, Outcome, Search, Step, Workload
from flexres_tune.spec import Budget, PlannedTrial, TrialConfig

MAX_CONFIRM_SHARE = (
    0.5  # of the budget that is kept for the confirmation: without a screening there is nothing to confirm
)
HOUR_S = 3600.0


@dataclass(frozen=True)
class Spent:
    """What a trial has taken so far, over all its attempts."""

    num_epochs: int = 0
    train_seconds: float = 0.0

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.num_epochs + other.num_epochs, self.train_seconds + other.train_seconds)


class Account:
    """What a sweep has spent and what is promised to running trials, in epochs or in device-seconds.

    A device-second is a second of training time, times the part of a device that the trial holds. What an assignment
    will cost follows from the mean time of an epoch so far: of trials of the same shape, or else of the slowest shape.
    Before the first epoch nothing is known, and everything fits.

    Args:
        spent: by trial_id, for example from the tables of earlier runs.
        configs: of these trials, as far as they are known, by trial_id.
        device_share: part of a device that each trial holds.
    """

    def __init__(
        self,
        budget: Budget,
        spent: Mapping[str, Spent] | None = None,
        configs: Mapping[str, TrialConfig] | None = None,
        device_share: float = 1.0,
    ):
        self._budget = budget
        self._spent: dict[str, Spent] = {}
        self._total = Spent()
        self._by_shape: dict[Hashable, Spent] = {}
        self._promised: dict[str, Assignment] = {}
        self.device_share = device_share
        configs = configs or {}
        for trial_id, each in (spent or {}).items():
            self._record(trial_id, _shape(configs[trial_id]) if trial_id in configs else None, each)

    @property
    def limit(self) -> float:
        """The budget, in epochs or device-seconds."""
        return self._budget.epochs if self._budget.epochs is not None else self._budget.device_hours * HOUR_S

    @property
    def spent(self) -> float:
        """What was spent, without what running trials have taken since they were assigned."""
        if self._budget.epochs is not None:
            return self._total.num_epochs
        return self._total.train_seconds * self.device_share

    @property
    def left(self) -> float:
        """What is neither spent nor promised."""
        return self.limit - self.spent - sum(map(self.cost, self._promised.values()))

    @property
    def has_promises(self) -> bool:
        """Whether trials are running."""
        return bool(self._promised)

    def cost(self, assignment: Assignment) -> float:
        """What an assignment will take, if the trial is not stopped early."""
        config = assignment.trial.config
        done = self._spent.get(config.trial_id, Spent()).num_epochs
        return max(0, assignment.until_epoch - done) * self._per_epoch(_shape(config))

    def cost_of_trials(self, trials: Iterable[PlannedTrial]) -> float:
        """What these trials will still take, each to its last epoch."""
        return sum(self.cost(Assignment.whole(trial)) for trial in trials)

    def promise(self, assignment: Assignment) -> None:
        """The assignment starts."""
        self._promised[assignment.trial.config.trial_id] = assignment

    def settle(self, outcome: Outcome) -> None:
        """The assignment has ended; what it did not use is free again."""
        config = outcome.assignment.trial.config
        self._promised.pop(config.trial_id, None)
        self._record(config.trial_id, _shape(config), Spent(outcome.num_epochs, outcome.train_seconds))

    def _record(self, trial_id: str, shape: Hashable, now: Spent) -> None:
        """A trial has taken `now` in all; it never takes less than before."""
        before = self._spent.get(trial_id, Spent())
        now = Spent(max(before.num_epochs, now.num_epochs), max(before.train_seconds, now.train_seconds))
        more = Spent(now.num_epochs - before.num_epochs, now.train_seconds - before.train_seconds)
        self._spent[trial_id] = now
        self._total += more
        self._by_shape[shape] = self._by_shape.get(shape, Spent()) + more

    def _per_epoch(self, shape: Hashable) -> float:
        if self._budget.epochs is not None:
            return 1.0
        means = {key: each.train_seconds / each.num_epochs for key, each in self._by_shape.items() if each.num_epochs}
        return means.get(shape, max(means.values(), default=0.0)) * self.device_share


def _shape(config: TrialConfig) -> Hashable:
    """What the time of an epoch depends on."""
    return config.model, config.dataset, config.num_train_images, config.batch_size, config.augmentation


class BudgetSearch(Search):
    """A search, until its next assignment does not fit into what is left of the budget.

    Every assignment that it gives can train to its end. If the next one does not fit beside those that run, it waits:
    one of them may be stopped early. If none runs, the search is over.

    Args:
        inner: what to train, and in which order.
        account: of the sweep; it is told what happens to the assignments.
        reserve: of the budget, which this search must leave for the confirmation.
    """

    def __init__(self, inner: Search, account: Account, reserve: float = 0.0):
        self._inner, self._account, self._reserve = inner, account, reserve
        whole = inner.work
        self._held: Assignment | Step = inner.ask() if whole.num_todo else DONE
        self.num_left_out = 0  # trials that are missing and do not fit
        if isinstance(self._held, Assignment) and not self._fits(self._held):
            self.num_left_out = whole.num_todo
            whole = replace(whole, missing=(), num_todo=0, num_epochs=0)
        self.work: Workload = whole

    def ask(self) -> Assignment | Step:
        if self._held is WAIT or self._held is None:
            self._held = self._inner.ask()
        held = self._held
        if not isinstance(held, Assignment):
            return held
        if not self._fits(held):
            return WAIT if self._account.has_promises else DONE
        self._held = WAIT
        self._account.promise(held)
        return held

    def tell(self, outcome: Outcome) -> None:
        self._account.settle(outcome)
        self._inner.tell(outcome)

    def take_decisions(self) -> Sequence[Decision]:
        return self._inner.take_decisions()

    def _fits(self, assignment: Assignment) -> bool:
        return self._account.cost(assignment) <= self._account.left - self._reserve + 1e-9


def confirmation_reserve(num_runs: int, longest: PlannedTrial | None, account: Account) -> float:
    """What to keep for the confirmation: `num_runs` runs like `longest`, but at most MAX_CONFIRM_SHARE of the budget."""
    if longest is None:
        return 0.0
    fresh = replace(longest, config=longest.config.model_copy(update={"seed": 2**62}))
    return min(num_runs * account.cost(Assignment.whole(fresh)), account.limit * MAX_CONFIRM_SHARE)
