"""The metric that compares trials."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from flexres_tune.spec.document.document import show
from flexres_tune.spec.keys.part import Part
from flexres_tune.spec.metrics import METRIC_TRAITS, goal_of

GOALS = {"val_accuracy": "maximize", "val_loss": "minimize"}


class Metric(Part):
    """The value by which trials are compared, measured on the held-out validation images after each epoch."""

    name: Annotated[str, Field(strict=True)] = Field(
        default="val_accuracy", description="column of `epochs`: val_accuracy, val_loss, or one that `metrics` lists"
    )
    goal: Literal["maximize", "minimize"] = Field(default="maximize", description="which direction is better")
    at: Literal["best", "last"] = Field(
        default="best", description="epoch whose value a trial is ranked by: the best one, or the last one"
    )

    @model_validator(mode="before")
    @classmethod
    def _goal_of_name(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        name = data.get("name", "val_accuracy")
        return {"goal": GOALS.get(name) or goal_of(name), **data} if isinstance(name, str) else data

    @field_validator("name", mode="before")
    @classmethod
    def _chooses_by_validation(cls, value: Any) -> Any:
        if isinstance(value, str) and "test" in value.lower():
            raise ValueError(
                f"must be val_accuracy or val_loss, because the test set chooses nothing, but got {show(value)}; "
                "use val_accuracy: the tables have test_accuracy too"
            )
        return value

    @model_validator(mode="after")
    def _goal_fits(self) -> Metric:
        known = GOALS.get(self.name) or (goal_of(self.name) if self.name in METRIC_TRAITS else self.goal)
        if self.goal != known:
            raise ValueError(f"goal must be {known} for {self.name}, but got {self.goal}; change it")
        return self

    def score(self, value: float) -> float:
        """The value with the sign that makes higher better; its own inverse."""
        return value if self.goal == "maximize" else -value

    def reached(self, scores: Mapping[int, float]) -> float | None:
        """The score that a trial is ranked by, of its scores by epoch: the best, or the one at its last epoch.

        None if there is none that is finite; a trial whose last loss is not finite has no last value.
        """
        if self.at == "last":
            value = scores[max(scores)] if scores else None
            return value if value is not None and math.isfinite(value) else None
        return max(filter(math.isfinite, scores.values()), default=None)
