"""Which parameters matter: fANOVA's share of the variance of full-length trials, and its spread over repeats.

Hutter, Hoos and Leyton-Brown 2014, "An Efficient Approach for Assessing Hyperparameter Importance", as Optuna's
FanovaImportanceEvaluator has it: a random forest is fitted to the trials, and its variance is divided among them.
"""

from __future__ import annotations

import json
import math
import random
import statistics
import warnings
from typing import Any

import pyarrow as pa

from flexres_tune.analysis.leaderboard import distinguishing_columns
from flexres_tune.errors import ResultsError
from flexres_tune.records import TrialStatus
from flexres_tune.results.reader import Results

MIN_TRIALS = 16  # the forest must see each half of a parameter's range often enough to tell it from noise
MIN_PARAMETERS = 2  # of one alone the importance is 1, whatever it does
REPEATS = 8
MAX_TRIALS = 200  # of a repeat: 900 take 18 s a repeat, and 200 name the same parameters in 1.7 s

_SCHEMA = [("sweep", pa.string()), ("dataset", pa.string()), ("parameter", pa.string())]
_SCHEMA += [("importance_mean", pa.float64()), ("importance_sd", pa.float64())]
_SCHEMA += [("num_trials", pa.int64()), ("num_left_out", pa.int64()), ("repeats", pa.int64())]


def parameter_importance(results: Results, sweep: str, repeats: int = REPEATS) -> pa.Table:
    """A row a varied parameter, most important first: share of the variance of best_val_accuracy, mean and sd.

    Only trials that ran to their end, of the data set used last; num_left_out counts the others. Repeats differ in the
    forest's seed (0, 1, ...) and, of many trials, in those drawn; the same tables always give the same numbers.

    Raises:
        ResultsError: fewer than MIN_TRIALS full-length trials or MIN_PARAMETERS varied parameters, or no such sweep.
    """
    trials = results.trials(sweep).sort_by("finished_at").to_pylist()
    dataset = trials[-1]["dataset"] if trials else None
    rows = [row for row in trials if row["dataset"] == dataset]
    full = [row for row in rows if row["status"] == TrialStatus.COMPLETED and _is_finite(row["best_val_accuracy"])]
    names = [
        name for name in distinguishing_columns(results.trials(sweep)) if len({_text(row[name]) for row in full}) > 1
    ]
    if len(full) < MIN_TRIALS or len(names) < MIN_PARAMETERS:
        raise ResultsError(
            f"{sweep}: importance needs at least {MIN_TRIALS} trials that ran to their end and {MIN_PARAMETERS} "
            f"parameters that vary among them, but has {len(full)} and {len(names)}; fewer would name noise. Add "
            "values or seeds to the sweep file and run it again: only the new trials run"
        )
    full.sort(key=lambda row: (row["trial_id"], row["stage"]))  # not by time: that would differ between machines
    shares: dict[str, list[float]] = {name: [] for name in names}
    for seed in range(repeats):
        study = _study(_sample(full, seed), names)
        for name, share in _fanova(study, names, seed).items():
            shares[name].append(share)
    table = [
        {
            "sweep": sweep,
            "dataset": dataset,
            "parameter": name,
            "importance_mean": statistics.fmean(values),
            "importance_sd": statistics.stdev(values) if len(values) > 1 else None,
            "num_trials": len(full),
            "num_left_out": len(rows) - len(full),
            "repeats": repeats,
        }
        for name, values in shares.items()
    ]
    table.sort(key=lambda row: (-row["importance_mean"], row["parameter"]))
    return pa.Table.from_pylist(table, pa.schema(_SCHEMA))


def _sample(rows: list[dict], seed: int) -> list[dict]:
    """At most MAX_TRIALS of the rows, others in each repeat: the spread over repeats shows what that costs."""
    return rows if len(rows) <= MAX_TRIALS else random.Random(seed).sample(rows, MAX_TRIALS)


def _fanova(study: Any, names: list[str], seed: int) -> dict[str, float]:
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's notes on its own experimental parts
        return get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=seed), params=names)


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
            space[name] = CategoricalDistribution(sorted({_text(value) for value in values}))
        elif all(isinstance(value, int) for value in numbers):
            space[name] = IntDistribution(min(numbers), max(numbers))
        else:  # a range of more than a factor of 10 is walked in factors
            space[name] = FloatDistribution(
                min(numbers), max(numbers), log=min(numbers) > 0 and max(numbers) >= 10 * min(numbers)
            )
    study = optuna.create_study(direction="maximize")
    for row in rows:
        params = {
            name: _text(row[name]) if isinstance(space[name], CategoricalDistribution) else row[name] for name in names
        }
        study.add_trial(optuna.trial.create_trial(params=params, distributions=space, value=row["best_val_accuracy"]))
    return study


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _is_finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)
