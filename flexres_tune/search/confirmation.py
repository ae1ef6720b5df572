"""Confirmation: the best configurations of the screening run again on fresh seeds."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace

from flexres_tune.records import Stage, TrialStatus
from flexres_tune.search.base import History, Search
from flexres_tune.search.lists import ListSearch
from flexres_tune.spec import PlannedTrial, SweepSpec


def make_confirmation(spec: SweepSpec, screened: Sequence[PlannedTrial], history: History) -> Search:
    """The search that confirms a sweep: its best configurations with each seed of `confirm`; empty without `confirm`.

    `screened` are the trials of the screening, `history` what they reached.
    """
    trials = []
    if spec.confirm is not None:
        by_config = {trial.config.config_id: trial for trial in screened}
        for config_id in best_configs(screened, history)[: spec.confirm.top]:
            best = by_config[config_id]
            trials += [
                replace(best, config=best.config.model_copy(update={"seed": seed}), stage=Stage.CONFIRM)
                for seed in spec.confirm.seeds
            ]
    return ListSearch(trials, history)


def best_configs(screened: Sequence[PlannedTrial], history: History) -> list[str]:
    """config_ids, best first, of the configurations with at least one trial that ran to its end.

    A configuration's score is the mean over its seeds of the trial's best value of the metric. A seed that was
    stopped early counts with what it had reached: leaving it out would keep the mean of the lucky seeds.
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
    means = {key: statistics.fmean(scores[key]) for key in scores if key in has_completed}
    return sorted(means, key=lambda key: (-means[key], key))
