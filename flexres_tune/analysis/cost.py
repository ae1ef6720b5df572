"""What accuracy costs: the best at equal epochs and at equal device-seconds, and the Pareto fronts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.analysis.leaderboard import distinguishing_columns, leaderboard
from flexres_tune.records import TrialStatus
from flexres_tune.results.reader import Results
from flexres_tune.results.sql import run_sql

PARETO_COSTS = ("num_parameters", "device_seconds_per_trial")

_MEASURES = ["best_val_accuracy_mean", "best_val_accuracy_sd"]


def equal_cost(results: Results, sweep: str) -> pa.Table:
    """A row a budget: the configuration that is best with at most so many epochs, or device-seconds, a trial.

    Columns: sweep, dataset, budget_of (`epochs` | `device_seconds`), budget, config_id, the parameters that vary,
    best_val_accuracy_mean and _sd over num_seeds trials, each the best of the epochs that fit into the budget, and
    num_configs, how many were compared. Only configurations all of whose trials ran to the end, from the first budget
    that one epoch of each fits into; each budget is twice the one before. A learning-rate schedule is laid over a
    trial's own length, so a long trial cut here is not what a short one would have been.

    Raises:
        ResultsError: no such sweep.
    """
    trials = results.trials(sweep)
    names = distinguishing_columns(trials)
    whole = leaderboard(results, sweep)
    counted = whole.filter(pc.is_valid(whole["rank"]))
    # of a configuration that was confirmed only the confirm trials count, as on the leaderboard
    trials = run_sql(
        f"""SELECT t.* FROM trials t JOIN counted c ON t.config_id = c.config_id AND t.stage = c.stage
        WHERE t.status = '{TrialStatus.COMPLETED}'""",
        {"trials": trials, "counted": counted},
    )
    chosen = ", ".join(f'any_value(t."{name}") AS "{name}"' for name in names)
    query = f"""
        WITH curves AS (
            SELECT e.trial_id, e.epoch AS epochs,
                sum(e.epoch_seconds) OVER (PARTITION BY e.trial_id ORDER BY e.epoch) AS device_seconds,
                CASE WHEN isfinite(e.val_accuracy) THEN e.val_accuracy END AS accuracy
            FROM epochs e SEMI JOIN trials t ON e.trial_id = t.trial_id
        ), spent AS (
            SELECT trial_id, accuracy, unnest([
                {{'budget_of': 'epochs', 'cost': epochs::DOUBLE}},
                {{'budget_of': 'device_seconds', 'cost': device_seconds}}
            ], recursive := true) FROM curves
        ), most AS (
            SELECT t.dataset, budget_of, min(cost) AS least, max(cost) AS most
            FROM spent JOIN trials t USING (trial_id) GROUP BY ALL
        ), budgets AS (
            SELECT dataset, budget_of, unnest(list_transform(
                range(0, 1 + greatest(0, ceil(log2(most / greatest(least, 1e-3)) - 1e-9))::INT),
                lambda k: CASE budget_of WHEN 'epochs' THEN floor(most / power(2, k)) ELSE most / power(2, k) END
            )) AS budget FROM most
        ), reached AS (
            SELECT t.dataset, b.budget_of, b.budget, t.config_id, t.trial_id, max(s.accuracy) AS accuracy
            FROM budgets b JOIN trials t ON t.dataset = b.dataset
            JOIN spent s ON s.trial_id = t.trial_id AND s.budget_of = b.budget_of AND s.cost <= b.budget + 1e-9
            GROUP BY ALL
        ), means AS (
            SELECT r.dataset, budget_of, budget, r.config_id, {chosen + "," if chosen else ""}
                avg(accuracy) AS best_val_accuracy_mean, stddev_samp(accuracy) AS best_val_accuracy_sd,
                count(accuracy) AS num_seeds
            FROM reached r JOIN trials t ON r.trial_id = t.trial_id GROUP BY r.dataset, budget_of, budget, r.config_id
            HAVING count(*) = (SELECT count(*) FROM trials u WHERE u.config_id = r.config_id)
        )
        SELECT (SELECT any_value(sweep) FROM trials) AS sweep, *, count(*) OVER same AS num_configs FROM means
        WINDOW same AS (PARTITION BY dataset, budget_of, budget)
        QUALIFY row_number() OVER (PARTITION BY dataset, budget_of, budget
            ORDER BY best_val_accuracy_mean DESC NULLS LAST, config_id) = 1
        ORDER BY dataset, budget_of DESC, budget
    """
    return run_sql(query, {"trials": trials, "epochs": results.epochs(sweep)})


def pareto(results: Results, sweep: str) -> pa.Table:
    """A row a configuration on the front of accuracy against parameters, and one on that against device-seconds.

    Columns: sweep, dataset, against (one of PARETO_COSTS), config_id, the parameters that vary, num_parameters,
    device_seconds_per_trial, best_val_accuracy_mean and _sd, num_seeds. On a front nothing else is as accurate for
    less, nor more accurate for the same; cheapest first. Ranked configurations only.

    Raises:
        ResultsError: no such sweep.
    """
    board = leaderboard(results, sweep)
    board = board.filter(pc.is_valid(board["rank"]))
    board = board.append_column(
        "device_seconds_per_trial", pc.divide(board["device_seconds"], pc.cast(_num_trials(board), pa.float64()))
    )
    names = [name for name in distinguishing_columns(results.trials(sweep)) if name in board.column_names]
    shown = ["sweep", "dataset", "config_id", *names, *PARETO_COSTS, *_MEASURES, "num_seeds"]
    fronts = []
    for dataset in board["dataset"].unique().to_pylist():
        rows = board.filter(pc.equal(board["dataset"], dataset)).select(list(dict.fromkeys(shown)))
        for cost in PARETO_COSTS:
            front = rows.take(pareto_front(rows[cost].to_pylist(), rows["best_val_accuracy_mean"].to_pylist()))
            against = pa.array([cost] * front.num_rows, pa.string())
            fronts.append(front.add_column(2, "against", against))
    return pa.concat_tables(fronts) if fronts else board.slice(0, 0)


def pareto_front(costs: Sequence[float], values: Sequence[float | None]) -> list[int]:
    """Indices of the points that no other beats: cheaper or as cheap, and better or as good; cheapest first."""
    known = [i for i, value in enumerate(values) if value is not None and costs[i] is not None]
    front, best = [], float("-inf")
    for i in sorted(known, key=lambda i: (costs[i], -values[i])):
        if values[i] > best:
            front.append(i)
            best = values[i]
    return front


def _num_trials(board: pa.Table) -> pa.ChunkedArray:
    """Trials of each configuration, however they ended: those that device_seconds is summed over."""
    return _sum(board[name] for name in board.column_names if name.startswith("num_") and name in _COUNTS)


_COUNTS = {f"num_{status}" for status in TrialStatus}


def _sum(columns: Iterable[pa.ChunkedArray]) -> pa.ChunkedArray:
    total, *others = columns
    for column in others:
        total = pc.add(total, column)
    return total
