"""Further metrics of a sweep, `metrics: [top5, ece, my_metrics.py:f1]`: their names, columns and directions. No torch.

training/metrics.py computes them. A metric changes no training, so it is no part of a trial's id.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from flexres_tune.records import EpochRecord, TrialRecord
from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.own_code.source import CodeName
from flexres_tune.spec.trial import TRIAL_FIELDS

MAX_METRICS = 20
_COLUMN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,60}")


class MetricTraits(NamedTuple):
    """What the other rooms must know of a metric without torch."""

    goal: Literal["maximize", "minimize"]
    words: str
    is_fraction: bool = True  # it is from 0 to 1, and shown in percent


# The row that a new metric needs here; training/metrics.py has the function
METRIC_TRAITS: Mapping[str, MetricTraits] = {
    "top5": MetricTraits("maximize", "top-5 accuracy"),
    "f1": MetricTraits("maximize", "macro F1"),
    "balanced_accuracy": MetricTraits("maximize", "balanced accuracy"),
    "ece": MetricTraits("minimize", "expected calibration error"),
}

RESERVED_COLUMNS = frozenset(
    [
        *(field.name for record in (EpochRecord, TrialRecord) for field in dataclasses.fields(record)),
        *(*TRIAL_FIELDS, *Architecture.model_fields, "own_values", "code", "metric"),
    ]
)


def metric_column(name: str) -> str:
    """The column of a metric: `f1` of `my_metrics.py:f1`."""
    return re.split(r"[:.]", name)[-1] if isinstance(name, CodeName) else name


def is_metric_column(name: Any) -> bool:
    """Whether a name may be a metric's column; such a name needs no escaping in SQL."""
    return isinstance(name, str) and bool(_COLUMN.fullmatch(name)) and name not in RESERVED_COLUMNS


def is_shown_in_percent(name: str) -> bool:
    """Whether a metric is a fraction; an own one of another name may be any number, so it is shown as it is."""
    return name == "val_accuracy" or (name in METRIC_TRAITS and METRIC_TRAITS[name].is_fraction)


def goal_of(name: str) -> Literal["maximize", "minimize"]:
    """The direction of a metric unless the sweep file says another one: that of the table, else maximize."""
    return METRIC_TRAITS[name].goal if name in METRIC_TRAITS else "maximize"
