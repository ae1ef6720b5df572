"""What is left of a sweep: the searches that train it, and the words in which `run` and its dry run say how much it is."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from flexres_tune.records import Stage, TrialStatus
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import count_confirmation, plan_or_none
from flexres_tune.search.base import History, Search
from flexres_tune.search.budget import BudgetedSearches, make_budgeted_searches
from flexres_tune.search.confirmation import make_confirmation
from flexres_tune.search.final import make_final
from flexres_tune.search.methods import make_search
from flexres_tune.spec import PlannedTrial, SweepSpec
from flexres_tune.sweep.history import read_history, read_spent
from flexres_tune.text import join_words, plural

_OF_STAGE = {Stage.SCREEN: "of the screening", Stage.CONFIRM: "of the confirmation", Stage.FINAL: "of the final run"}


@dataclass(frozen=True)
class Remaining:
    """What the tables have, and a search per stage that trains what is missing."""

    history: History
    searches: Mapping[Stage, Search]
    budgeted: BudgetedSearches | None = None  # if the sweep has a budget


def count_todo(spec: SweepSpec, found: Remaining) -> dict[Stage, int]:
    """Trials that will run, by stage, as the plan counts them: the candidates of a confirmation are not known before."""
    num_todo = {stage: search.work.num_todo for stage, search in found.searches.items()}
    if spec.budget is None and num_todo[Stage.SCREEN]:
        num_todo |= count_after_screening(spec, found.history)
    elif num_todo[Stage.CONFIRM] and spec.confirm.final is not None:
        num_todo[Stage.FINAL] = 1
    return num_todo


def count_after_screening(spec: SweepSpec, history: History) -> dict[Stage, int]:
    """Trials of the later stages of a sweep whose screening has not ended."""
    num_done = sum(past.is_done and past.stage == Stage.CONFIRM for past in history.trials.values())
    has_final = spec.confirm is not None and spec.confirm.final is not None
    return {Stage.CONFIRM: max(0, count_confirmation(spec) - num_done), Stage.FINAL: int(has_final)}


def read_remaining(
    paths: SweepPaths,
    spec: SweepSpec,
    trials: Sequence[PlannedTrial],
    retry: Collection[TrialStatus],
    tried: Collection[str] = (),
) -> Remaining:
    """Compare the sweep file with the tables.

    Args:
        retry: statuses of trials that run again, unless they are in `tried`.
    """
    history = read_scores(paths, spec, retry, tried)
    if spec.budget is not None:
        plan = plan_or_none(paths)
        share = plan.device_share if plan else 1.0
        found = make_budgeted_searches(spec, trials, history, read_spent(paths), share)
        searches = {Stage.SCREEN: found.screen, Stage.CONFIRM: found.confirm, Stage.FINAL: found.final}
        return Remaining(history, searches, found)
    screen = make_search(spec, trials, history)
    confirm = make_confirmation(spec, screen.work.trials, history)
    final = make_final(spec, [screen.work, confirm.work], history)
    return Remaining(history, {Stage.SCREEN: screen, Stage.CONFIRM: confirm, Stage.FINAL: final})


def describe_todo(num_todo: Mapping[Stage, int]) -> str:
    """`6 trials to run: 2 of the screening and 4 of the confirmation`."""
    parts = [f"{number:,} {_OF_STAGE[stage]}" for stage, number in num_todo.items() if number]
    total = f"{plural(sum(num_todo.values()), 'trial')} to run"
    is_plain = not any(number for stage, number in num_todo.items() if stage is not Stage.SCREEN)
    return total if is_plain else f"{total}: {join_words(parts, 'and')}"


def read_scores(
    paths: SweepPaths, spec: SweepSpec, retry: Collection[TrialStatus], tried: Collection[str] = ()
) -> History:
    """The history, with as much as the searches of the sweep read of it."""
    pauses = spec.early_terminate.pauses
    with_scores = pauses or spec.method == "tpe" or spec.confirm is not None
    gives_runs = spec.confirm is not None and spec.confirm.num_runs is not None
    return read_history(paths, spec, retry, tried, with_scores, with_curves=pauses or gives_runs)
