"""Searcher as Ray sees it: asks a TrialSource for the next trial when a slot is free."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

from ray.tune.search import Searcher

from flexres_tune.raytune.driver_side import DriverSide
from flexres_tune.raytune.job import TrialJob
from flexres_tune.raytune.sources import TrialSource
from flexres_tune.spec import PlannedTrial


class SourceSearcher(DriverSide, Searcher):
    """Turns planned trials into Ray's configurations, in the source's order."""

    def __init__(
        self,
        source: TrialSource,
        make_job: Callable[[PlannedTrial], TrialJob],
        is_held: Callable[[], bool],
        is_over: Callable[[], bool],
    ):
        """Args:
        is_held: whether no trial may start for the time being. It is here that waiting rows must be tried again:
            with no trial alive, Ray asks for the next one in a loop of its own, in which no callback is called.
        is_over: whether no trial will start any more, because a signal has come.
        """
        super().__init__()
        self._source = source
        self._make_job = make_job
        self.planned: dict[str, PlannedTrial] = {}  # by our trial_id
        self._is_held = is_held
        self._is_over = is_over

    def suggest(self, trial_id: str) -> dict | str | None:
        if self._is_over():
            return Searcher.FINISHED
        if self._is_held():
            return None  # Ray asks again
        planned = self._source.next()
        if planned is None:
            return Searcher.FINISHED
        job = self._make_job(planned)
        self.planned[job.trial_id] = planned
        return asdict(job)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """Nothing to do: the callback tells the source, with the score that stands in the tables."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: what was run stands in the tables."""

    def restore(self, checkpoint_path: str) -> None:
        """Never called: runs go on from the tables, not from Ray's snapshots."""
