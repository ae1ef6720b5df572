"""SweepSpec: a sweep file as frozen typed data, and the parts that it consists of; each part checks itself."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping
from random import Random
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, InstanceOf, PlainValidator, field_validator, model_validator

from flexres_tune.names import name_problem
from flexres_tune.spec.document.document import Document, show
from flexres_tune.spec.metrics import MAX_METRICS, METRIC_TRAITS, goal_of
from flexres_tune.spec.own_code.source import CodeName, Source
from flexres_tune.spec.trial import Number, ValSplit, name_in, rule_error
from flexres_tune.text import join_words

Method = Literal["grid", "random", "tpe"]
RangeName = Literal["uniform", "log_uniform_values", "int_uniform"]
Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1, max_length=10_000)]

GOALS = {"val_accuracy": "maximize", "val_loss": "minimize"}

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

SMALLEST_AMOUNT = 0.0001  # of a CPU or GPU: Ray counts in ten-thousandths

NOT_IN_A_FILE = ("profile", "source", "document", "code")  # fields of SweepSpec that the loader fills in


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


def _each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ValueError(f"must be distinct, but {show(twice[0])} is listed twice in {show(seeds)}; remove one")
    return seeds


def _number(value: Any) -> Any:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise ValueError(f"must be a number, but got {show(value)}; for example 0.01")
    return value


Bound = Annotated[int | float | None, PlainValidator(_number)]


class Distribution(_Part):
    """`{value: x}`, `{values: [x, ...]}` or `{min: a, max: b, distribution: ...}`, as in W&B sweeps.

    A range without `distribution` is int_uniform between two whole numbers, else uniform. Both bounds can be drawn. A range
    of numbers over two powers of ten must say which, because a uniform draw would hardly see its lower part.
    """

    values: tuple[Any, ...] | None = Field(default=None, description="values in the order written; None for a range")
    min: Bound = Field(default=None, description="lower bound of a range, inclusive")
    max: Bound = Field(default=None, description="upper bound of a range, inclusive")
    distribution: RangeName | None = Field(
        default=None, description="uniform, log_uniform_values (uniform in the logarithm) or int_uniform"
    )

    @model_validator(mode="before")
    @classmethod
    def _one_form(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            listed = isinstance(data, list | tuple)
            raise ValueError(
                "must be a mapping with value, values, or min and max, but got "
                f"{show(data)}; write {{{'values' if listed else 'value'}: {show(data, 40)}}}"
            )
        forms = [key for key in ("value", "values") if key in data]
        if "min" in data or "max" in data:
            forms.append("min and max")
        if len(forms) > 1:
            raise ValueError(
                f"must have one of value, values, or min and max, but has {' and '.join(forms)}; keep one of them"
            )
        if not forms and any(key not in cls.model_fields for key in data):
            return data  # reported as a key that does not exist, with the one that was meant
        if not forms:
            raise ValueError(
                f"must have value, values, or min and max, but got {show(data)}; for example {{values: [0.01, 0.1]}}"
            )
        if forms[0] == "value":
            data = {**data, "values": [data["value"]]}
            del data["value"]
        return data

    @model_validator(mode="after")
    def _range_agrees(self) -> Distribution:
        if self.values is not None:
            if not self.values:
                raise ValueError("values must have at least one value, but got []; add one, or remove the parameter")
            if self.distribution:
                raise ValueError(
                    f"distribution belongs to min and max, but got {self.distribution} with listed values; remove it"
                )
            return self
        if self.min is None or self.max is None:
            absent, present = ("min", "max") if self.min is None else ("max", "min")
            raise ValueError(
                f"a range must have min and max, but has only {present}={show(getattr(self, present))}; add {absent}"
            )
        if self.min > self.max:
            raise ValueError(f"min must be <= max, but got min={show(self.min)}, max={show(self.max)}; swap them")
        whole = isinstance(self.min, int) and isinstance(self.max, int)
        if self.distribution is None and not whole and 0 < 100 * self.min <= self.max * (1 + 1e-9):
            raise ValueError(
                f"a range from {show(self.min)} to {show(self.max)} must say how it is drawn, because 9 of 10 uniform "
                f"draws are above {show(self.max / 10)}; add distribution: log_uniform_values, or distribution: uniform"
            )
        if self.distribution is None:
            object.__setattr__(self, "distribution", "int_uniform" if whole else "uniform")
        if self.distribution == "int_uniform" and not whole:
            raise ValueError(
                f"int_uniform must have whole numbers as min and max, but got {show(self.min)} and {show(self.max)}; "
                "use uniform, or whole numbers"
            )
        if self.distribution == "log_uniform_values" and self.min <= 0:
            raise ValueError(
                f"log_uniform_values must have min > 0, but got {show(self.min)}; raise min, or use uniform"
            )
        return self

    @property
    def is_range(self) -> bool:
        """Whether values are drawn between two bounds instead of listed."""
        return self.values is None

    def draw(self, random: Random) -> Any:
        """One value, drawn with the given generator."""
        if self.values is not None:
            return self.values[random.randrange(len(self.values))]
        if self.distribution == "int_uniform":
            return random.randint(self.min, self.max)
        if self.distribution == "log_uniform_values":
            value = math.exp(random.uniform(math.log(self.min), math.log(self.max)))
            return min(max(value, self.min), self.max)  # exp(log(x)) may exceed x in its last digit
        return random.uniform(self.min, self.max)

    def as_written(self) -> dict[str, Any]:
        """The mapping that a sweep file would have for it."""
        if self.values is not None:
            return {"values": list(self.values)}
        return {"min": self.min, "max": self.max, "distribution": self.distribution}


class Metric(_Part):
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


class RungSpec(_Part):
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


class EarlyTerminate(_Part):
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


class Validation(_Part):
    """Which training images are held out for validation: short for num_val_images and val_split of `base`."""

    images: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        default=None, description="how many; the data set's own number if absent"
    )
    split: ValSplit = Field(default="fixed", description="fixed, by_seed or k_fold")

    def fields(self) -> dict[str, Any]:
        """The trial's fields that it stands for, without defaults."""
        values = {"num_val_images": self.images, "val_split": self.split}
        return {name: value for name, value in values.items() if value not in (None, "fixed")}


class Final(_Part):
    """The winner of the confirmation is trained once more; its test accuracy is reported, and it is never ranked."""

    train_on: Literal["all"] = Field(description="all: no validation images are held out")


class Confirm(_Part):
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

    _distinct = field_validator("seeds")(lambda seeds: None if seeds is None else _each_once(seeds))

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


class Budget(_Part):
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


def _amount(value: Any) -> Any:
    if value == "auto":
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"must be a number or auto, but got {show(value)}; for example 0.5")
    if 0 < value < SMALLEST_AMOUNT:
        raise ValueError(
            f"must be at least {SMALLEST_AMOUNT}, the smallest share that Ray counts, but got {show(value)}; "
            "for example 0.5"
        )
    if value < 0 or value > 10_000 or (value > 1 and value != int(value)):
        raise ValueError(f"must be a fraction up to 1, or a whole number, but got {show(value)}; for example 0.5 or 2")
    return float(value)


Amount = Annotated[float | Literal["auto"], PlainValidator(_amount)]


def _switch(value: Any) -> bool:
    if not isinstance(value, bool) and value not in ("on", "off"):
        raise ValueError(f"must be on or off, but got {show(value)}; remove it for on")
    return value in (True, "on")


Mps = Literal["off", "on", "auto"]


class Resources(_Part):
    """What is reserved for one trial while it runs; auto: chosen for the machine."""

    cpu: Amount = Field(default="auto", description="CPU cores, or auto")
    gpu: Amount = Field(default="auto", description="GPUs or a fraction of one (0.25: four trials share it), or auto")

    mps: Mps = Field(
        default="off", description="NVIDIA's MPS for trials that share a GPU: on, off, or auto: measured with gpu: auto"
    )

    @field_validator("mps", mode="before")
    @classmethod
    def _on_off(cls, value: Any) -> Any:
        return ("on" if value else "off") if isinstance(value, bool) else value

    @model_validator(mode="after")
    def _mps_is_for_gpus(self) -> Resources:
        if self.mps == "auto" and self.gpu != "auto":
            raise rule_error("mps", f"auto is measured with gpu: auto, but gpu is {self.gpu:g}; write on or off")
        if self.mps == "on" and self.gpu == 0:
            raise rule_error("mps", "on needs a GPU, but gpu is 0; remove it")
        return self

    @field_validator("gpu")
    @classmethod
    def _one_gpu_at_most(cls, value: Any) -> Any:
        if value != "auto" and value > 1:
            raise ValueError(f"must be at most 1, because a trial trains on one GPU, but got {show(value)}; use 1")
        return value

    @field_validator("cpu")
    @classmethod
    def _not_zero(cls, value: Any) -> Any:
        if value == 0:
            raise ValueError("must be > 0, but got 0; use a fraction of a core such as 0.5")
        return value


class SweepSpec(_Part):
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

    _distinct = field_validator("seeds")(_each_once)

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
