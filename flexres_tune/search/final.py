"""Final run: the winner of the confirmation is trained once more on all training images, for the number of a paper."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace

from flexres_tune.records import Stage, TrialStatus
from flexres_tune.search.base import History, Search, Workload
from flexres_tune.search.lists import ListSearch
from flexres_tune.spec import PlannedTrial, SweepSpec
from flexres_tune.spec.trial import NO_SPLIT


def make_final(spec: SweepSpec, before: Sequence[Workload], history: History) -> Search:
    """The search of the final run; empty without `confirm.final`, and until the stages before it are complete.

    The run has the first seed of the sweep file. It is a configuration of its own, because it trains on other images: no
    mean and no rank has it. If the winner changes, because the sweep has grown, the new one is trained as well.

    Args:
        before: the work of the screening and of the confirmation.
    """
    if spec.confirm is None or spec.confirm.final is None or any(work.num_todo for work in before):
        return ListSearch(())
    winner = _winner([trial for work in before for trial in work.trials], history)
    return ListSearch([] if winner is None else [final_trial(winner, spec.seeds[0])], history)


def final_trial(winner: PlannedTrial, seed: int) -> PlannedTrial:
    """The winner's configuration on all training images."""
    config = winner.config.model_copy(update={"val_split": NO_SPLIT, "seed": seed})
    return replace(winner, config=config, stage=Stage.FINAL)


def _winner(trials: Sequence[PlannedTrial], history: History) -> PlannedTrial | None:
    """A trial of the configuration that leads the leaderboard: the best mean of those that were confirmed to the end.

    As there, the mean is over all its trials that ran to the end, those of the screening included, and ties go to the
    smaller model.
    """
    planned = {trial.config.config_id: trial for trial in reversed(trials)}
    scores: dict[str, list[float]] = {}
    confirmed: dict[str, bool] = {}  # config_id -> whether all its trials of the confirmation ran to the end
    for past in history.trials.values():
        is_whole = past.status == TrialStatus.COMPLETED and past.score is not None
        if is_whole:
            scores.setdefault(past.config_id, []).append(past.score)
        if past.stage == Stage.CONFIRM:
            confirmed[past.config_id] = confirmed.get(past.config_id, True) and is_whole
    able = [config_id for config_id, is_whole in confirmed.items() if is_whole and config_id in planned]
    return planned[min(able, key=lambda each: _rank(each, scores, planned))] if able else None


def _rank(
    config_id: str, scores: Mapping[str, Sequence[float]], planned: Mapping[str, PlannedTrial]
) -> tuple[float, int, str]:
    return -statistics.fmean(scores[config_id]), planned[config_id].num_parameters, config_id
