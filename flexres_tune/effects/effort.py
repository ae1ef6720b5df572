"""Tuning effort: the expected best validation accuracy after n configurations, for each value of a parameter.

An optimizer that was tried more often has a higher maximum even if it is not better. Dodge et al. 2019, "Show your work:
improved reporting of experimental results", compare expected maxima at equal n. The band is that of Lourie, Cho and He
2023, "Show your work with confidence: confidence bands for tuning curves" (the package opda): a simultaneous band of the
distribution function of one configuration's accuracy, here Kolmogorov's exact one, carried over to the maximum of n. It
holds for all n at once, and needs that configurations are drawn independently. The estimate is the unbiased mean over all
subsets of n configurations, in place of the one of Dodge et al., which is too low (Tang et al. 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flexres_tune.analysis.metric import metric_of
from flexres_tune.analysis.ranked_trials import by_dataset, parameter_columns, ranked_trials
from flexres_tune.errors import ResultsError
from flexres_tune.records import Stage, TrialStatus, column
from flexres_tune.results.reader import Results
from flexres_tune.results.schema import column_of_key
from flexres_tune.text import did_you_mean
from flexres_tune.uncertainty.intervals import LEVEL

_EARLY = {TrialStatus.STOPPED, TrialStatus.PAUSED}  # by the search: without them the rest would be its survivors
_TOO_BAD = {TrialStatus.DIVERGED, TrialStatus.OUT_OF_MEMORY}
_ENDED = (TrialStatus.COMPLETED, *_EARLY, *_TOO_BAD)


@dataclass(frozen=True)
class TuningEffort:
    """The best that is to be expected of a number of configurations with one value of a parameter."""

    parameters: Mapping[str, Any]
    dataset: str = column("data set")
    num_tried: int = column("n: configurations of which the best is taken", "configurations")
    expected_best: float = column(
        "validation accuracy of the best of n, at the epoch of metric.at, mean over all choices of n", "fraction"
    )
    expected_best_low: float = column("95 % band, for all n at once", "fraction")
    expected_best_high: float = column("95 % band, for all n at once", "fraction")
    num_configs: int = column("configurations of the screening with this value", "configurations")
    num_stopped: int = column("those of them that were stopped early or paused: they count with what they had reached")
    num_failed: int = column("those of them that diverged or ran out of memory: they count as 0")
    num_left_out: int = column("further ones, whose trials all failed or were interrupted: they do not count")


def tuning_effort(results: Results, sweep: str, parameter: str) -> list[TuningEffort]:
    """Rows for n = 1, 2, 4, ... up to the number of configurations, per value of the parameter and data set.

    Only trials of the screening count: those of the confirmation were chosen. Several seeds of a configuration are
    averaged.

    Raises:
        ResultsError: the parameter does not vary, or no trial of the screening has ended.
    """
    trials = ranked_trials(results, sweep)
    varied = parameter_columns(results, sweep, trials)
    parameter = column_of_key(parameter, trials.column_names)
    if parameter not in varied:
        raise ResultsError(
            f"{sweep}: {parameter[:50]!r} does not vary{did_you_mean(parameter, varied)}; "
            f"what varies: {', '.join(varied) or 'nothing'}"
        )
    accuracy = f"{metric_of(results, sweep).at}_val_accuracy"
    rows: list[TuningEffort] = []
    for table in by_dataset(trials):
        groups: dict[str, list[dict]] = {}
        for row in table.to_pylist():
            if row["stage"] == Stage.SCREEN:
                groups.setdefault(str(row[parameter]), []).append(row)
        for group in groups.values():
            if ended := [row for row in group if row["status"] in _ENDED]:
                left_out = {row["config_id"] for row in group} - {row["config_id"] for row in ended}
                rows += _of_value(ended, parameter, accuracy, len(left_out))
    if not rows:
        raise ResultsError(f"{sweep}: no trial of the screening has ended yet")
    return rows


def _of_value(group: Sequence[dict], parameter: str, accuracy: str, num_left_out: int) -> list[TuningEffort]:
    by_config: dict[str, list[dict]] = {}
    for row in group:
        by_config.setdefault(row["config_id"], []).append(row)
    statuses = [{row["status"] for row in rows} for rows in by_config.values()]
    values = [np.mean([_value(row, accuracy) for row in rows]) for rows in by_config.values()]
    sizes = [n for n in (2**k for k in range(20)) if n < len(values)] + [len(values)]
    return [
        TuningEffort(
            parameters={parameter: group[0][parameter]},
            dataset=group[0]["dataset"],
            num_tried=n,
            expected_best=expected_best(values, n),
            expected_best_low=low,
            expected_best_high=high,
            num_configs=len(values),
            num_stopped=sum(bool(each & _EARLY) for each in statuses),
            num_failed=sum(bool(each & _TOO_BAD) for each in statuses),
            num_left_out=num_left_out,
        )
        for n, (low, high) in zip(sizes, band(values, sizes), strict=True)
    ]


def _value(row: Mapping[str, Any], accuracy: str) -> float:
    """A trial's validation accuracy in the column `accuracy`; 0 if it failed."""
    is_ok = row["status"] not in _TOO_BAD
    value = row[accuracy]
    return value if is_ok and value is not None and np.isfinite(value) else 0.0


def expected_best(values: Sequence[float], n: int) -> float:
    """Mean of the maximum over all subsets of n of the values: sum of y_(i) C(i-1, n-1) / C(N, n)."""
    from scipy.special import gammaln

    ordered = np.sort(np.asarray(values, float))
    total = len(ordered)
    i = np.arange(n, total + 1)
    log_choices = gammaln(i) - gammaln(n) - gammaln(i - n + 1)
    log_all = gammaln(total + 1) - gammaln(n + 1) - gammaln(total - n + 1)
    return float((np.exp(log_choices - log_all) * ordered[n - 1 :]).sum())


def band(values: Sequence[float], sizes: Sequence[int]) -> list[tuple[float, float]]:
    """Bounds of the expected maximum of n draws in [0, 1], for each n of `sizes`: the integral of 1 - F(y)^n.

    F is within the half width of Kolmogorov's statistic around the empirical distribution function, at all y at once.
    """
    from scipy.stats import kstwo

    ordered = np.concatenate([[0.0], np.sort(np.asarray(values, float)), [1.0]])
    widths = np.diff(ordered)
    empirical = np.arange(len(values) + 1) / len(values)  # between two values
    half = kstwo.ppf(LEVEL, len(values))
    above, below = np.minimum(empirical + half, 1), np.maximum(empirical - half, 0)
    return [(float(((1 - above**n) * widths).sum()), float(((1 - below**n) * widths).sum())) for n in sizes]
