"""make_search: the search that a sweep file asks for, by `method` and `early_terminate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from flexres_tune.search.base import History, Search
from flexres_tune.search.lists import FirstSeedSearch, ListSearch
from flexres_tune.search.pausing import make_rung_search
from flexres_tune.search.tpe import TpeSearch
from flexres_tune.search.tpe_rungs import TpeRungSearch
from flexres_tune.spec import PlannedTrial, SweepSpec


def _make_list_search(spec: SweepSpec, trials: Sequence[PlannedTrial], history: History) -> Search:
    if spec.early_terminate.pauses:
        return make_rung_search(spec, trials, history)
    if spec.early_terminate.type != "none" and len(spec.seeds) > 1:
        return FirstSeedSearch(trials, spec.seeds[0], history)
    return ListSearch(trials, history)


def _make_drawing_search(spec: SweepSpec, trials: Sequence[PlannedTrial], history: History) -> Search:
    return TpeRungSearch(spec, history) if spec.early_terminate.pauses else TpeSearch(spec, history)


METHODS: Mapping[str, Callable[[SweepSpec, Sequence[PlannedTrial], History], Search]] = MappingProxyType(
    {
        "grid": _make_list_search,
        "random": _make_list_search,
        "tpe": _make_drawing_search,
    }
)


def make_search(spec: SweepSpec, trials: Sequence[PlannedTrial], history: History) -> Search:
    """The search that screens a sweep: the trials of its file that are not done.

    `trials` are those that `spec.expand_trials` lists; none for a method that draws while it runs.
    """
    return METHODS[spec.method](spec, trials, history)
