"""The further metrics of a sweep (`metrics` of its file) in its leaderboard: means over the seeds that count."""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from flexres_tune.results.schema import table_schema
from flexres_tune.spec.metrics import is_metric_column, is_shown_in_percent

SeedOf = tuple[str, str, int]  # config_id, stage, seed


def metric_names(trials: pa.Table) -> list[str]:
    """The columns of further metrics in rows of `trials`."""
    known = table_schema("trials").names
    return [
        field.name
        for field in trials.schema
        if field.name not in known and is_metric_column(field.name) and pa.types.is_float64(field.type)
    ]


def mean_columns(trials: pa.Table, names: Sequence[str], counted: Sequence[Collection[SeedOf]]) -> pa.Table:
    """`top5_mean` and `top5_sd` (n - 1; null for one seed) of the last epoch, of each metric and configuration.

    Args:
        trials: rows of one sweep, with the columns `names`.
        counted: for each row of the leaderboard the trials whose mean it shows.
    """
    shown = pa.array({config_id for keys in counted for config_id, _, _ in keys}, pa.string())
    rows = (
        trials.select(["config_id", "stage", "seed", *names]).filter(pc.is_in(trials["config_id"], shown)).to_pylist()
    )
    found = {(row["config_id"], row["stage"], row["seed"]): row for row in rows}
    columns, fields = [], []
    for name in names:
        unit = "fraction" if is_shown_in_percent(name) else ""
        values = [_values(found, keys, name) for keys in counted]
        of_end = {
            "mean": [statistics.fmean(each) if each else None for each in values],
            "sd": [statistics.stdev(each) if len(each) > 1 else None for each in values],
        }
        for end, column in of_end.items():
            fields.append(pa.field(f"{name}_{end}", pa.float64(), metadata={"unit": unit}))
            columns.append(pa.array(column, pa.float64()))
    return pa.table(columns, schema=pa.schema(fields))


def _values(found: Mapping[SeedOf, Mapping[str, Any]], keys: Collection[SeedOf], name: str) -> list[float]:
    return [found[key][name] for key in keys if key in found and found[key][name] is not None]
