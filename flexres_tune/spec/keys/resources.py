"""What is reserved for one trial: `resources_per_trial`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, field_validator, model_validator

from flexres_tune.spec.document.document import show
from flexres_tune.spec.keys.part import Part
from flexres_tune.spec.trial import rule_error

SMALLEST_AMOUNT = 0.0001  # of a CPU or GPU: Ray counts in ten-thousandths


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


Mps = Literal["off", "on", "auto"]


class Resources(Part):
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
