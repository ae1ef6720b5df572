"""Importance of each parameter: fANOVA's share of the variance over trials that ran to the end.

Hutter, Hoos and Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter Importance", as Optuna's
FanovaImportanceEvaluator implements it: a random forest is fitted to the trials, and its variance is divided among the
parameters. It is repeated with different forests to show how much its answer varies.
"""

from __future__ import annotations

import json
import random
import statistics
import warnings
from dataclasses import dataclass
from typing import Any

from flexres_tune.analysis.metric import metric_of
from flexres_tune.analysis.ranked_trials import by_dataset, parameter_columns, trials_with_metric
from flexres_tune.errors import ResultsError
from flexres_tune.records import TrialStatus, column
from flexres_tune.results.reader import Results

MIN_TRIALS = 16  # the forest must see each half of a parameter's range often enough to tell an effect from noise
MIN_PARAMETERS = 2  # the importance of a single one is 1, whatever it does
REPEATS = 8
NUM_TREES = 32  # per forest; Optuna's 64 take twice as long, and the mean over 8 forests differs by less than its sd
MAX_TRIALS = 200  # per repeat: 900 trials take 18 s, and 200 give the same order of parameters in 1.7 s


@dataclass(frozen=True)
class Importance:
    """A parameter's share of the variance of the best value of the sweep's metric."""

    sweep: str = column("sweep's name")
    dataset: str = column("data set used last; trials on others are left out")
    parameter: str = column("the parameter")
    importance_mean: float = column("share of the variance, mean over repeats", "share")
    importance_sd: float | None = column("its standard deviation over repeats", "share")
    num_trials: int = column("trials that ran to the end", "trials")
    num_left_out: int = column("other trials", "trials")
    repeats: int = column("random forests fitted", "forests")


def parameter_importance(results: Results, sweep: str, repeats: int = REPEATS) -> list[Importance]:
    """The parameters that vary, most important first.

    Repeats differ in the forest's seed (0, 1, ...) and, if there are more than MAX_TRIALS, in the trials that are
    drawn. The same tables always give the same numbers.

    Raises:
        ResultsError: fewer than MIN_TRIALS trials that ran to the end, or MIN_PARAMETERS parameters that vary among
            them; or no such sweep.
    """
    trials = trials_with_metric(results, sweep, metric_of(results, sweep))
    rows = by_dataset(trials)[0].to_pylist()
    completed = [row for row in rows if row["status"] == TrialStatus.COMPLETED and row["metric"] is not None]
    varied = parameter_columns(results, sweep, trials)
    names = [name for name in varied if len({_category(row[name]) for row in completed}) > 1]
    if len(completed) < MIN_TRIALS or len(names) < MIN_PARAMETERS:
        raise ResultsError(
            f"{sweep}: importance needs at least {MIN_TRIALS} trials that ran to the end and {MIN_PARAMETERS} "
            f"parameters that vary among them, but has {len(completed)} and {len(names)}; with fewer the answer would "
            "be noise. Add values or seeds to the sweep file and run it again: only the new trials run"
        )
    completed.sort(key=lambda row: (row["trial_id"], row["stage"]))  # not by time, which differs between machines
    shares: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(repeats):
        # Different ones per seed, so that the spread over repeats shows what sampling costs.
        some = random.Random(seed).sample(completed, MAX_TRIALS) if len(completed) > MAX_TRIALS else completed
        for name, share in _fanova(_study(some, names), names, seed).items():
            shares[name].append(share)
    importances = [
        Importance(
            sweep=sweep,
            dataset=rows[0]["dataset"],
            parameter=name,
            importance_mean=statistics.fmean(values),
            importance_sd=statistics.stdev(values) if len(values) > 1 else None,
            num_trials=len(completed),
            num_left_out=len(rows) - len(completed),
            repeats=repeats,
        )
        for name, values in shares.items()
    ]
    return sorted(importances, key=lambda each: (-each.importance_mean, each.parameter))


def _fanova(study: Any, names: list[str], seed: int) -> dict[str, float]:
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's notes on its own experimental parts
        return get_param_importances(
            study, evaluator=FanovaImportanceEvaluator(n_trees=NUM_TREES, seed=seed), params=names
        )


def _study(rows: list[dict], names: list[str]) -> Any:
    """The rows as an Optuna study in memory."""
    import optuna
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    space: dict[str, Any] = {}
    for name in names:
        values = [row[name] for row in rows]
        numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
        if len(numbers) < len(values):
            space[name] = CategoricalDistribution(sorted({_category(value) for value in values}))
        elif all(isinstance(value, int) for value in numbers):
            space[name] = IntDistribution(min(numbers), max(numbers))
        else:  # log scale if the range spans a factor of 10 or more
            is_log = min(numbers) > 0 and max(numbers) >= 10 * min(numbers)
            space[name] = FloatDistribution(min(numbers), max(numbers), log=is_log)
    study = optuna.create_study(direction="maximize")
    for row in rows:
        params = {
            name: _category(row[name]) if isinstance(space[name], CategoricalDistribution) else row[name]
            for name in names
        }
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=row["metric"]))
    return study


def _category(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
