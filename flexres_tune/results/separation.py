"""Which configurations of a leaderboard are separable from its leader: columns beside their means."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from flexres_tune.results.statistics import Comparison, below_leader, compare_all, half_width

ALPHA = 0.05
ONE_SEED = "one seed: no interval"

_COLUMNS = {
    "best_val_accuracy_low": pa.float64(),
    "best_val_accuracy_high": pa.float64(),
    "separable_from_leader": pa.string(),
    "behind_leader": pa.float64(),
    "behind_leader_low": pa.float64(),
    "behind_leader_high": pa.float64(),
    "p_value": pa.float64(),
    "compared_by": pa.string(),
}


def separation(rows: Sequence[dict]) -> pa.Table:
    """Columns for the rows of one board, best first.

    best_val_accuracy_low and _high: 95 % interval of the mean. behind_leader: leader's mean less this one's, with
    its 95 % interval. p_value: adjusted for all the comparisons made and for the leader having been picked by the
    same values. separable_from_leader: `leader`, `yes` (p below 5 %), `no`, `one seed: no interval`; null where it
    was not compared: it did not run to its end, or was only screened while the leader was confirmed.

    Args:
        rows: mappings with rank, stage, seeds and values (lists of equal length), and the values' mean and sd.
    """
    found = _intervals(rows)
    samples = [dict(zip(row["seeds"] or (), row["values"] or (), strict=True)) for row in rows]
    if rows and rows[0]["rank"] is not None and samples[0]:
        found[0] |= {"separable_from_leader": "leader", "behind_leader": 0.0}
        rivals = [
            index
            for index, row in enumerate(rows)
            if index and row["rank"] is not None and row["stage"] == rows[0]["stage"] and samples[index]
        ]
        comparisons = compare_all(samples[0], [samples[index] for index in rivals])
        for index, columns in zip(rivals, _judged(comparisons), strict=True):
            found[index] |= columns
    return _as_table(found)


def _as_table(rows: Sequence[dict]) -> pa.Table:
    """By way of JSON: pa.array() imports pandas first, which takes longer than all of the leaderboard."""
    import io
    import json

    from pyarrow import json as arrow_json

    schema = pa.schema(list(_COLUMNS.items()))
    if not rows:
        return schema.empty_table()
    lines = "\n".join(json.dumps(row) for row in rows)
    options = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    return arrow_json.read_json(io.BytesIO(lines.encode()), parse_options=options).combine_chunks()


def _intervals(rows: Sequence[dict]) -> list[dict]:
    found: list[dict] = [{} for _ in rows]
    several = [index for index, row in enumerate(rows) if row["values"] and len(row["values"]) > 1]
    if several:
        sds = [rows[index]["best_val_accuracy_sd"] for index in several]
        halves = half_width(sds, [len(rows[index]["values"]) for index in several])
        for index, half in zip(several, halves.tolist(), strict=True):
            mean = rows[index]["best_val_accuracy_mean"]
            low, high = max(0.0, mean - half), min(1.0, mean + half)  # no accuracy lies outside
            found[index] = {"best_val_accuracy_low": low, "best_val_accuracy_high": high}
    return found


def _judged(comparisons: Sequence[Comparison]) -> list[dict]:
    tested = [comparison for comparison in comparisons if comparison.p_value is not None]
    adjusted = iter(below_leader([comparison.p_value for comparison in tested]))
    judged = []
    for each in comparisons:
        p_value = None if each.p_value is None else next(adjusted)
        # on shared seeds alone the leader may be behind: then nothing says that it is better
        verdict = ONE_SEED if p_value is None else "yes" if p_value < ALPHA and each.difference > 0 else "no"
        judged.append(
            {
                "separable_from_leader": verdict,
                "behind_leader": each.difference,
                "behind_leader_low": each.low,
                "behind_leader_high": each.high,
                "p_value": p_value,
                "compared_by": each.test,
            }
        )
    return judged
