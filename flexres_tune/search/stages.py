"""Screen, then confirm: which trials each stage of a sweep has yet to run; without ray."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.records import Stage, TrialStatus
from flexres_tune.search.sources import FixedTrials, TpeSearch, TrialSearch
from flexres_tune.spec import PlannedTrial, SweepSpec, expand_trials, trial_from_assignment
from flexres_tune.sweep.history import History


@dataclass(frozen=True)
class Work:
    """What one stage has yet to run."""

    stage: Stage
    source: TrialSearch
    num_todo: int
    num_done: int
    num_epochs: int  # of the trials yet to run, if none is stopped
    planned: Callable[[], Sequence[PlannedTrial]]  # all of the stage's trials known by now, done or not


def screen_work(spec: SweepSpec, memory: History) -> Work:
    """The trials that the sweep file describes.

    Raises:
        SpecError: the file's trials cannot be run as written; carries every problem.
    """
    trials = expand_trials(spec, describe_dataset)
    if spec.method != "tpe":
        return _listed(Stage.SCREEN, trials, memory)
    source = TpeSearch(spec, lambda values, seed: trial_from_assignment(spec, values, seed, describe_dataset))
    num_done = source.recall(memory)
    num_todo = max(0, spec.num_trials * len(spec.seeds) - num_done)
    epochs = spec.base.get("epochs", 20)
    return Work(Stage.SCREEN, source, num_todo, num_done, num_todo * epochs, lambda: source.drawn)


def confirm_work(spec: SweepSpec, screened: Sequence[PlannedTrial], memory: History) -> Work:
    """The best configurations of the screening on fresh seeds; none where the file has no `confirm`."""
    trials = []
    if spec.confirm is not None:
        by_config = {trial.config.config_id: trial for trial in screened}
        for config_id in best_configs(screened, memory)[: spec.confirm.top]:
            best = by_config[config_id]
            trials += [
                replace(best, config=best.config.model_copy(update={"seed": seed}), stage=Stage.CONFIRM)
                for seed in spec.confirm.seeds
            ]
    return _listed(Stage.CONFIRM, trials, memory)


def best_configs(screened: Sequence[PlannedTrial], memory: History) -> list[str]:
    """config_ids, best first, of the configurations with at least one trial that ran to its end.

    A configuration's score is the mean over its seeds of the trial's best value of the metric. A seed that was
    stopped early counts with what it had reached: leaving it out would keep the mean of the lucky seeds.
    """
    scores: dict[str, list[float]] = {}
    has_completed: set[str] = set()
    for trial in screened:
        row = memory.rows.get(trial.config.trial_id)
        score = memory.scores.get(trial.config.trial_id)
        if row is None or score is None:
            continue
        scores.setdefault(trial.config.config_id, []).append(score)
        if row["status"] == TrialStatus.COMPLETED:
            has_completed.add(trial.config.config_id)
    means: Mapping[str, float] = {key: statistics.fmean(scores[key]) for key in scores if key in has_completed}
    return sorted(means, key=lambda key: (-means[key], key))


def _listed(stage: Stage, trials: Sequence[PlannedTrial], memory: History) -> Work:
    missing = memory.missing(trials)
    num_epochs = sum(trial.config.epochs for trial in missing)
    return Work(stage, FixedTrials(missing), len(missing), len(trials) - len(missing), num_epochs, lambda: trials)
