"""When trials are paused or stopped before their last epoch: `early_terminate`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, PlainValidator, model_validator

from flexres_tune.spec.document.document import show
from flexres_tune.spec.keys.part import Part
from flexres_tune.spec.trial import name_in, rule_error
from flexres_tune.text import join_words

Variant = Literal["promotion", "stopping"]

# type of early_terminate -> the settings that it takes, with their defaults. search/early_stopping.py has the rules that
# stop trials, search/pausing.py the searches that pause them.
EARLY_STOPPING: Mapping[str, Mapping[str, Any]] = {
    "asha": {"variant": "promotion", "grace_period": 1, "reduction_factor": 3, "rungs": None},
    "hyperband": {"variant": "promotion", "grace_period": 1, "reduction_factor": 3, "num_brackets": 3},
    "halving": {"grace_period": "auto", "reduction_factor": 3, "rungs": None},
    "median": {"grace_period": 1},
    "none": {},
}


class RungSpec(Part):
    """After `epochs` epochs the best `keep` configurations continue, and the others are paused."""

    epochs: Annotated[int, Field(ge=1, strict=True)] = Field(description="epoch at which configurations are compared")
    keep: Annotated[int, Field(ge=1, le=100_000, strict=True)] = Field(
        description="configurations that continue: of each level, with compare"
    )


def _grace(value: Any) -> Any:
    if value is None or value == "auto":
        return value
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"must be a whole number or auto, but got {show(value)}; for example 3")
    if value < 1:
        raise ValueError(f"must be >= 1, but got {show(value)}; for example 3")
    return value


class EarlyTerminate(Part):
    """When a trial is paused or stopped before its last epoch; may be written as the type alone (`asha`).

    A setting that the type does not take is None.
    """

    type: Annotated[str, name_in(lambda: EARLY_STOPPING)] = Field(description=join_words(EARLY_STOPPING))
    variant: Variant | None = Field(
        default=None, description="promotion: trials pause at rungs; stopping: they end there; asha and hyperband"
    )
    grace_period: Annotated[int | Literal["auto"] | None, PlainValidator(_grace)] = Field(
        default=None, description="epochs that every trial runs; auto: all rungs are computed, see search/ladders.py"
    )
    reduction_factor: Annotated[int, Field(ge=2, strict=True)] | None = Field(
        default=None, description="eta: one of eta trials continues after a rung; 3 if absent"
    )
    num_brackets: Annotated[int, Field(ge=1, le=20, strict=True)] | None = Field(
        default=None, description="brackets with growing grace periods; hyperband, 3 if absent"
    )
    rungs: Annotated[tuple[RungSpec, ...], Field(min_length=1, max_length=100)] | None = Field(
        default=None, description="rungs in place of computed ones: [{epochs: 9, keep: 8}]"
    )

    @model_validator(mode="before")
    @classmethod
    def _type_alone(cls, data: Any) -> Any:
        return {"type": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _only_what_is_used(self) -> EarlyTerminate:
        defaults = EARLY_STOPPING[self.type]
        for name in type(self).model_fields:
            if name != "type" and getattr(self, name) is not None and name not in defaults:
                types = [kind for kind, settings in EARLY_STOPPING.items() if name in settings]
                raise rule_error(
                    name,
                    f"{name} belongs to {join_words(types, 'and')}, but type is {self.type} and {name} "
                    f"{show(_plain(getattr(self, name)))}; remove {name}, or set type: {types[0]}",
                )
        self._set("variant", defaults.get("variant"))
        self._check_pausing()
        self._check_rungs()
        if self.rungs is None:
            for name in ("grace_period", "reduction_factor", "num_brackets"):
                self._set(name, "auto" if self._may_be_auto and name == "grace_period" else defaults.get(name))
        return self

    @property
    def pauses(self) -> bool:
        """Whether configurations pause at rungs, instead of trials being stopped there."""
        return self.type == "halving" or self.variant == "promotion"

    @property
    def _may_be_auto(self) -> bool:
        return self.pauses and self.type != "hyperband"

    def _check_pausing(self) -> None:
        if self.grace_period == "auto" and not self._may_be_auto:
            raise rule_error(
                "grace_period",
                f"auto belongs to halving and to variant promotion of asha, but type is {self.type}"
                f"{f' with variant {self.variant}' if self.variant else ''}; write a number of epochs, for example 3",
            )
        if self.rungs is not None and not self.pauses:
            raise rule_error(
                "rungs",
                "rungs belong to halving and to variant promotion of asha, but variant is stopping; "
                "remove rungs, or set variant: promotion",
            )

    def _check_rungs(self) -> None:
        if self.rungs is None:
            return
        for name in ("grace_period", "reduction_factor"):
            if (value := getattr(self, name)) is not None:
                raise rule_error(
                    name,
                    f"{name} computes rungs, but rungs are listed and {name} is {show(value)}; remove one of the two",
                )
        for before, after in itertools.pairwise(self.rungs):
            if after.epochs <= before.epochs or after.keep > before.keep:
                raise rule_error(
                    "rungs",
                    "each rung must be later than the one before and keep no more configurations, but "
                    f"{show(_plain(after))} follows {show(_plain(before))}; correct one of them",
                )

    def _set(self, name: str, value: Any) -> None:
        if getattr(self, name) is None:
            object.__setattr__(self, name, value)


def _plain(value: Any) -> Any:
    """Models as the mappings that a file would have."""
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return value.model_dump() if isinstance(value, BaseModel) else value
