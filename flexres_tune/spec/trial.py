"""TrialConfig: everything that affects a trial's result, and the ids that follow from it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, field_validator, model_validator
from pydantic_core import PydanticCustomError, PydanticKnownError

from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.images import ImageOptions, Resize, TestImages, name_images, split_options
from flexres_tune.spec.own_code.model import OwnModel
from flexres_tune.spec.own_code.source import CodeName, Source
from flexres_tune.spec.parameters import parse_architecture
from flexres_tune.text import did_you_mean, join_words


class OptimizerTraits(NamedTuple):
    """What the other rooms must know of an optimizer without torch; optim/optimizers.py builds it."""

    num_state_slots: int  # tensors that it keeps per parameter, each of the parameter's shape
    default_momentum: float | None = None  # None: it takes no momentum
    needs_momentum: bool = False  # with momentum 0 it would be another optimizer


OWN_OPTIMIZER = OptimizerTraits(2)  # what is assumed of an optimizer of the user's own: at most Adam's state


# The rows that a new optimizer, schedule, augmentation or source of images needs here; docs/architecture.md has the rest
OPTIMIZER_TRAITS: Mapping[str, OptimizerTraits] = {
    "sgd": OptimizerTraits(1, default_momentum=0.9),
    "nesterov": OptimizerTraits(1, default_momentum=0.9, needs_momentum=True),
    "adam": OptimizerTraits(2),
    "adamw": OptimizerTraits(2),
    "adadelta": OptimizerTraits(2),
    "adagrad": OptimizerTraits(1),
}
SCHEDULE_NAMES: tuple[str, ...] = ("constant", "cosine", "step", "onecycle")
AUGMENTATION_NAMES: tuple[str, ...] = (
    "crop",
    "flip",
    "rotation",
    "perspective",
    "autoaugment",
    "trivialaugment",
    "cutout",
)
DATASET_FORMS: tuple[str, ...] = (
    "digits",
    "cifar10",
    "cifar100",
    "svhn",
    "mnist",
    "fashion_mnist",
    "stl10",
    "parquet:PATH",
    "image_folder:PATH",
)

# as files had it before label_column was a key of its own; it keeps its ids
_OLD_LABEL_COLUMN = re.compile(r"parquet:.+\?label_column=[^?&]+")

OPTIMIZER_NAMES: tuple[str, ...] = tuple(OPTIMIZER_TRAITS)
OWN_CODE_FIELDS = ("model", "optimizer", "lr_schedule", "augmentation", "dataset")  # whose values may name own code
ValSplit = Literal["fixed", "by_seed", "k_fold"]
NO_SPLIT = "none"  # of val_split: nothing is held out, in the final run of `confirm`
Precision = Literal["auto", "fp32", "tf32", "bf16"]
Compile = Literal["auto", "on", "off"]


OWN_CODE = "FILE.py:NAME"  # how messages write a reference to code of the user's own


def optimizer_traits(name: str) -> OptimizerTraits:
    """Traits of an optimizer by its name, or those that are assumed of an own one."""
    return OWN_OPTIMIZER if isinstance(name, CodeName) else OPTIMIZER_TRAITS[name]


def name_in(registry: Callable[[], Iterable[str]], or_own: str | None = None) -> PlainValidator:
    """Validator of a name that a registry has, or of the user's own code; the registry may grow.

    Args:
        or_own: how a message writes own code, if the key takes it.
    """

    def check(value: Any) -> str:
        if isinstance(value, CodeName):
            return value
        names = list(registry())
        if value not in names:
            raise PydanticKnownError("literal_error", {"expected": join_words([*names, *([or_own] if or_own else [])])})
        return value

    return PlainValidator(check)


def rule_error(field: str, message: str) -> PydanticCustomError:
    """A rule between several fields does not hold; the message is shown at `field`."""
    return PydanticCustomError("rule", "{message}", {"message": message, "field": field})


def _resize_text(value: Any) -> str | None:
    """`32` or `32 center`: one spelling, so that equal settings have one id."""
    return None if value is None else str(Resize.parse(value))


Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]  # strict: neither "0.1" nor true is a number


class TrialConfig(BaseModel):
    """One trial. Frozen; the same values have the same ids on any machine and in any sweep.

    A default may be added but never changed: `config_id` leaves defaults out, so that a new field does not change the
    ids of old rows.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Architecture | OwnModel = Field(
        description="architecture: a preset's name, a mapping with blocks and channels, or FILE.py:NAME"
    )
    dataset: str = Field(default="cifar10", description=join_words(DATASET_FORMS))
    num_train_images: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        default=None,
        description="use only the first n training images; the validation images stay the same; all if absent",
    )
    num_val_images: Annotated[int, Field(ge=1, strict=True)] | None = Field(
        default=None, description="number of training images held out for validation; the data set's own if absent"
    )
    val_split: ValSplit | Literal["none"] = Field(
        default="fixed",
        description="which images are held out: fixed; by_seed, drawn from the seed; k_fold, fold number seed modulo k; "
        "none, in the final run of a sweep alone",
    )
    label_column: Annotated[str, Field(min_length=1, max_length=200, strict=True)] | None = Field(
        default=None,
        description="parquet:PATH: the column of labels; `label`, or the only one of whole numbers, if absent",
    )
    resize: Annotated[str | None, PlainValidator(_resize_text)] = Field(
        default=None,
        description="bring images to one size when they are decoded: 32 stretches, {size: 32, crop: center} cuts",
    )
    test: TestImages = Field(
        default="all", description="all or none: none measures nothing on test images, and the data set needs none"
    )
    optimizer: Annotated[str, name_in(lambda: OPTIMIZER_TRAITS, OWN_CODE)] = Field(
        default="sgd", description="optimizer"
    )
    lr: Annotated[Number, Field(gt=0)] = Field(default=0.1, description="learning rate; the peak of a schedule")
    momentum: Annotated[Number, Field(ge=0, lt=1)] | None = Field(
        default=None,
        validate_default=True,
        description="momentum of sgd and nesterov, 0.9 if absent; the other optimizers have none",
    )
    weight_decay: Annotated[Number, Field(ge=0)] = Field(default=5e-4, description="L2 penalty; decoupled in adamw")
    lr_schedule: Annotated[str, name_in(lambda: SCHEDULE_NAMES, OWN_CODE)] = Field(
        default="cosine", description="shape of the learning rate over the trial's own steps"
    )
    warmup_epochs: Annotated[Number, Field(ge=0)] = Field(
        default=0.0, description="linear rise of the learning rate at the start, in epochs"
    )
    batch_size: Annotated[int, Field(ge=1, le=65_536, strict=True)] = Field(default=128, description="images per step")
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
    augmentation: tuple[Annotated[str, name_in(lambda: AUGMENTATION_NAMES, OWN_CODE)], ...] = Field(
        default=("crop", "flip"), description="random changes to each training image, in this order"
    )
    precision: Precision = Field(
        default="auto", description="fp32, tf32 (NVIDIA GPUs), bf16 (autocast) or auto: what the device is fastest with"
    )
    compile: Compile = Field(
        default="auto", description="on, off or auto: use torch.compile if it saves more time than it costs"
    )
    seed: Annotated[int, Field(ge=0, lt=2**63, strict=True)] = Field(
        default=0, description="seed of weights, order and augmentation"
    )
    optimizer_values: dict[str, Any] = Field(
        default_factory=dict, description="keyword arguments of an own optimizer, written optimizer.NAME in a sweep"
    )
    code: dict[str, Source] = Field(
        default_factory=dict, description="source of each value that names the user's own code"
    )

    @model_validator(mode="before")
    @classmethod
    def _attach_code(cls, data: Any) -> Any:
        """Give each reference its source; a reference without one is refused by the check of its field."""
        if not isinstance(data, Mapping) or not data.get("code"):
            return data
        code = {name: Source.model_validate(source) for name, source in data["code"].items()}

        def attach(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return [attach(item) for item in value]
            return CodeName(value, code[value]) if isinstance(value, str) and value in code else value

        fields = {key: attach(data[key]) for key in OWN_CODE_FIELDS if key in data}
        if isinstance(model := data.get("model"), Mapping) and "code" in model:
            fields["model"] = {**model, "code": attach(model["code"])}
        return {**data, **fields}

    @field_validator("model", mode="before")
    @classmethod
    def _parse_model(cls, value: Any) -> Any:
        if isinstance(value, CodeName | OwnModel) or (isinstance(value, Mapping) and "code" in value):
            return {"code": value} if isinstance(value, CodeName) else value
        if isinstance(value, str | Mapping | Architecture):
            return parse_architecture(value)
        raise ValueError(f"must be a preset's name or a mapping with blocks and channels, but got {value!r}")

    @field_validator("compile", mode="before")
    @classmethod
    def _on_off(cls, value: Any) -> Any:
        return ("on" if value else "off") if isinstance(value, bool) else value

    @field_validator("dataset", mode="wrap")
    @classmethod
    def _known_dataset(cls, value: Any, as_text: Callable[[Any], str]) -> str:
        if isinstance(value, CodeName):
            return value
        value = as_text(value)
        name, colon, path = value.partition(":")
        if split_options(value)[1] and not _OLD_LABEL_COLUMN.fullmatch(value):
            raise ValueError(
                f"options of a data set are keys of their own, but got {value[:200]!r}; write dataset: "
                f"{split_options(value)[0][:200]} and the keys label_column, resize and test"
            )
        if (f"{name}:PATH" if colon else name) in DATASET_FORMS and bool(path) == bool(colon) and "\0" not in path:
            return value
        raise ValueError(
            f"must be {join_words(DATASET_FORMS)}, but got {value[:200]!r}"
            f"{did_you_mean(value.lower(), DATASET_FORMS) or '; for example cifar10'}"
        )

    @field_validator("augmentation")
    @classmethod
    def _each_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in value if value.count(name) > 1}):
            raise ValueError(f"must name each augmentation once, but has {', '.join(twice)} twice; leave one out")
        return value

    @model_validator(mode="after")
    def _agree(self) -> TrialConfig:
        traits = optimizer_traits(self.optimizer)
        if self.optimizer_values and not isinstance(self.optimizer, CodeName):
            name = next(iter(self.optimizer_values))
            raise rule_error(
                f"optimizer.{name}",
                f"optimizer.{name} belongs to an optimizer of your own, FILE.py:NAME, but optimizer is "
                f"{self.optimizer}; leave it out",
            )
        if self.momentum is not None and traits.default_momentum is None:
            is_own = isinstance(self.optimizer, CodeName)
            takers = [name for name, row in OPTIMIZER_TRAITS.items() if row.default_momentum is not None]
            raise rule_error(
                "momentum",
                f"momentum belongs to {join_words(takers, 'and')}, but optimizer is {self.optimizer} and momentum "
                f"{self.momentum:g}; leave it out, or give it only with optimizer: sgd in a union of grids"
                + ("; what your optimizer takes is written optimizer.momentum" if is_own else ""),
            )
        if self.momentum is None:
            object.__setattr__(self, "momentum", traits.default_momentum)  # frozen; so both spellings have one id
        if traits.needs_momentum and self.momentum == 0:
            message = f"momentum must be above 0 with optimizer {self.optimizer}, but got 0; use optimizer: sgd"
            raise rule_error("momentum", message)
        self._check_images()
        if self.mixup_alpha and self.cutmix_alpha:
            raise rule_error(
                "mixup_alpha",
                f"mixup_alpha and cutmix_alpha must not both be above 0, but got {self.mixup_alpha:g} and "
                f"{self.cutmix_alpha:g}; set one to 0",
            )
        if self.warmup_epochs >= self.epochs:
            raise rule_error(
                "warmup_epochs",
                f"warmup_epochs must be less than epochs, but got {self.warmup_epochs:g} and {self.epochs}; "
                "shorten the warm-up",
            )
        if self.lr_schedule == "onecycle" and self.warmup_epochs:
            raise rule_error(
                "warmup_epochs",
                "warmup_epochs must be 0 with lr_schedule onecycle, which has its own warm-up, but got "
                f"{self.warmup_epochs:g}; set it to 0, or use lr_schedule: cosine",
            )
        return self

    def _check_images(self) -> None:
        if self.label_column is not None and not self.dataset.startswith("parquet:"):
            raise rule_error(
                "label_column",
                f"label_column belongs to parquet:PATH, but dataset is {self.dataset[:200]}; leave it out",
            )
        if self.label_column is not None and split_options(self.dataset)[1].label_column:
            raise rule_error(
                "label_column", f"dataset has a label_column already: {self.dataset[:200]}; remove it there"
            )
        if self.resize is not None and isinstance(self.dataset, CodeName):
            raise rule_error(
                "resize",
                f"resize belongs to data sets that this package reads, but dataset is {self.dataset}; resize the images "
                "there, and leave it out",
            )

    def __hash__(self) -> int:
        return hash(
            self.trial_id
        )  # equal configurations have equal ids; fields of own code are mappings, without a hash

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, for another process; `TrialConfig.model_validate` reads them back."""
        return self.model_dump(mode="json")

    def columns(self) -> dict[str, Any]:
        """The configuration's columns in the tables: every field of the trial and of its architecture.

        `model` is the preset's name, or the shape if no preset has it; `seed` is not among them. The architecture's
        fields are null for an own model. `own_values` and `code` are JSON texts, null without own code.
        """
        values = self.to_dict()
        architecture = values.pop("model")
        for name in ("seed", "optimizer_values", "code"):
            del values[name]
        if isinstance(self.model, OwnModel):
            architecture = dict.fromkeys(Architecture.model_fields)
        own = {"own_values": self.own_values, "code": self._digests}
        return {"model": self.model.name, **architecture, **values} | {
            name: json.dumps(value, sort_keys=True) if value else None for name, value in own.items()
        }

    @property
    def images(self) -> str:
        """The data set with the options that change its images or labels, as `datasets` reads it."""
        resize = Resize.parse(self.resize) if self.resize else None
        return name_images(self.dataset, ImageOptions(self.label_column, resize, self.test == "all"))

    @property
    def own_values(self) -> dict[str, Any]:
        """Values of own models and optimizers by the key of a sweep file, such as `model.width`."""
        of_model = self.model.values if isinstance(self.model, OwnModel) else {}
        return {f"model.{name}": value for name, value in of_model.items()} | {
            f"optimizer.{name}": value for name, value in self.optimizer_values.items()
        }

    @property
    def _digests(self) -> dict[str, str]:
        return {name: source.digest for name, source in self.code.items()}

    @property
    def config_id(self) -> str:
        """Hash of everything that affects the result except the seed: twelve hex digits."""
        values = self.model_dump(mode="json", exclude={"seed", "model", "code"}, exclude_defaults=True)
        if "num_val_images" in values:
            values["val_images"] = values.pop("num_val_images")  # its name when the first rows with it were written
        return _digest(values | ({"code": self._digests} if self.code else {}), self.model)

    @property
    def trial_id(self) -> str:
        """`<config_id>-<seed>`, which is also safe as a file's name."""
        return f"{self.config_id}-{self.seed}"


def images_of(values: Mapping[str, Any], code: Mapping[str, Source] = MappingProxyType({})) -> str | None:
    """`TrialConfig.images` of a trial's values before they are checked; None if they are wrong, which is reported later.

    Args:
        code: the source of each reference to own code.
    """
    dataset = values.get("dataset", TrialConfig.model_fields["dataset"].default)
    column, resize = values.get("label_column"), values.get("resize")
    if not isinstance(dataset, str) or not isinstance(column, str | None):
        return None
    try:
        options = ImageOptions(column, None if resize is None else Resize.parse(resize), values.get("test") != "none")
        return name_images(CodeName(dataset, code[dataset]) if dataset in code else dataset, options)
    except ValueError:
        return None


# The fields that sweep files, command lines and tables have by their own names
TRIAL_FIELDS: tuple[str, ...] = tuple(n for n in TrialConfig.model_fields if n not in ("optimizer_values", "code"))


def _digest(values: dict[str, Any], model: Architecture | OwnModel) -> str:
    values = values | {"model": model.model_dump(mode="json")}
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]
