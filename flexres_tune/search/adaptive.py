"""Adaptive confirmation: each further fresh seed is run where it helps most to decide which configuration is best."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Hashable, Iterator, Mapping, Sequence

from flexres_tune.records import Decision, TrialStatus
from flexres_tune.search.base import DONE, WAIT, Assignment, History, Outcome, Search, Step, Workload
from flexres_tune.search.ladders import Candidate

P_OF_EARLY_END = 0.001  # so strict that a look after every run hardly changes the last test: Haybittle 1971, Peto 1976
RUNS_OF_A_LEADER = 2  # fresh runs of the best of each group, and of the baseline: with fewer, there is no interval
MIN_FREEDOM = 4  # degrees of freedom, before which no answer is believed


@functools.lru_cache(maxsize=256)
def t_quantile(freedom: int, tail: float) -> float:
    """The t with P(T > t) = tail < 0.5, of Student's t with `freedom` degrees of freedom.

    With t = sqrt(freedom) tan(a) the density is C cos(a)^(freedom - 1), integrated by Simpson's rule; relative error
    below 1e-5 up to 1,000 degrees. scipy.special has it, but takes 0.15 s to import, which is a quarter of a dry run.
    """
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)

    def probability_above(angle: float, num_steps: int = 400) -> float:
        width = (math.pi / 2 - angle) / num_steps
        values = [math.cos(angle + width * k) ** (freedom - 1) for k in range(num_steps)]
        last = 1.0 if freedom == 1 else 0.0
        return constant * width / 3 * (values[0] + 4 * sum(values[1::2]) + 2 * sum(values[2::2]) + last)

    low, high = 0.0, math.pi / 2
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if probability_above(middle) > tail else (low, middle)
    return math.sqrt(freedom) * math.tan(low)


class AdaptiveConfirmation(Search):
    """At most `num_runs` runs of some candidates, each on fresh seeds.

    Every candidate gets one run, unless its run of the screening has completed and it does not lead its group. If
    there are several groups, the leader of each gets a second one, so that its mean has an interval; so does the
    baseline in any case, because what the best gains over it is asked for. Each further run
    goes to the comparison that is least decided, which is the one with the smallest gap / sqrt(1/n_a + 1/n_b) if n is
    the number of runs, and there to the candidate with fewer runs. This is the rule EB-TC of Jourdan et al. 2022,
    "Top Two Algorithms Revisited", which draws lots between the two. The comparisons are: the leader of each group
    with every other candidate of the group, and the best leader with every other leader. Runs that have not ended
    count in n, so that all free slots are used.

    A completed run of the screening counts like a fresh one here: without it, the best candidate is named less often
    (`bench search`). It does not count in intervals and p values, because it was chosen for its luck.

    It ends early if the best leader differs from every other candidate with p < 0.001, Bonferroni over the candidates.
    A candidate with a run that fails or diverges is out.

    Args:
        candidates: best first. Their trials are the runs, in order; the k-th of each candidate has the same fresh seed.
        num_runs: of all candidates together, with those in `history`.
        history: what earlier runs of the sweep reached.
        screened: by config_id, the score of a candidate's run of the screening, if it has completed.
        baseline: config_id of the candidate that is the sweep's baseline.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        num_runs: int,
        history: History | None = None,
        screened: Mapping[str, float] | None = None,
        baseline: str | None = None,
    ):
        self._candidates = tuple(candidates)
        self._num_runs = num_runs
        self._baselines = [index for index, each in enumerate(self._candidates) if each.config_id == baseline]
        self._owner: dict[str, int] = {}  # trial_id -> index of its candidate
        self._groups: dict[Hashable, list[int]] = {}
        for index, each in enumerate(self._candidates):
            self._groups.setdefault(each.group, []).append(index)
            self._owner |= dict.fromkeys((trial.config.trial_id for trial in each.trials), index)
        self._given: list[int] = [0] * len(self._candidates)  # runs that were begun
        scores = [(screened or {}).get(each.config_id) for each in self._candidates]
        self._scores: list[list[float]] = [[] if score is None else [score] for score in scores]
        self._num_screened = [len(each) for each in self._scores]
        self._failed: set[int] = set()
        self._pending: set[str] = set()
        self._interrupted: list[Assignment] = []
        self._decisions: list[Decision] = []
        self._has_news, self._was_answered = True, False
        self._recall(history or History())
        trials = tuple(trial for each in self._candidates for trial in each.trials[:1])
        num_done = sum(self._given) - len(self._interrupted)
        num_todo = 0 if self._is_over() else max(0, num_runs - num_done)
        missing = (history or History()).missing(trials) if num_todo else ()
        num_epochs = num_todo * max((trial.config.epochs for trial in trials), default=0)
        self.work = Workload(trials, missing, num_todo, num_done, num_epochs)

    def ask(self) -> Assignment | Step:
        if self._interrupted:
            assignment = self._interrupted.pop(0)
        elif self._is_over() or (chosen := self._next()) is None:
            return WAIT if self._pending else DONE
        else:
            index, other = chosen
            assignment = Assignment.whole(self._candidates[index].trials[self._given[index]])
            self._explain(assignment, index, other)
            self._given[index] += 1
        self._pending.add(assignment.trial.config.trial_id)
        return assignment

    def tell(self, outcome: Outcome) -> None:
        trial_id = outcome.assignment.trial.config.trial_id
        self._pending.discard(trial_id)
        if outcome.status == TrialStatus.COMPLETED and outcome.score is not None and math.isfinite(outcome.score):
            self._scores[self._owner[trial_id]].append(outcome.score)
        elif outcome.status != TrialStatus.INTERRUPTED:
            self._failed.add(self._owner[trial_id])
        self._has_news = True

    def most_to_come(self) -> int:
        further = 0 if self._is_over() else max(0, self._num_runs - sum(self._given))
        return len(self._interrupted) + further

    def take_decisions(self) -> Sequence[Decision]:
        decisions, self._decisions = self._decisions, []
        return decisions

    def _explain(self, assignment: Assignment, index: int, other: int | None) -> None:
        """Why a run is given to a candidate: its mean so far, and that of the candidate it is compared with."""
        config = assignment.trial.config
        compared = None if other is None else self._candidates[other]
        self._decisions.append(
            Decision(
                trial_id=config.trial_id,
                epoch=0,
                rung=sum(self._given),
                value=statistics.fmean(self._scores[index]) if self._scores[index] else None,
                cutoff=statistics.fmean(self._scores[other]) if compared and self._scores[other] else None,
                action="allocate",
                ladder=f"confirm, {config.epochs} epochs",
                num_compared=sum(map(len, self._scores)),
                compared_with=compared.config_id if compared else None,
            )
        )

    def _recall(self, history: History) -> None:
        for index, candidate in enumerate(self._candidates):
            for trial in candidate.trials:
                past = history.trials.get(trial.config.trial_id)
                if past is None:
                    break
                self._given[index] += 1
                if not past.is_done:
                    self._interrupted.append(Assignment.whole(trial))
                elif past.status == TrialStatus.COMPLETED and past.score is not None:
                    self._scores[index].append(past.score)
                else:
                    self._failed.add(index)

    def _next(self) -> tuple[int, int | None] | None:
        """(candidate that gets the next run, the one that it is compared with); None if no candidate can have one."""
        able = {
            i for i, each in enumerate(self._candidates) if i not in self._failed and self._given[i] < len(each.trials)
        }
        for index in sorted(able):
            if not self._num_begun(index):
                return index, None
        if owed := self._owed():
            return min(owed, key=lambda index: self._given[index]), None
        pairs = [(self._distance(*pair), *pair) for pair in self._comparisons() if not able.isdisjoint(pair)]
        if not pairs:
            return (min(able), None) if able else None  # a single candidate has nothing to be compared with
        _, *pair = min(pairs)
        index = min((i for i in pair if i in able), key=self._num_begun)
        return index, pair[1] if index == pair[0] else pair[0]

    def _num_begun(self, index: int) -> int:
        """Runs of a candidate, ended or not, with that of the screening."""
        return self._num_screened[index] + self._given[index]

    def _leaders(self) -> list[int]:
        """The best candidate of each group that has one, best first."""
        able = ([i for i in group if i not in self._failed] for group in self._groups.values())
        return sorted((min(group, key=self._rank) for group in able if group), key=self._rank)

    def _owed(self) -> list[int]:
        """Candidates that have fewer fresh runs than they must have: the leaders, best first, then the baseline."""
        least = dict.fromkeys(self._leaders(), RUNS_OF_A_LEADER if len(self._groups) > 1 else 1)
        least |= {index: RUNS_OF_A_LEADER for index in self._baselines if index not in self._failed}
        return [i for i, runs in least.items() if self._given[i] < min(runs, len(self._candidates[i].trials))]

    def _comparisons(self) -> Iterator[tuple[int, int]]:
        """(leader, challenger) of all that must be decided to know the best candidate of each group and of all."""
        leaders = self._leaders()
        yield from ((leaders[0], i) for i in leaders[1:])
        for leader in leaders:
            group = self._groups[self._candidates[leader].group]
            yield from ((leader, i) for i in group if i != leader and i not in self._failed)

    def _rank(self, index: int) -> tuple[float, int]:
        """Sort key: the best mean first, then the order of the screening."""
        scores = self._scores[index]
        return (-statistics.fmean(scores) if scores else math.inf, index)

    def _distance(self, a: int, b: int) -> tuple[float, int]:
        """Gap of the means in units of its standard error (0 before a result), then the number of runs."""
        n_a, n_b = self._num_begun(a), self._num_begun(b)
        gap = 0.0
        if self._scores[a] and self._scores[b]:
            gap = abs(statistics.fmean(self._scores[a]) - statistics.fmean(self._scores[b]))
        return gap / math.sqrt(1 / n_a + 1 / n_b), n_a + n_b

    def _is_answered(self) -> bool:
        """Whether the leader differs from all others with p < P_OF_EARLY_END: t tests with the pooled deviation."""
        able = [i for i in range(len(self._candidates)) if i not in self._failed]
        freedom = sum(max(0, len(self._scores[i]) - 1) for i in able)
        if freedom < MIN_FREEDOM or not all(self._scores[i] for i in able) or len(able) < 2:
            return False
        squares = 0.0
        for scores in (self._scores[i] for i in able):
            mean = statistics.fmean(scores)
            squares += sum((score - mean) ** 2 for score in scores)
        leader, *others = sorted(able, key=self._rank)
        t = t_quantile(freedom, P_OF_EARLY_END / 2 / len(others)) * math.sqrt(squares / freedom)
        mean, n = statistics.fmean(self._scores[leader]), len(self._scores[leader])
        return squares > 0 and all(
            mean - statistics.fmean(self._scores[i]) > t * math.sqrt(1 / n + 1 / len(self._scores[i])) for i in others
        )

    def _is_over(self) -> bool:
        if sum(self._given) >= self._num_runs:
            return True
        if self._has_news:
            self._has_news, self._was_answered = False, self._was_answered or self._is_answered()
        return self._was_answered and not self._owed()
