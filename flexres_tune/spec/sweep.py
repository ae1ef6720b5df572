"""SweepSpec: a sweep file, checked and frozen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, PrivateAttr, field_validator, model_validator

from flexres_tune.names import name_problem
from flexres_tune.spec.distribution import Distribution
from flexres_tune.spec.document import Document, show
from flexres_tune.spec.published import reference_problem

Method = Literal["grid", "random", "tpe"]
SchedulerName = Literal["asha", "hyperband", "median", "none"]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1, max_length=10_000)]

GOALS = {"val_accuracy": "maximize", "val_loss": "minimize"}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ValueError(f"must be distinct, but {show(twice[0])} stands twice in {show(seeds)}; remove one")
    return seeds


class Metric(_Part):
    """What the sweep is about: a value measured on the held-out validation images after each epoch."""

    name: Literal["val_accuracy", "val_loss"] = Field(default="val_accuracy", description="column of `epochs`")
    goal: Literal["maximize", "minimize"] = Field(default="maximize", description="which direction is better")

    @model_validator(mode="before")
    @classmethod
    def _goal_of_name(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        name = data.get("name", "val_accuracy")
        return {"goal": GOALS[name], **data} if isinstance(name, str) and name in GOALS else data

    @field_validator("name", mode="before")
    @classmethod
    def _chooses_by_validation(cls, value: Any) -> Any:
        if isinstance(value, str) and "test" in value.lower():
            raise ValueError(
                f"must be val_accuracy or val_loss, because the test set chooses nothing, but got {show(value)}; "
                "use val_accuracy: test_accuracy stands beside it in the tables"
            )
        return value

    @model_validator(mode="after")
    def _goal_fits(self) -> Metric:
        if self.goal != GOALS[self.name]:
            raise ValueError(f"goal must be {GOALS[self.name]} for {self.name}, but got {self.goal}; change it")
        return self

    def score(self, value: float) -> float:
        """The value with the sign that makes higher better; its own inverse."""
        return value if self.goal == "maximize" else -value


class EarlyTerminate(_Part):
    """When a trial is stopped before its last epoch; may be written as the type alone (`asha`).

    A field that a type does not use is None.
    """

    type: SchedulerName = Field(description="asha, hyperband, median or none")
    grace_period: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        default=None, description="epochs that every trial runs, 1 if absent"
    )
    reduction_factor: Annotated[int, Field(ge=2, strict=True)] | None = Field(
        default=None, description="eta: of so many trials at a rung one goes on; asha and hyperband, 3 if absent"
    )
    num_brackets: Annotated[int, Field(ge=1, le=20, strict=True)] | None = Field(
        default=None, description="ladders with growing grace periods; hyperband, 3 if absent"
    )

    @model_validator(mode="before")
    @classmethod
    def _type_alone(cls, data: Any) -> Any:
        return {"type": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _only_what_is_used(self) -> EarlyTerminate:
        defaults = {
            "grace_period": {"asha": 1, "hyperband": 1, "median": 1},
            "reduction_factor": {"asha": 3, "hyperband": 3},
            "num_brackets": {"hyperband": 3},
        }
        for name, by_type in defaults.items():
            value = getattr(self, name)
            if value is None:
                object.__setattr__(self, name, by_type.get(self.type))
            elif self.type not in by_type:
                raise ValueError(
                    f"{name} belongs to {', '.join(by_type)}, but type is {self.type} and {name} {show(value)}; "
                    f"remove {name}, or set type: {next(iter(by_type))}"
                )
        return self


class Confirm(_Part):
    """The best configurations run again on fresh seeds, in full length."""

    top: Annotated[int, Field(ge=1, le=10_000, strict=True)] = Field(description="how many configurations")
    seeds: Seeds = Field(description="seeds that the sweep has not used")

    _distinct = field_validator("seeds")(_each_once)


def _amount(value: Any) -> Any:
    if value == "auto":
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number or auto, but got {show(value)}; for example 0.5")
    if value < 0 or value > 10_000 or (value > 1 and value != int(value)):
        raise ValueError(f"must be a fraction up to 1, or a whole number, but got {show(value)}; for example 0.5 or 2")
    return float(value)


Amount = Annotated[float | Literal["auto"], PlainValidator(_amount)]


class Resources(_Part):
    """What one trial holds while it runs; auto: chosen for the machine."""

    cpu: Amount = Field(default="auto", description="CPU cores, or auto")
    gpu: Amount = Field(default="auto", description="GPUs or a share of one (0.25: four trials share it), or auto")

    @field_validator("cpu")
    @classmethod
    def _holds_something(cls, value: Any) -> Any:
        if value == 0:
            raise ValueError("must be > 0, but got 0; use a share of a core such as 0.5")
        return value


class SweepSpec(_Part):
    """A sweep as it will run: the file with its profile and overrides laid over it."""

    name: str = Field(description="name of the sweep and of its folder under results")
    description: str = Field(default="", max_length=10_000, description="the question that the sweep answers")
    reproduces: str | None = Field(
        default=None, description="published table that the sweep runs again, such as flexres/optimizer"
    )
    method: Method = Field(default="grid", description="grid, random or tpe")
    metric: Metric = Field(default=Metric(), description="what is better: {name: val_accuracy, goal: maximize}")
    max_parameters: Annotated[int, Field(ge=1, strict=True)] = Field(
        default=5_000_000, description="budget: trainable parameters that a model may have"
    )
    seeds: Seeds = Field(default=(0,), description="each configuration runs once with each seed")
    base: dict[str, Any] = Field(default_factory=dict, description="what all trials share; parameters override it")
    parameters: tuple[dict[str, Distribution], ...] = Field(
        default=({},), min_length=1, max_length=10_000, description="what varies: one grid, or a list, their union"
    )
    exclude: tuple[dict[str, Any], ...] = Field(
        default=(), description="a trial with all values of an entry is left out"
    )
    early_terminate: EarlyTerminate = Field(
        default=EarlyTerminate(type="none"), description="when a trial is stopped early"
    )
    confirm: Confirm | None = Field(default=None, description="how many of the best run again on fresh seeds")
    num_trials: Annotated[int, Field(ge=1, le=100_000, strict=True)] | None = Field(
        default=None, description="random and tpe: configurations drawn, each run with each seed"
    )
    order_seed: Seed = Field(default=0, description="seed of the order of trials, and of the draws of method random")
    resources_per_trial: Resources = Field(default=Resources(), description="what one trial holds: {cpu: 4, gpu: 0.25}")
    profiles: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="overlays by name; laptop is chosen where there is no GPU"
    )
    profile: str = Field(default="none", description="profile laid over the file; none if none was")
    source: str = Field(default="", description="the file's name")

    _document: Document = PrivateAttr(default=Document({}))  # for messages
    _variants: tuple[SweepSpec, ...] = PrivateAttr(default=())  # the file under its other profiles, checked with it

    @field_validator("name")
    @classmethod
    def _safe_name(cls, value: str) -> str:
        if problem := name_problem(value):
            raise ValueError(problem)
        return value

    @field_validator("reproduces", mode="before")
    @classmethod
    def _published(cls, value: Any) -> Any:
        if value is not None and (problem := reference_problem(value)):
            raise ValueError(problem)
        return value

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

    @field_validator("profiles")
    @classmethod
    def _can_be_chosen(cls, value: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, overlay in value.items():
            if name in ("auto", "none"):
                raise ValueError(f"a profile must not be called auto or none, but one is {name}; call it laptop")
            if "profiles" in overlay:
                raise ValueError(f"a profile must not have profiles, but {show(name)} has; move them to the top level")
        return value

    _distinct = field_validator("seeds")(_each_once)

    def resolved(self) -> dict[str, Any]:
        """The sweep as it will run, as plain JSON values that a sweep file could hold."""
        values = self.model_dump(
            mode="json", exclude={"profiles", "profile", "source", "parameters"}, exclude_none=True
        )
        values["base"] = self.base  # a null in it is a value
        values["exclude"] = list(self.exclude)
        values["parameters"] = [
            {key: distribution.as_written() for key, distribution in grid.items()} for grid in self.parameters
        ]
        return values
