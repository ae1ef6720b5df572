"""What runs after the screening, and what all of it may take: `confirm`, `final`, `budget`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from flexres_tune.spec.document.document import show
from flexres_tune.spec.keys.part import Part, Seeds, each_once
from flexres_tune.spec.trial import Number, rule_error


class Final(Part):
    """The winner of the confirmation is trained once more; its test accuracy is reported, and it is never ranked."""

    train_on: Literal["all"] = Field(description="all: no validation images are held out")


class Confirm(Part):
    """The best configurations run again on fresh seeds, for all their epochs."""

    top: Annotated[int, Field(ge=1, le=10_000, strict=True)] = Field(
        description="how many configurations: of each level, with compare"
    )
    seeds: Seeds | None = Field(
        default=None, description="seeds that the sweep has not used; each configuration runs on all"
    )
    num_runs: Annotated[int, Field(ge=1, le=1_000, strict=True)] | None = Field(
        default=None, description="in place of seeds: number of runs, each given to the comparison that needs it most"
    )

    final: Final | None = Field(
        default=None, description="{train_on: all}: train the winner once more on all training images"
    )

    _distinct = field_validator("seeds")(lambda seeds: None if seeds is None else each_once(seeds))

    @model_validator(mode="after")
    def _one_form(self) -> Confirm:
        if self.seeds is None and self.num_runs is None:
            raise rule_error(
                "seeds", "must be given, unless num_runs is, but both are missing; for example seeds: [10, 11, 12]"
            )
        if self.seeds is not None and self.num_runs is not None:
            raise rule_error(
                "num_runs",
                f"num_runs chooses fresh seeds by itself, but got num_runs {self.num_runs} and seeds {show(self.seeds)}; "
                "remove one of the two",
            )
        return self


class Budget(Part):
    """What screening and confirmation together may take, over all runs of the command."""

    device_hours: Annotated[Number, Field(gt=0, le=1e6)] | None = Field(
        default=None, description="hours of training, times the part of a device that a trial holds"
    )
    epochs: Annotated[int, Field(ge=1, le=1_000_000_000, strict=True)] | None = Field(
        default=None, description="in place of device_hours: epochs of all trials together"
    )

    @model_validator(mode="after")
    def _one_unit(self) -> Budget:
        if self.device_hours is None and self.epochs is None:
            raise rule_error("device_hours", "must be given, unless epochs is, but both are missing; for example 4")
        if self.device_hours is not None and self.epochs is not None:
            raise rule_error(
                "epochs",
                f"a budget must have one unit, but got device_hours {self.device_hours:g} and epochs {self.epochs}; "
                "remove one of the two",
            )
        return self
