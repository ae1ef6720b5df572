"""Method tpe with rungs: TPE draws configurations, which pause and continue as those of a list do."""

from __future__ import annotations

from flexres_tune.search.base import Assignment, History, Step, Workload
from flexres_tune.search.ladders import Candidate
from flexres_tune.search.pausing import Group, plan_rungs
from flexres_tune.search.rungs import RungSearch
from flexres_tune.search.tpe_draws import Drawn, Observed, TpeDraws
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
        self._spec, self._draws = spec, TpeDraws(spec)
        plan = plan_rungs(spec, ())
        self._groups = {group.level: group for group in plan.rungs}
        candidates = [self._candidate(each) for each in self._draws.recall(history)]
        ends = {group: group.epochs for group in plan.rungs}
        super().__init__(candidates, plan.rungs, ends, plan.eager, history, plan.ladders)

    def ask(self) -> Assignment | Step:
        while not isinstance(step := super().ask(), Assignment) and self._draws.num_to_come():
            drawn = self._draws.draw(self._observe())
            if drawn is not None:
                self._add(self._candidate(drawn))
            else:  # the level may have all its configurations now, so that the best of them continue
                self._has_news = True
                for group in self._tables:
                    self._explain_complete_rungs(group)
        return step

    def _num_to_come(self, group: Group) -> int:
        return self._draws.num_to_come(group.level)

    def _most_seeds(self) -> int:
        return len(self._spec.seeds)

    def _candidate(self, drawn: Drawn) -> Candidate:
        return Candidate(drawn.config_id, drawn.trials, self._groups[drawn.level])

    def _count(self) -> Workload:
        known, num_more = super()._count(), self._draws.num_to_come() * len(self._spec.seeds)
        if not (known.num_todo or num_more):
            return known
        return Workload(known.trials, known.missing, known.num_todo + num_more, known.num_done, self._num_epochs())

    def _observe(self) -> dict[str, Observed]:
        """What each configuration has reached: at its rungs, the last of which is its end."""
        observed = {}
        for index, candidate in enumerate(self._candidates):
            tables, end = self._tables[candidate.group], candidate.group.epochs
            scores = {table.rung.epochs: table.scores[index] for table in tables if index in table.scores}
            final = None if index in self._failed else scores.get(end)
            observed[candidate.config_id] = Observed(final, scores, index in self._failed)
        return observed
