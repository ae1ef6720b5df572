"""The search methods of the sweep file, one row per value of `method`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from flexres_tune.search.base import History, Search
from flexres_tune.search.lists import ListSearch
from flexres_tune.search.tpe import TpeSearch
from flexres_tune.spec import PlannedTrial, SweepSpec

METHODS: Mapping[str, Callable[[SweepSpec, Sequence[PlannedTrial], History], Search]] = MappingProxyType(
    {
        "grid": lambda spec, trials, history: ListSearch(trials, history),
        "random": lambda spec, trials, history: ListSearch(trials, history),
        "tpe": lambda spec, trials, history: TpeSearch(spec, history),
    }
)


def make_search(spec: SweepSpec, trials: Sequence[PlannedTrial], history: History) -> Search:
    """The search that screens a sweep: the trials of its file that are not done.

    `trials` are those that `spec.expand_trials` lists; none for a method that draws while it runs.
    """
    return METHODS[spec.method](spec, trials, history)
