"""Confirmation: the best configurations of the screening run again on fresh seeds."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.records import Stage, TrialStatus
from flexres_tune.search.adaptive import RUNS_OF_A_LEADER, AdaptiveConfirmation
from flexres_tune.search.base import History, Search
from flexres_tune.search.ladders import Candidate
from flexres_tune.search.lists import ListSearch
from flexres_tune.spec import PlannedTrial, SweepSpec
from flexres_tune.spec.expand import baseline_trial
from flexres_tune.spec.levels import level_of

FIRST_FRESH_SEED = 1000  # of `confirm.num_runs`: far from the seeds that people write, so that these may grow later


def make_confirmation(spec: SweepSpec, screened: Sequence[PlannedTrial], history: History) -> Search:
    """The search that confirms a sweep: its best configurations on fresh seeds; empty without `confirm`.

    With `compare`, the best configurations of each level. `screened` are the trials of the screening, `history` what they
    reached.
    """
    if spec.confirm is None:
        return ListSearch(())
    by_config = {trial.config.config_id: trial for trial in screened}
    levels = _best_per_level(spec, screened, history)
    chosen = [by_config[config_id] for config_id in _interleave(ids[: spec.confirm.top] for ids in levels)]
    baseline = baseline_trial(spec, describe_dataset)
    is_extra = baseline is not None and all(trial.config.config_id != baseline.config.config_id for trial in chosen)
    chosen += [baseline] if is_extra and chosen else []
    if spec.confirm.seeds is not None:
        return ListSearch([_confirm(trial, seed) for trial in chosen for seed in spec.confirm.seeds], history)
    num_seeds = max(RUNS_OF_A_LEADER, spec.confirm.num_runs - len(chosen) + 1)
    seeds = list(itertools.islice(fresh_seeds(spec), num_seeds))
    candidates = [
        Candidate(
            trial.config.config_id,
            tuple(_confirm(trial, seed) for seed in seeds),
            # A group of its own is compared with the best configuration of all, and gets a fresh run in any case.
            "baseline" if is_extra and trial is baseline else level_of(spec, trial.varied) or None,
        )
        for trial in chosen
    ]
    return AdaptiveConfirmation(
        candidates,
        spec.confirm.num_runs,
        history,
        _mean_scores(screened, history),
        baseline.config.config_id if baseline else None,
    )


def fresh_seeds(spec: SweepSpec) -> Iterator[int]:
    """Seeds for `confirm.num_runs`, which the screening does not use."""
    return (seed for seed in itertools.count(FIRST_FRESH_SEED) if seed not in spec.seeds)


def best_configs(screened: Sequence[PlannedTrial], history: History) -> list[str]:
    """config_ids, best first, of the configurations with at least one trial that ran to its end.

    The best mean first, see _mean_scores().
    """
    means = _mean_scores(screened, history)
    return sorted(means, key=lambda key: (-means[key], key))


def _mean_scores(screened: Sequence[PlannedTrial], history: History) -> dict[str, float]:
    """The score of each configuration with at least one trial that ran to its end, by config_id.

    It is the mean over its seeds of the trial's best value of the metric. A seed that was stopped early counts with
    what it had reached: leaving it out would keep the mean of the lucky seeds.
    """
    scores: dict[str, list[float]] = {}
    has_completed: set[str] = set()
    for trial in screened:
        past = history.trials.get(trial.config.trial_id)
        if past is None or past.score is None:
            continue
        scores.setdefault(trial.config.config_id, []).append(past.score)
        if past.status == TrialStatus.COMPLETED:
            has_completed.add(trial.config.config_id)
    return {key: statistics.fmean(scores[key]) for key in scores if key in has_completed}


def _best_per_level(spec: SweepSpec, screened: Sequence[PlannedTrial], history: History) -> list[list[str]]:
    """config_ids of each level, best first, of those that ran to their end."""
    level = {trial.config.config_id: level_of(spec, trial.varied) for trial in screened}
    levels: dict[str, list[str]] = {}
    for config_id in best_configs(screened, history):
        levels.setdefault(level[config_id], []).append(config_id)
    return list(levels.values())


def _interleave(lists: Iterable[Sequence[str]]) -> Iterator[str]:
    """The first of each list, then the second of each, and so on."""
    return (each for row in itertools.zip_longest(*lists) for each in row if each is not None)


def _confirm(trial: PlannedTrial, seed: int) -> PlannedTrial:
    return replace(trial, config=trial.config.model_copy(update={"seed": seed}), stage=Stage.CONFIRM)
