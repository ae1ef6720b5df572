"""The metric that a sweep ranks by: which direction is better, and how sentences and plots show its values."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from flexres_tune.display.format import significant_decimals
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import plan_or_none
from flexres_tune.results.reader import Results
from flexres_tune.spec.metrics import METRIC_TRAITS, is_metric_column


@dataclass(frozen=True, kw_only=True)
class RankingMetric:
    """A value of the validation images that `metric` of a sweep file may name."""

    name: str  # column of `epochs`
    words: str
    unit: str  # of the column
    is_maximized: bool
    smallest: float = 0.0  # that is possible
    largest: float = math.inf
    factor: float = 1.0  # sentences and plots show the value times this
    suffix: str = ""  # of a shown value
    difference: str  # unit of the difference of two shown values
    at: Literal["best", "last"] = "best"  # epoch whose value ranks a trial

    def score(self, value: float) -> float:
        """The value with the sign that makes higher better; its own inverse."""
        return value if self.is_maximized else -value

    def best(self, values: Iterable[float]) -> float:
        return max(values, key=self.score)

    def decimals(self, sd: float | None) -> int:
        """Decimals of a shown value: see significant_decimals(). A loss has two more, because it is no percentage."""
        return significant_decimals(sd) + (0 if self.factor == 100 else 2)

    def text(self, mean: float, sd: float | None = None) -> str:
        """0.9731 -> "97.3 %", with a standard deviation "97.31 ± 0.12 %"; a loss 0.1234 -> "0.123"."""
        digits = self.decimals(sd)
        spread = "" if sd is None else f" ± {self.factor * sd:.{digits}f}"
        return f"{self.factor * mean:.{digits}f}{spread}{self.suffix}"

    def estimate(self, mean: float, sd: float | None, low: float | None, high: float | None) -> str:
        """A mean with its interval, as a sentence claims it: "97.3 % validation accuracy (95 % interval 96.9 to 97.7 %)"."""
        interval = self.interval(low, high)
        shown = f"{self.factor * mean:.{self.decimals(sd)}f}{self.suffix} {self.words}"
        return shown if interval is None else f"{shown} (95 % interval {interval})"

    def clip(self, mean: float, half_width: float) -> tuple[float, float]:
        """The ends of an interval, without values that the metric cannot have."""
        return max(self.smallest, mean - half_width), min(self.largest, mean + half_width)

    def interval(self, low: float | None, high: float | None) -> str | None:
        """The ends of an interval: "97.1 to 97.5 %"; None without one."""
        if low is None or high is None:
            return None
        digits = self.decimals((high - low) / 4)  # it spans about four standard errors
        return f"{self.factor * low:.{digits}f} to {self.factor * high:.{digits}f}{self.suffix}"

    def gap(self, difference: float) -> str:
        """A difference of two values: "0.86"."""
        return f"{self.factor * difference:z.{self.decimals(None) + 1}f}"

    def gap_interval(self, low: float | None, high: float | None) -> str | None:
        """The ends of a difference's interval: "0.72 to 1.00"; None without one."""
        return None if low is None or high is None else f"{self.gap(low)} to {self.gap(high)}"

    @property
    def column(self) -> str:
        """Its name in tables: best_val_accuracy, or last_val_accuracy."""
        return f"{self.at}_{self.name}"

    @property
    def epoch_words(self) -> str:
        """The epoch that ranks a trial, as words after the metric's."""
        return "after the last epoch" if self.at == "last" else "in the best epoch"

    @property
    def axis_title(self) -> str:
        unit = self.suffix.strip() or self.unit
        return f"{self.words} ({unit})" if unit else self.words

    @property
    def ranking_axis_title(self) -> str:
        """Of an axis with the values that rank trials: "best validation accuracy (%)", or "last ..."."""
        return f"{self.at} {self.axis_title}"

    @property
    def extreme(self) -> str:
        return "highest" if self.is_maximized else "lowest"

    @property
    def better_side(self) -> str:
        return "above" if self.is_maximized else "below"

    @property
    def worse_side(self) -> str:
        return "below" if self.is_maximized else "above"


METRICS = {
    "val_accuracy": RankingMetric(
        name="val_accuracy",
        words="validation accuracy",
        unit="fraction",
        is_maximized=True,
        largest=1.0,
        factor=100.0,
        suffix=" %",
        difference="points",
    ),
    "val_loss": RankingMetric(
        name="val_loss", words="validation loss", unit="nats", is_maximized=False, difference="nats"
    ),
}


def metric_of(results: Results, sweep: str) -> RankingMetric:
    """The metric in the sweep's plan.json; the best val_accuracy if there is no plan, or if it is damaged."""
    plan = plan_or_none(SweepPaths(results.root, sweep))
    named = plan.spec.get("metric") if plan else None
    named = named if isinstance(named, dict) else {}
    name = named.get("name")
    found = METRICS.get(str(name)) or (further_metric(name, named.get("goal")) if is_metric_column(name) else None)
    return replace(found or METRICS["val_accuracy"], at="last" if named.get("at") == "last" else "best")


def further_metric(name: str, goal: object) -> RankingMetric:
    """A metric that `metrics` of the sweep file lists."""
    traits = METRIC_TRAITS.get(name)
    is_maximized = goal != "minimize"
    if traits is None or not traits.is_fraction:
        words = traits.words if traits else name
        return RankingMetric(
            name=name, words=words, unit="", is_maximized=is_maximized, smallest=-math.inf, difference=name
        )
    return RankingMetric(
        **{"name": name, "words": traits.words, "unit": "fraction", "is_maximized": is_maximized, "largest": 1.0},
        **{"factor": 100.0, "suffix": " %", "difference": "points"},
    )
