"""Method tpe with rungs: TPE draws configurations, which pause and continue as those of a list do."""

from __future__ import annotations

from flexres_tune.search.base import Assignment, History, Step, Workload
from flexres_tune.search.ladders import Candidate
from flexres_tune.search.pausing import plan_rungs
from flexres_tune.search.rungs import RungSearch
from flexres_tune.search.tpe import Drawn, Observed, TpeDraws
from flexres_tune.spec import SweepSpec


class TpeRungSearch(RungSearch):
    """Successive halving, or its promotion form, over `num_trials` configurations that TPE draws one by one.

    A configuration is drawn if none can continue and a slot is free (Li et al. 2020, algorithm 2, with TPE in place of
    random draws, as in BOHB: Falkner et al. 2018). TPE learns from all that have reached a rung, by the mean over their
    seeds; those of a later rung rank above those of an earlier one. Deviation from BOHB: it has one model for the
    highest rung with enough configurations; here one model ranks all of them.
    """

    def __init__(self, spec: SweepSpec, history: History | None = None):
        history = history or History()
        self._spec, self._draws, self._is_exhausted = spec, TpeDraws(spec), False
        plan = plan_rungs(spec, ())
        (self._group,) = plan.rungs
        recalled = self._draws.recall(history)
        self._known: dict[str, Drawn] = {each.config_id: each for each in recalled}
        candidates = [self._candidate(each) for each in recalled]
        super().__init__(candidates, plan.rungs, self._group.epochs, plan.eager, history, plan.ladders)

    def ask(self) -> Assignment | Step:
        step = super().ask()
        if isinstance(step, Assignment) or not self._num_to_come():
            return step
        drawn = self._draws.draw(self._known, self._observe())
        if drawn is None:
            self._is_exhausted = self._has_news = True
            self._explain_complete_rungs(self._group)
        else:
            self._known[drawn.config_id] = drawn
            self._add(self._candidate(drawn))
        return super().ask()

    def _num_to_come(self) -> int:
        return 0 if self._is_exhausted else max(0, self._spec.num_trials - len(self._known))

    def _candidate(self, drawn: Drawn) -> Candidate:
        return Candidate(drawn.config_id, drawn.trials, self._group)

    def _count(self) -> Workload:
        known, num_more = super()._count(), self._num_to_come() * len(self._spec.seeds)
        if not (known.num_todo or num_more):
            return known
        num_epochs = self._num_epochs(len(self._spec.seeds))
        return Workload(known.trials, known.missing, known.num_todo + num_more, known.num_done, num_epochs)

    def _observe(self) -> dict[str, Observed]:
        """What each configuration has reached: at its rungs, the last of which is its end."""
        observed = {}
        for index, candidate in enumerate(self._candidates):
            tables = self._tables[self._group]
            scores = {table.rung.epochs: table.scores[index] for table in tables if index in table.scores}
            final = None if index in self._failed else scores.get(self._group.epochs)
            observed[candidate.config_id] = Observed(final, scores, index in self._failed)
        return observed
