"""TrialConfig: everything that affects a trial's result, and the ids that follow from it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from flexres_tune.spec.architecture import Architecture, parse_architecture
from flexres_tune.text import did_you_mean


class OptimizerTraits(NamedTuple):
    """What has to be known of an optimizer without torch; optim/optimizers.py builds it."""

    num_state_slots: int  # tensors that it keeps per parameter, each of the parameter's shape
    has_momentum: bool = False


OPTIMIZER_TRAITS: Mapping[str, OptimizerTraits] = {
    "sgd": OptimizerTraits(1, has_momentum=True),
    "nesterov": OptimizerTraits(1, has_momentum=True),
    "adam": OptimizerTraits(2),
    "adamw": OptimizerTraits(2),
    "adadelta": OptimizerTraits(2),
    "adagrad": OptimizerTraits(1),
}

OptimizerName = Literal[tuple(OPTIMIZER_TRAITS)]
ScheduleName = Literal["constant", "cosine", "step", "onecycle"]
AugmentationName = Literal["crop", "flip", "rotation", "perspective", "autoaugment", "trivialaugment", "cutout"]
Precision = Literal["auto", "fp32", "bf16"]
Compile = Literal["auto", "on", "off"]

OPTIMIZER_NAMES: tuple[str, ...] = tuple(OPTIMIZER_TRAITS)
SCHEDULE_NAMES: tuple[str, ...] = get_args(ScheduleName)
AUGMENTATION_NAMES: tuple[str, ...] = get_args(AugmentationName)
DATASET_NAMES = ("digits", "cifar10")  # and parquet:PATH

Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]  # strict: neither "0.1" nor true is a number


class TrialConfig(BaseModel):
    """One trial. Frozen; the same values have the same ids on any machine and in any sweep.

    A default given here is never changed later, only added: `config_id` leaves defaults out, so that a new
    field does not change the ids of old rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Architecture = Field(description="architecture: a preset's name, or a mapping with blocks and channels")
    dataset: str = Field(default="cifar10", description="digits, cifar10 or parquet:PATH")
    num_train_images: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        default=None,
        description="use only the first n training images; the validation images stay the same; all if absent",
    )
    optimizer: OptimizerName = Field(default="sgd", description="optimizer")
    lr: Annotated[Number, Field(gt=0)] = Field(default=0.1, description="learning rate; the peak of a schedule")
    momentum: Annotated[Number, Field(ge=0, lt=1)] | None = Field(
        default=None,
        validate_default=True,
        description="momentum of sgd and nesterov, 0.9 if absent; the others have none",
    )
    weight_decay: Annotated[Number, Field(ge=0)] = Field(default=5e-4, description="L2 penalty; decoupled in adamw")
    lr_schedule: ScheduleName = Field(
        default="cosine", description="shape of the learning rate over the trial's own steps"
    )
    warmup_epochs: Annotated[Number, Field(ge=0)] = Field(
        default=0.0, description="linear rise of the learning rate at the start, in epochs"
    )
    batch_size: Annotated[int, Field(ge=1, le=65_536, strict=True)] = Field(default=128, description="images a step")
    epochs: Annotated[int, Field(ge=1, le=100_000, strict=True)] = Field(
        default=20, description="passes over the training images"
    )
    mixup_alpha: Annotated[Number, Field(ge=0)] = Field(
        default=0.0, description="alpha of mixup's Beta(alpha, alpha); 0 is off"
    )
    cutmix_alpha: Annotated[Number, Field(ge=0)] = Field(
        default=0.0, description="alpha of cutmix's Beta(alpha, alpha); 0 is off"
    )
    label_smoothing: Annotated[Number, Field(ge=0, lt=1)] = Field(
        default=0.0, description="probability spread evenly over all classes"
    )
    normalize: Annotated[bool, Field(strict=True)] = Field(
        default=True, description="subtract the training images' channel means, divide by their deviations"
    )
    augmentation: tuple[AugmentationName, ...] = Field(
        default=("crop", "flip"), description="random changes to each training image, in this order"
    )
    precision: Precision = Field(
        default="auto", description="fp32, bf16 (autocast) or auto: what this device gains from"
    )
    compile: Compile = Field(
        default="auto", description="on, off or auto: torch.compile where it saves more than it costs"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = Field(
        default=0, description="seed of weights, order and augmentation"
    )

    @field_validator("model", mode="before")
    @classmethod
    def _parse_model(cls, value: Any) -> Any:
        if isinstance(value, str | Mapping | Architecture):
            return parse_architecture(value)
        raise ValueError(f"must be a preset's name or a mapping with blocks and channels, but got {value!r}")

    @field_validator("compile", mode="before")
    @classmethod
    def _on_off(cls, value: Any) -> Any:
        return ("on" if value else "off") if isinstance(value, bool) else value

    @field_validator("dataset")
    @classmethod
    def _known_dataset(cls, value: str) -> str:
        if value in DATASET_NAMES or re.fullmatch(r"parquet:[^\x00]+", value):
            return value
        raise ValueError(
            f"must be {', '.join(DATASET_NAMES)} or parquet:PATH, but got {value[:200]!r}"
            f"{did_you_mean(value, DATASET_NAMES) or '; for example cifar10'}"
        )

    @field_validator("augmentation")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"must name each augmentation once, but has {', '.join(twice)} twice; leave one out")
        return value

    @model_validator(mode="after")
    def _agree(self) -> TrialConfig:
        has_momentum = OPTIMIZER_TRAITS[self.optimizer].has_momentum
        if self.momentum is not None and not has_momentum:
            raise ValueError(
                f"momentum belongs to sgd and nesterov, but optimizer is {self.optimizer} and momentum "
                f"{self.momentum:g}; leave it out, or give it only beside optimizer: sgd in a union of grids"
            )
        if self.momentum is None and has_momentum:
            object.__setattr__(self, "momentum", 0.9)  # frozen; filled in here so that both spellings have one id
        if self.optimizer == "nesterov" and self.momentum == 0:
            raise ValueError("momentum must be above 0 with optimizer nesterov, but got 0; use sgd, which it then is")
        if self.mixup_alpha and self.cutmix_alpha:
            raise ValueError(
                f"mixup_alpha and cutmix_alpha must not both be above 0, but got {self.mixup_alpha:g} and "
                f"{self.cutmix_alpha:g}; set one to 0"
            )
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"warmup_epochs < epochs must hold, but got {self.warmup_epochs:g} and {self.epochs}; "
                "shorten the warm-up"
            )
        if self.lr_schedule == "onecycle" and self.warmup_epochs:
            raise ValueError(
                f"warmup_epochs must be 0 with lr_schedule onecycle, which has its own rise, but got "
                f"{self.warmup_epochs:g}"
            )
        return self

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for crossing process borders; `TrialConfig.model_validate` reads them back."""
        return self.model_dump(mode="json")

    def columns(self) -> dict[str, Any]:
        """The configuration's columns in the tables: every field, the architecture's beside the trial's own.

        `model` is the preset's name, or the shape where no preset has it; `seed` is a column of its own.
        """
        values = self.to_dict()
        architecture = values.pop("model")
        del values["seed"]
        return {"model": self.model.name, **architecture, **values}

    @property
    def config_id(self) -> str:
        """Hash of everything that affects the result except the seed: twelve hex digits."""
        return _digest(self.model_dump(mode="json", exclude={"seed", "model"}, exclude_defaults=True), self.model)

    @property
    def trial_id(self) -> str:
        """`<config_id>-<seed>`: the configuration and its seed, readable as such and safe as a file's name."""
        return f"{self.config_id}-{self.seed}"


def _digest(values: dict[str, Any], model: Architecture) -> str:
    values = values | {"model": model.model_dump(mode="json")}
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
