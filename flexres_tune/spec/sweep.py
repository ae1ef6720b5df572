"""SweepSpec: a sweep file as frozen typed data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, InstanceOf, PlainValidator, field_validator, model_validator

from flexres_tune.names import name_problem
from flexres_tune.spec.document.document import Document, show
from flexres_tune.spec.keys.confirm import Budget, Confirm
from flexres_tune.spec.keys.distribution import Distribution
from flexres_tune.spec.keys.early_terminate import EarlyTerminate
from flexres_tune.spec.keys.metric import Metric
from flexres_tune.spec.keys.part import Part, Seed, Seeds, each_once
from flexres_tune.spec.keys.resources import Resources
from flexres_tune.spec.metrics import MAX_METRICS, METRIC_TRAITS
from flexres_tune.spec.own_code.source import CodeName, Source
from flexres_tune.spec.trial import ValSplit, rule_error
from flexres_tune.text import join_words

Method = Literal["grid", "random", "tpe"]

NOT_IN_A_FILE = ("profile", "source", "document", "code")  # fields of SweepSpec that the loader fills in


class Validation(Part):
    """Which training images are held out for validation: short for num_val_images and val_split of `base`."""

    images: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        default=None, description="how many; the data set's own number if absent"
    )
    split: ValSplit = Field(default="fixed", description="fixed, by_seed or k_fold")

    def fields(self) -> dict[str, Any]:
        """The trial's fields that it stands for, without defaults."""
        values = {"num_val_images": self.images, "val_split": self.split}
        return {name: value for name, value in values.items() if value not in (None, "fixed")}


def _switch(value: Any) -> bool:
    if not isinstance(value, bool) and value not in ("on", "off"):
        raise ValueError(f"must be on or off, but got {show(value)}; remove it for on")
    return value in (True, "on")


class SweepSpec(Part):
    """A sweep as it will run: the file, changed by its profile and the overrides."""

    name: str = Field(description="name of the sweep and of its folder in the results folder")
    description: str = Field(default="", max_length=10_000, description="the question that the sweep answers")
    reproduces: str | None = Field(
        default=None,
        description="published table that the sweep repeats, such as flexres/optimizer; `query published` compares them",
    )
    method: Method = Field(default="grid", description="grid, random or tpe")
    metric: Metric = Field(default=Metric(), description="what is compared: {name: val_accuracy, at: last}")
    metrics: Annotated[tuple[str, ...], Field(max_length=MAX_METRICS)] = Field(
        default=(),
        description=f"further metrics of the validation images: {join_words(METRIC_TRAITS)}, or FILE.py:NAME",
    )
    max_parameters: Annotated[int, Field(ge=1, strict=True)] = Field(
        default=5_000_000, description="budget: most trainable parameters that a model may have"
    )
    seeds: Seeds = Field(default=(0,), description="each configuration runs once with each seed")
    base: dict[str, Any] = Field(
        default_factory=dict, description="values that all trials share; parameters override them"
    )
    parameters: tuple[dict[str, Distribution], ...] = Field(
        default=({},),
        min_length=1,
        max_length=10_000,
        description="what varies: one grid, or a list of grids, whose union is run",
    )
    exclude: tuple[dict[str, Any], ...] = Field(
        default=(), description="a trial with all values of an entry is left out"
    )
    early_terminate: EarlyTerminate = Field(
        default=EarlyTerminate(type="none"), description="when a trial is paused or stopped early"
    )
    compare: tuple[Annotated[str, Field(strict=True)], ...] = Field(
        default=(), max_length=20, description="the question: parameters whose values are compared, each at its best"
    )
    baseline: Annotated[dict[str, Any], Field(min_length=1)] | None = Field(
        default=None, description="values of the configuration that the winner is held against; always confirmed"
    )
    confirm: Confirm | None = Field(
        default=None, description="how many of the best run again, on which fresh seeds or in how many runs"
    )
    validation: Validation | None = Field(
        default=None, description="images held out for validation: {images: 5000, split: fixed | by_seed | k_fold}"
    )
    predictions: Annotated[bool, PlainValidator(_switch)] = Field(
        default=True,
        description="on or off: store what each completed trial predicts for each validation and test image",
    )
    budget: Budget | None = Field(
        default=None, description="what all trials together may take: {device_hours: 4} or {epochs: 600}"
    )
    num_trials: Annotated[int, Field(ge=1, le=100_000, strict=True)] | None = Field(
        default=None, description="random and tpe: number of configurations drawn; each runs once with each seed"
    )
    order_seed: Seed = Field(default=0, description="seed of the order of trials, and of the draws of method random")
    resources_per_trial: Resources = Field(
        default=Resources(), description="what is reserved for one trial: {cpu: 4, gpu: 0.25}"
    )
    profiles: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description="changes to the file by name, description included; laptop is chosen if there is no GPU",
    )
    profile: str = Field(default="none", description="name of the profile that was applied, or none")
    source: str = Field(default="", description="the file's name")
    document: InstanceOf[Document] = Field(
        default=Document({}), exclude=True, repr=False, description="where each key was written, for messages"
    )

    code: dict[str, Source] = Field(
        default_factory=dict, exclude=True, repr=False, description="source of each reference to own code"
    )

    @model_validator(mode="before")
    @classmethod
    def _hyperband_of_tpe_stops(cls, data: Any) -> Any:
        """TPE cannot know how many configurations it will draw for each bracket, which the promotion form needs."""
        if not isinstance(data, Mapping) or data.get("method") != "tpe":
            return data
        early = data.get("early_terminate")
        if isinstance(early, str):
            early = {"type": early}
        if isinstance(early, Mapping) and "variant" not in early and early.get("type") == "hyperband":
            return {**data, "early_terminate": {**early, "variant": "stopping"}}
        return data

    @field_validator("name")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        if problem := name_problem(value):
            raise ValueError(problem)
        return value

    @field_validator("reproduces", mode="before")
    @classmethod
    def _names_a_table(cls, value: Any) -> Any:
        if value is not None and not (isinstance(value, str) and re.fullmatch(r"\w+/\w+", value)):
            raise ValueError(f"must be REPORT/EXPERIMENT, but got {show(value)}; for example flexres/optimizer")
        return value

    @model_validator(mode="before")
    @classmethod
    def _attach_code(cls, data: Any) -> Any:
        """Give each reference among the metrics its source."""
        if not isinstance(data, Mapping) or not isinstance(data.get("metrics"), list | tuple):
            return data
        code = data.get("code") or {}
        return {
            **data,
            "metrics": [
                CodeName(name, code[name]) if isinstance(name, str) and name in code else name
                for name in data["metrics"]
            ],
        }

    @field_validator("metrics", mode="wrap")
    @classmethod
    def _keep_sources(cls, value: Any, check: Any) -> tuple[str, ...]:
        """pydantic makes plain texts of references."""
        checked = check(value)
        return tuple(each if isinstance(each, CodeName) else text for each, text in zip(value, checked, strict=True))

    @field_validator("parameters", mode="before")
    @classmethod
    def _one_grid(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return [value]
        if isinstance(value, list | tuple):
            return value
        raise ValueError(
            f"must be a mapping, or a list of mappings, but got {show(value)}; "
            "for example {lr: {values: [0.01, 0.1]}}"
        )

    @field_validator("compare", mode="before")
    @classmethod
    def _one_name(cls, value: Any) -> Any:
        if isinstance(value, str):
            return (value,)
        if isinstance(value, list | tuple) and all(isinstance(name, str) for name in value):
            if twice := sorted({name for name in value if list(value).count(name) > 1}):
                raise ValueError(f"must name each parameter once, but names {twice[0]} twice; remove one")
            return value
        raise ValueError(
            f"must be a parameter's name, or a list of names, but got {show(value)}; for example compare: optimizer"
        )

    @field_validator("profiles")
    @classmethod
    def _can_be_chosen(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, overlay in value.items():
            if name in ("auto", "none"):
                raise ValueError(f"a profile must not be called auto or none, but one is {name}; call it laptop")
            if "profiles" in overlay:
                raise ValueError(f"a profile must not have profiles, but {show(name)} has; move them to the top level")
        return value

    _distinct = field_validator("seeds")(each_once)

    @model_validator(mode="after")
    def _validation_in_base(self) -> SweepSpec:
        for name, value in (self.validation.fields() if self.validation else {}).items():
            if self.base.get(name, value) != value:
                raise rule_error(
                    "validation",
                    f"validation and base.{name} must agree, but got {show(value)} and {show(self.base[name])}; remove one",
                )
            object.__setattr__(self, "base", self.base | {name: value})
        return self

    def resolved(self) -> dict[str, Any]:
        """The sweep as it will run, as plain JSON values that a sweep file could hold."""
        values = self.model_dump(mode="json", exclude={"profiles", "parameters", *NOT_IN_A_FILE}, exclude_none=True)
        values["base"] = self.base  # a null in it is a value
        values["exclude"] = list(self.exclude)
        values |= {} if self.baseline is None else {"baseline": self.baseline}
        values["parameters"] = [
            {key: distribution.as_written() for key, distribution in grid.items()} for grid in self.parameters
        ]
        return values
