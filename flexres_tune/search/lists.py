"""Grid and random search: a list of trials that was drawn, checked and ordered before the run."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from flexres_tune.search.base import DONE, Assignment, History, Outcome, Search, Step, Workload
from flexres_tune.spec import PlannedTrial


class ListSearch(Search):
    """The trials of a list that are not done, in its order. What it is told changes nothing."""

    def __init__(self, trials: Iterable[PlannedTrial], history: History | None = None):
        """`history`: trials that it has as done are skipped."""
        trials = tuple(trials)
        missing = (history or History()).missing(trials)
        num_epochs = sum(trial.config.epochs for trial in missing)
        self.work = Workload(trials, missing, len(missing), len(trials) - len(missing), num_epochs)
        self._queue = deque(missing)

    def ask(self) -> Assignment | Step:
        return Assignment.whole(self._queue.popleft()) if self._queue else DONE

    def tell(self, outcome: Outcome) -> None:
        pass
