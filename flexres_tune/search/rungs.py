"""Searches that pause configurations at rungs: successive halving, its asynchronous form (ASHA), and Hyperband.

A rung is a number of epochs. A configuration that has trained so far pauses there with all its seeds, and continues if
it is among the best at the rung. No configuration is stopped: a paused one keeps its checkpoints.
"""

from __future__ import annotations

import bisect
import itertools
import math
import statistics
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from flexres_tune.records import Decision, TrialStatus
from flexres_tune.search.base import DONE, WAIT, Assignment, History, Outcome, PastTrial, Search, Step, Workload
from flexres_tune.search.ladders import Candidate, Rung
from flexres_tune.search.lists import move_to_front
from flexres_tune.spec import PlannedTrial


@dataclass
class _RungTable:
    """One rung of one group: indices of the candidates that train up to it, and the scores of those that reached it."""

    rung: Rung
    num_planned: int = 0  # candidates that will reach it, if none fails
    entrants: set[int] = field(default_factory=set)
    scores: dict[int, float] = field(default_factory=dict)


class RungSearch(Search):
    """Successive halving over a list of configurations (Jamieson and Talwalkar 2016), or its promotion form.

    - eager=False: no configuration continues until all of its group have reached the rung.
    - eager=True: it continues as soon as it is among the best m * keep / n of the m that have reached the rung, if n
      will reach it (ASHA: Li et al. 2020, algorithm 2, get_job). A free slot continues a configuration of the
      highest rung that has one, otherwise it begins a new configuration, otherwise it waits. Deviation: when all n have
      reached the rung, at least `keep` continue, so that a small group has a configuration that reaches the end.

    A configuration with a seed that fails or diverges does not continue; the next best one does. A group without rungs
    whose configurations do not run to the end has nothing to train.

    Args:
        candidates: in the order in which they begin.
        rungs: of each group.
        until: number of epochs for which those train that continue after the last rung; None: they pause there. A
            mapping gives it for each group.
        eager: see above.
        history: what earlier runs of the sweep reached.
        ladders: names of the groups in `decisions`; decisions are made only about groups that have one.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        rungs: Mapping[Hashable, Sequence[Rung]],
        until: int | Mapping[Hashable, int] | None,
        eager: bool = False,
        history: History | None = None,
        ladders: Mapping[Hashable, str] | None = None,
    ):
        self._eager = eager
        ends = until if isinstance(until, Mapping) else dict.fromkeys(rungs, until)
        self._tables = {
            group: [*map(_RungTable, ladder), *([] if until is None else [_RungTable(Rung(ends[group], 0))])]
            for group, ladder in rungs.items()
        }
        self._ladders = ladders or {}
        self._decisions: list[Decision] = []
        self._closed: set[tuple[Hashable, int]] = set()  # (group, depth) of rungs that all have reached, with decisions
        self._candidates: list[Candidate] = []
        self._owner: dict[str, int] = {}  # trial_id -> index of its candidate
        self._target: list[int] = []  # index of the rung up to which each candidate trains or trained
        self._new: deque[int] = deque()
        for candidate in candidates:
            self._add(candidate)
        for group, tables in self._tables.items():
            if tables:
                tables[0].num_planned = len(tables[0].entrants) + self._num_to_come(group)
            for table, following in itertools.pairwise(tables):
                following.num_planned = min(table.rung.keep, table.num_planned)
        self._reached: dict[str, dict[int, float]] = {}  # trial_id -> epoch -> score
        self._failed: set[int] = set()
        self._pending: set[str] = set()  # trial_ids of assignments that run
        self._queue: deque[Assignment] = deque()
        self._has_news = True  # whether an event since the last look may let a configuration continue
        self._recall((history or History()).trials)

    @cached_property
    def work(self) -> Workload:
        """What there is to do before the first ask()."""
        return self._count()

    def _count(self) -> Workload:
        trials = tuple(trial for candidate in self._candidates for trial in candidate.trials)
        if not (self._queue or self._new or self._next_to_continue() is not None):
            return Workload(trials, (), 0, len(trials), 0)
        missing = tuple(trial for trial in trials if not self._has_ended(trial))
        return Workload(trials, missing, len(missing), len(trials) - len(missing), self._num_epochs())

    def ask(self) -> Assignment | Step:
        while not self._queue:
            index = self._next_to_continue()
            if index is None and self._new:
                index = self._new.popleft()
            if index is None:
                return WAIT if self._pending else DONE
            self._send(index)
            self._explain_promotion(index)
        assignment = self._queue.popleft()
        self._pending.add(assignment.trial.config.trial_id)
        return assignment

    def tell(self, outcome: Outcome) -> None:
        trial_id = outcome.assignment.trial.config.trial_id
        self._pending.discard(trial_id)
        index = self._owner[trial_id]
        if outcome.status in (TrialStatus.PAUSED, TrialStatus.COMPLETED) and _is_finite(outcome.last_score):
            self._reached.setdefault(trial_id, {})[outcome.assignment.until_epoch] = outcome.last_score
            self._arrive(index, self._target[index])
            self._explain_pause(index)
        elif outcome.status != TrialStatus.INTERRUPTED:
            self._fail(index)
        self._explain_complete_rungs(self._candidates[index].group)

    def most_to_come(self) -> int:
        most_seeds, number = self._most_seeds(), len(self._queue)
        for group, tables in self._tables.items():
            coming = sum(self._candidates[index].group == group for index in self._new) + self._num_to_come(group)
            number += coming * most_seeds
            entering = []
            for depth in range(len(tables) - 1):
                coming = self._num_to_enter(group, depth, coming)
                entering.append(coming * most_seeds)
            number += sum(entering) if self._eager else max(entering, default=0)
        return number

    def _num_to_enter(self, group: Hashable, depth: int, num_coming: int) -> int:
        """The most configurations that may still continue from a rung, which `num_coming` will still begin."""
        table, after = self._tables[group][depth], self._tables[group][depth + 1].entrants
        if self._is_complete(group, depth):
            return len(set(self._best(table)[: table.rung.keep]) - after)
        missing = max(0, table.rung.keep - len(after))
        if not self._eager:
            return missing
        # each arrival lets at most one more continue, itself or another one
        return missing + num_coming + len(table.entrants - table.scores.keys() - self._failed)

    def prioritise(self, trial_id: str) -> bool:
        """The whole configuration begins next, after those that may continue."""
        queued = [each for each in self._queue if each.trial.config.trial_id == trial_id]
        if move_to_front(self._queue, queued):
            return True
        return move_to_front(self._new, [i for i in self._new if i == self._owner.get(trial_id)])

    def take_decisions(self) -> Sequence[Decision]:
        decisions, self._decisions = self._decisions, []
        return decisions

    def survivors(self) -> dict[Hashable, list[Candidate]]:
        """Of each group, the configurations that continue after its last rung, best first; the best so far meanwhile.

        A group without rungs: all configurations that have reached the end, or all if none runs to the end.
        """
        found = {}
        for group, tables in self._tables.items():
            if not tables:
                found[group] = [each for each in self._candidates if each.group == group]
                continue
            last = [table for table in tables if table.rung.keep][-1:] or tables
            found[group] = [self._candidates[index] for index in self._best(last[0])[: last[0].rung.keep or None]]
        return found

    def _add(self, candidate: Candidate) -> None:
        """A further candidate, which begins after those that are there."""
        index = len(self._candidates)
        self._candidates.append(candidate)
        self._target.append(-1)
        self._owner |= dict.fromkeys((trial.config.trial_id for trial in candidate.trials), index)
        if tables := self._tables[candidate.group]:
            tables[0].entrants.add(index)
            self._new.append(index)

    def _num_to_come(self, group: Hashable) -> int:
        """Candidates of a group that are still to be added: a list has all of them, a search that draws has not."""
        return 0

    def _most_seeds(self) -> int:
        """The most trials that a candidate has."""
        return max((len(each.trials) for each in self._candidates), default=0)

    def _next_to_continue(self) -> int | None:
        """The best configuration that may continue, of the highest rung that has one."""
        if not self._has_news:
            return None
        for depth in reversed(range(max(map(len, self._tables.values()), default=1) - 1)):
            for group, tables in self._tables.items():
                if depth < len(tables) - 1:
                    for index in self._best(tables[depth])[: self._num_to_continue(group, depth)]:
                        if index not in tables[depth + 1].entrants:
                            return index
        self._has_news = False
        return None

    def _num_to_continue(self, group: Hashable, depth: int) -> int:
        table = self._tables[group][depth]
        if self._is_complete(group, depth):
            return table.rung.keep
        return len(table.scores) * table.rung.keep // table.num_planned if self._eager else 0

    def _is_complete(self, group: Hashable, depth: int) -> bool:
        """Whether no further candidate will reach a rung."""
        table = self._tables[group][depth]
        if not all(index in table.scores or index in self._failed for index in table.entrants):
            return False
        if depth == 0:
            return not self._num_to_come(group)
        before = self._tables[group][depth - 1]
        return self._is_complete(group, depth - 1) and table.entrants.issuperset(self._best(before)[: before.rung.keep])

    def _best(self, table: _RungTable) -> list[int]:
        """Candidates at a rung that have not failed, best first; equal ones in the order of their ids.

        Their place in the sweep does not decide: it may change if the sweep grows.
        """
        able = table.scores.keys() - self._failed
        return sorted(able, key=lambda index: (-table.scores[index], self._candidates[index].config_id))

    def _send(self, index: int) -> None:
        """Let a configuration train up to its next rung."""
        self._target[index] += 1
        depth = self._target[index]
        self._tables[self._candidates[index].group][depth].entrants.add(index)
        self._queue.extend(self._missing(index))
        self._arrive(index, depth)

    def _missing(self, index: int) -> list[Assignment]:
        """What a configuration needs to reach the rung for which it trains."""
        rung = self._tables[self._candidates[index].group][self._target[index]].rung
        trials = self._candidates[index].trials[: rung.num_seeds]
        return [Assignment(t, rung.epochs) for t in trials if rung.epochs not in self._scores_of(t)]

    def _arrive(self, index: int, depth: int) -> None:
        """Enter a configuration at a rung if all its seeds have reached it."""
        table = self._tables[self._candidates[index].group][depth]
        trials = self._candidates[index].trials[: table.rung.num_seeds]
        scores = [self._scores_of(trial).get(table.rung.epochs) for trial in trials]
        if None not in scores:
            table.scores[index] = scores[0] if len(scores) == 1 else statistics.fmean(scores)
            self._has_news = True

    def _explain_promotion(self, index: int) -> None:
        """Why a configuration continues: its place at the rung that it leaves."""
        depth = self._target[index] - 1
        if depth >= 0:
            tables = self._tables[self._candidates[index].group]
            self._explain(index, depth, "promote", tables[depth + 1].rung.epochs)

    def _explain_pause(self, index: int) -> None:
        """Why a configuration that has just reached a rung does not continue for now; eager only."""
        group, depth = self._candidates[index].group, self._target[index]
        tables = self._tables[group]
        if not self._eager or depth == len(tables) - 1 or index not in tables[depth].scores:
            return
        is_among_best = index in self._best(tables[depth])[: self._num_to_continue(group, depth)]
        if not is_among_best and not self._is_complete(group, depth):
            self._explain(index, depth, "pause")

    def _explain_complete_rungs(self, group: Hashable) -> None:
        """Why configurations are paused at rungs that all of their group have reached."""
        if group not in self._ladders:
            return
        tables = self._tables[group]
        for depth, table in enumerate(tables):
            if not table.rung.keep or (group, depth) in self._closed or not self._is_complete(group, depth):
                continue
            self._closed.add((group, depth))
            for place, index in enumerate(self._best(table)):
                continues = depth + 1 < len(tables) and index in tables[depth + 1].entrants
                if place >= table.rung.keep and not continues:
                    self._explain(index, depth, "pause")

    def _explain(self, index: int, depth: int, action: str, until_epoch: int | None = None) -> None:
        candidate = self._candidates[index]
        if candidate.group not in self._ladders:
            return
        table = self._tables[candidate.group][depth]
        best = self._best(table)
        last = min(self._num_to_continue(candidate.group, depth), len(best))
        for trial in candidate.trials[: table.rung.num_seeds]:
            self._decisions.append(
                Decision(
                    trial_id=trial.config.trial_id,
                    epoch=table.rung.epochs,
                    rung=depth,
                    value=table.scores[index],
                    cutoff=table.scores[best[last - 1]] if last else None,
                    action=action,
                    ladder=self._ladders[candidate.group],
                    until_epoch=until_epoch,
                    rank=best.index(index) + 1,
                    num_compared=len(best),
                )
            )

    def _fail(self, index: int) -> None:
        self._failed.add(index)
        self._has_news = True
        self._queue = deque(each for each in self._queue if self._owner[each.trial.config.trial_id] != index)

    def _recall(self, trials: Mapping[str, PastTrial]) -> None:
        """Rebuild the state. Assignments that were interrupted come first, then those that had not begun."""
        begun: list[Assignment] = []
        for index, candidate in enumerate(self._candidates):
            past = [trials[t.config.trial_id] for t in candidate.trials if t.config.trial_id in trials]
            if not past or not self._tables[candidate.group]:
                continue
            self._new.remove(index)
            tables = self._tables[candidate.group]
            self._reached |= {each.trial_id: dict(each.scores) for each in past}
            self._target[index] = max(_depth(each, tables) for each in past)
            for depth in range(self._target[index] + 1):
                tables[depth].entrants.add(index)
                self._arrive(index, depth)
            if any(each.is_done and each.status != TrialStatus.COMPLETED for each in past):
                self._fail(index)
            else:
                begun += self._missing(index)
        begun.sort(key=lambda each: not _is_interrupted(trials.get(each.trial.config.trial_id)))  # stable
        self._queue.extend(begun)
        for index in range(len(self._candidates)):  # of those that the tables have, the journal writes none again
            if self._target[index] >= 0 and index not in self._failed:
                self._explain_pause(index)
        for group in self._tables:
            self._explain_complete_rungs(group)

    def _scores_of(self, trial: PlannedTrial) -> Mapping[int, float]:
        return self._reached.get(trial.config.trial_id, {})

    def _has_ended(self, trial: PlannedTrial) -> bool:
        """Whether no search would train the trial further."""
        index = self._owner[trial.config.trial_id]
        tables = self._tables[self._candidates[index].group]
        return not tables or index in self._failed or tables[-1].rung.epochs in self._scores_of(trial)

    def _num_epochs(self) -> int:
        """Epochs until the end, if no configuration fails and none continues early."""
        total, num_seeds = 0, self._most_seeds()
        for tables in self._tables.values():
            seeds_before, before = 0, 0
            for table in tables:
                seeds = min(num_seeds, table.rung.num_seeds or num_seeds)
                cost = seeds * table.rung.epochs - min(seeds, seeds_before) * before
                total += max(0, table.num_planned - len(table.scores)) * cost
                seeds_before, before = seeds, table.rung.epochs
        return total


def _depth(past: PastTrial, tables: Sequence[_RungTable]) -> int:
    """Index of the rung up to which a trial trained or was training.

    A driver that was killed after it had promoted a trial has left a row that says `paused`.
    """
    if past.status == TrialStatus.COMPLETED:
        return len(tables) - 1
    places, reached = [table.rung.epochs for table in tables], max(past.scores, default=0)
    if past.until_epoch is not None and past.until_epoch > reached:
        return min(bisect.bisect_left(places, past.until_epoch), len(places) - 1)
    if past.status == TrialStatus.INTERRUPTED:
        return min(bisect.bisect_left(places, reached), len(places) - 1)
    return max(0, bisect.bisect_right(places, reached) - 1)


def _is_interrupted(past: PastTrial | None) -> bool:
    return past is not None and past.status == TrialStatus.INTERRUPTED


def _is_finite(score: float | None) -> bool:
    return score is not None and math.isfinite(score)
