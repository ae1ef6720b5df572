"""Budget: a search that assigns no more than fits into the sweep's `budget`, and the account of what was spent."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.records import Decision, LeftOut, Stage
from flexres_tune.search.base import DONE, WAIT, Assignment, History, Outcome, Search, Step, Workload
from flexres_tune.search.confirmation import make_confirmation
from flexres_tune.search.final import make_final
from flexres_tune.search.methods import make_search
from flexres_tune.spec import Budget, PlannedTrial, SweepSpec, TrialConfig
from flexres_tune.spec.expand import example_trials
from flexres_tune.spec.levels import level_of, list_levels

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
        trials: those of them whose configurations are known.
        device_share: part of a device that each trial holds.
    """

    def __init__(
        self,
        budget: Budget,
        spent: Mapping[str, Spent] | None = None,
        trials: Iterable[PlannedTrial] = (),
        device_share: float = 1.0,
    ):
        self.budget = budget
        self._spent: dict[str, Spent] = {}
        self._total = Spent()
        self._by_shape: dict[Hashable, Spent] = {}
        self._promised: dict[str, Assignment] = {}
        self.device_share = device_share
        self._known: set[str] = set()  # trial_ids whose shape is known
        for trial_id, each in (spent or {}).items():
            self._record(trial_id, None, each)
        self.know(trials)

    @property
    def limit(self) -> float:
        """The budget, in epochs or device-seconds."""
        return self.budget.epochs if self.budget.epochs is not None else self.budget.device_hours * HOUR_S

    @property
    def spent(self) -> float:
        """What was spent, without what running trials have taken since they were assigned."""
        if self.budget.epochs is not None:
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

    def cost_of_epoch(self, config: TrialConfig) -> float:
        """What an epoch of a configuration takes."""
        return self._per_epoch(_shape(config))

    def know(self, trials: Iterable[PlannedTrial]) -> None:
        """Learn the shapes of trials that have spent something."""
        for config in (trial.config for trial in trials):
            if (spent := self._spent.get(config.trial_id)) and config.trial_id not in self._known:
                self._known.add(config.trial_id)
                self._by_shape[None] += Spent(-spent.num_epochs, -spent.train_seconds)
                self._by_shape[_shape(config)] = self._by_shape.get(_shape(config), Spent()) + spent

    def promise(self, assignment: Assignment) -> None:
        """The assignment starts."""
        self._promised[assignment.trial.config.trial_id] = assignment

    def settle(self, outcome: Outcome) -> None:
        """The assignment has ended; what it did not use is free again."""
        config = outcome.assignment.trial.config
        self._promised.pop(config.trial_id, None)
        self.know([outcome.assignment.trial])
        self._known.add(config.trial_id)
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
        if self.budget.epochs is not None:
            return 1.0
        means = {key: each.train_seconds / each.num_epochs for key, each in self._by_shape.items() if each.num_epochs}
        return means.get(shape, max(means.values(), default=0.0)) * self.device_share


def _shape(config: TrialConfig) -> Hashable:
    """What the time of an epoch depends on."""
    return config.model, config.images, config.num_train_images, config.batch_size, config.augmentation


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

    def most_to_come(self) -> int:
        return self._inner.most_to_come() + isinstance(self._held, Assignment)

    def prioritise(self, trial_id: str) -> bool:
        held = self._held
        is_next = isinstance(held, Assignment) and held.trial.config.trial_id == trial_id
        return is_next or self._inner.prioritise(trial_id)

    def take_decisions(self) -> Sequence[Decision]:
        return self._inner.take_decisions()

    def _fits(self, assignment: Assignment) -> bool:
        return self._account.cost(assignment) <= self._account.left - self._reserve + 1e-9


@dataclass(frozen=True)
class BudgetedSearches:
    """The searches of a sweep with a budget, and how it is divided between them."""

    screen: BudgetSearch
    confirm: BudgetSearch
    final: BudgetSearch
    account: Account
    reserve: float  # that the screening leaves for the confirmation, in epochs or device-seconds
    num_reduced: int  # configurations that the screening does not begin, so that the others can finish their rungs

    @property
    def left_out(self) -> LeftOut:
        """What does not fit into what is left."""
        num_runs = self.confirm.num_left_out + self.final.num_left_out
        return LeftOut(self.num_reduced, self.screen.num_left_out, num_runs)


def make_budgeted_searches(
    spec: SweepSpec,
    trials: Sequence[PlannedTrial],
    history: History,
    spent: Mapping[str, Spent],
    device_share: float = 1.0,
) -> BudgetedSearches:
    """The searches of a sweep with a budget, as make_search and make_confirmation without one.

    What does not fit: a search that pauses begins fewer configurations, of each level the first ones, so that its rungs
    still reduce all that it begins. Any other search begins its trials in order until the next one does not fit. The
    confirmation gets at most MAX_CONFIRM_SHARE of the budget.

    Args:
        trials: as for make_search.
        spent: by trial_id, from the tables.
    """
    account = Account(spec.budget, spent, trials, device_share)
    reserve = _reserve(spec, trials, account)
    num_asked, kept = spec.num_trials or 0, trials
    if spec.early_terminate.pauses:
        limit = account.limit - reserve
        if spec.method == "tpe":
            spec = _draw_what_finishes(spec, account, limit, history)
        else:
            kept = _that_finish(spec, trials, account, limit, history)
    inner = make_search(spec, kept, history)
    confirm = make_confirmation(spec, inner.work.trials, history)
    account.know([*inner.work.trials, *confirm.work.trials])
    screen, confirm = BudgetSearch(inner, account, reserve), BudgetSearch(confirm, account)
    final = make_final(spec, [screen.work, confirm.work], history)
    account.know(final.work.trials)
    num_reduced = len({trial.config.config_id for trial in trials}) - len({trial.config.config_id for trial in kept})
    num_reduced += num_asked - (spec.num_trials or 0)
    return BudgetedSearches(screen, confirm, BudgetSearch(final, account), account, reserve, num_reduced)


def num_confirmation_runs(spec: SweepSpec) -> int:
    """Runs of the confirmation, as the sweep file has them, and the final one."""
    if spec.confirm is None:
        return 0
    num_final = int(spec.confirm.final is not None)
    if spec.confirm.seeds is None:
        return spec.confirm.num_runs + num_final
    num_configs = spec.confirm.top * len(list_levels(spec)) + (spec.baseline is not None)
    return num_configs * len(spec.confirm.seeds) + num_final


def _reserve(spec: SweepSpec, trials: Sequence[PlannedTrial], account: Account) -> float:
    """The cost of the confirmation if all its runs are as long as the longest trial, within MAX_CONFIRM_SHARE."""
    if spec.confirm is None:
        return 0.0
    trials = trials or example_trials(spec, describe_dataset)
    epochs = max(trial.config.epochs for trial in trials)
    return min(num_confirmation_runs(spec) * _max_cost(trials, account) * epochs, account.limit * MAX_CONFIRM_SHARE)


def _max_cost(trials: Sequence[PlannedTrial], account: Account) -> float:
    """What an epoch of the slowest configuration takes."""
    configs = {_shape(trial.config): trial.config for trial in trials}.values()
    return max((account.cost_of_epoch(config) for config in configs), default=0.0)


def _draw_what_finishes(spec: SweepSpec, account: Account, limit: float, history: History) -> SweepSpec:
    """The sweep with as many draws as can go through all rungs within `limit`, but one for each level.

    Configurations that earlier runs have begun stay.
    """
    per_epoch = _max_cost(example_trials(spec, describe_dataset), account)
    num_begun = len({past.config_id for past in history.trials.values() if past.stage == Stage.SCREEN})

    def draw(number: int) -> SweepSpec:
        return spec.model_copy(update={"num_trials": max(number, num_begun)})

    def cost(number: int) -> float:
        return make_search(draw(number), (), History()).work.num_epochs * per_epoch

    return draw(_largest_within(cost, limit, spec.num_trials, len(list_levels(spec))))


def _that_finish(
    spec: SweepSpec, trials: Sequence[PlannedTrial], account: Account, limit: float, history: History
) -> Sequence[PlannedTrial]:
    """The first configurations of each level, as many as can go through all rungs within `limit`.

    Configurations that earlier runs have begun stay: on a resume, more may be known of what an epoch costs.
    """
    levels: dict[str, list[str]] = {}
    for trial in trials:
        members = levels.setdefault(level_of(spec, trial.varied), [])
        if trial.config.config_id not in members:
            members.append(trial.config.config_id)
    per_epoch = _max_cost(trials, account)
    begun = {past.config_id for past in history.trials.values()}

    def first(number: int) -> list[PlannedTrial]:
        chosen = begun.union(*(members[:number] for members in levels.values()))
        return [trial for trial in trials if trial.config.config_id in chosen]

    def cost(number: int) -> float:
        return make_search(spec, first(number), History()).work.num_epochs * per_epoch

    return first(_largest_within(cost, limit, max(map(len, levels.values()), default=1)))


def _largest_within(cost: Callable[[int], float], limit: float, most: int, least: int = 1) -> int:
    """The largest number from `least` to `most` whose cost, which grows with it, is within a limit; or `least`."""
    low, high = least, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if cost(middle) <= limit else (low, middle - 1)
    return low
