"""What accuracy costs: the best at equal epochs and at equal device-seconds, and the Pareto fronts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa

from flexres_tune.analysis.leaderboard import Board, BoardRow, leaderboards
from flexres_tune.analysis.metric import RankingMetric
from flexres_tune.analysis.rows import to_table
from flexres_tune.records import TrialStatus, column
from flexres_tune.results.own_values import with_metric
from flexres_tune.results.reader import Results
from flexres_tune.results.sql import run_sql


@dataclass(frozen=True)
class BestAtBudget:
    """The configuration that is best if each trial may cost at most `budget`."""

    sweep: str = column("sweep's name")
    dataset: str = column("data set")
    budget_of: str = column("epochs | device_seconds")
    budget: float = column("epochs, or device-seconds, per trial")
    config_id: str = column("the best configuration")
    parameters: Mapping[str, Any]
    metric_mean: float | None = column(
        "mean over seeds of the best or last epoch within the budget, as the sweep file says", "metric"
    )
    metric_sd: float | None = column("its standard deviation", "metric")
    num_seeds: int = column("trials that the mean is over", "seeds")
    num_configs: int = column("configurations that were compared", "configurations")


@dataclass(frozen=True)
class FrontPoint:
    """A configuration on the front of accuracy against one cost."""

    sweep: str = column("sweep's name")
    dataset: str = column("data set")
    against: str = column("num_parameters | device_seconds_per_trial")
    config_id: str = column("the configuration")
    parameters: Mapping[str, Any]
    num_parameters: int = column("trainable parameters of the model", "parameters")
    device_seconds_per_trial: float | None = column("training time of a trial, mean", "s")
    metric_mean: float | None = column("mean over seeds", "metric")
    metric_sd: float | None = column("its standard deviation", "metric")
    num_seeds: int = column("seeds that count", "seeds")


def equal_cost(results: Results, sweep: str, boards: Sequence[Board] | None = None) -> list[BestAtBudget]:
    """The best configuration per budget, of epochs and of device-seconds per trial.

    Only configurations all of whose trials ran to the end are compared, each by the best or the last epoch that fits
    into the budget, as `metric.at` says. The first budget is the smallest that one epoch of each fits into; each budget is twice the one before. A
    learning-rate schedule spans a trial's own length, so a long trial that is cut here is not what a short one would
    have been.

    Raises:
        ResultsError: no such sweep.
    """
    boards = boards or leaderboards(results, sweep)
    ranked = {row.config_id: row for board in boards for row in board.ranked}
    metric = boards[0].metric
    sign = "" if metric.is_maximized else "-"
    reached = "arg_max(score, cost)" if metric.at == "last" else "max(score)"
    best = run_sql(
        f"""
        WITH extremes AS (
            SELECT dataset, budget_of, max(cost) AS most, greatest(min(cost), 1e-3) AS least FROM spent GROUP BY ALL
        ), halvings AS (  -- of the highest cost, down to the lowest cost of one epoch
            SELECT dataset, budget_of, most / 2 ** unnest(
                range(1 + CASE WHEN most > least THEN ceil(log2(most / least) - 1e-9)::BIGINT ELSE 0 END)
            ) AS amount FROM extremes
        ), budgets AS (
            SELECT dataset, budget_of, CASE budget_of WHEN 'epochs' THEN floor(amount) ELSE amount END AS budget
            FROM halvings
        ), reached AS (
            SELECT dataset, budget_of, budget, config_id, num_trials, trial_id, {reached} AS score
            FROM budgets JOIN spent USING (dataset, budget_of) WHERE cost <= budget + 1e-9 GROUP BY ALL
        ), means AS (
            SELECT dataset, budget_of, budget, config_id, {sign}avg(score) AS metric_mean,
                stddev_samp(score) AS metric_sd, count(score) AS num_seeds
            FROM reached GROUP BY ALL HAVING count(*) = any_value(num_trials)
        )
        SELECT *, count(*) OVER (PARTITION BY dataset, budget_of, budget) AS num_configs FROM means
        QUALIFY row_number() OVER (
            PARTITION BY dataset, budget_of, budget ORDER BY {sign}metric_mean DESC NULLS LAST, config_id
        ) = 1
        ORDER BY dataset, budget_of DESC, budget
        """,
        {"spent": _spent(results, sweep, ranked, metric)},
    )
    return [
        BestAtBudget(sweep=sweep, parameters=ranked[row["config_id"]].parameters, **row) for row in best.to_pylist()
    ]


def _spent(results: Results, sweep: str, ranked: Mapping[str, BoardRow], metric: RankingMetric) -> pa.Table:
    """What each trial that counts had cost, in epochs and in device-seconds, when it reached each score."""
    configurations = to_table(BoardRow, list(ranked.values()))
    sign = "" if metric.is_maximized else "-"
    query = f"""
        WITH counted AS (
            SELECT t.trial_id, t.config_id, t.dataset, count(*) OVER (PARTITION BY t.config_id) AS num_trials
            FROM trials t SEMI JOIN configurations c ON t.config_id = c.config_id AND t.stage = c.stage
            WHERE t.status = '{TrialStatus.COMPLETED}'
        ), curves AS (
            SELECT counted.*, epoch AS epochs,
                sum(epoch_seconds) OVER (PARTITION BY trial_id ORDER BY epoch) AS device_seconds,
                CASE WHEN isfinite({metric.name}) THEN {sign}{metric.name} END AS score
            FROM epochs JOIN counted USING (trial_id)
        )
        SELECT trial_id, config_id, dataset, num_trials, score, 'epochs' AS budget_of, epochs::DOUBLE AS cost
        FROM curves
        UNION ALL
        SELECT trial_id, config_id, dataset, num_trials, score, 'device_seconds', device_seconds FROM curves
    """
    tables = {
        "trials": results.trials(sweep),
        "epochs": with_metric(results.epochs(sweep), metric.name),
        "configurations": configurations,
    }
    return run_sql(query, tables)


def pareto(results: Results, sweep: str, boards: Sequence[Board] | None = None) -> list[FrontPoint]:
    """Per data set the configurations on the front of accuracy against parameters, then against device-seconds.

    On a front nothing else is as accurate for less, nor more accurate for the same; cheapest first. Only ranked
    configurations are compared.

    Raises:
        ResultsError: no such sweep.
    """
    same = {field.name for field in fields(FrontPoint)} & {field.name for field in fields(BoardRow)}
    found = []
    for board in boards or leaderboards(results, sweep):
        for against in ("num_parameters", "device_seconds_per_trial"):
            points = [
                FrontPoint(
                    against=against,
                    device_seconds_per_trial=None
                    if row.device_seconds is None
                    else row.device_seconds / row.num_trials,
                    **{name: getattr(row, name) for name in same},
                )
                for row in board.ranked
            ]
            costs = [getattr(point, against) for point in points]
            means = [point.metric_mean for point in points]
            front = pareto_front(costs, [None if mean is None else board.metric.score(mean) for mean in means])
            found += [points[index] for index in front]
    return found


def pareto_front(costs: Sequence[float | None], values: Sequence[float | None]) -> list[int]:
    """Indices of the points that no other beats: as cheap or cheaper, and as good or better; cheapest first."""
    known = [i for i, value in enumerate(values) if value is not None and costs[i] is not None]
    front, best = [], float("-inf")
    for i in sorted(known, key=lambda i: (costs[i], -values[i])):
        if values[i] > best:
            front.append(i)
            best = values[i]
    return front
