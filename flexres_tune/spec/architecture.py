"""Architecture of a budgeted ResNet: N residual layers of B_i blocks with C_i channels, checked and normalised."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from flexres_tune.errors import ArchitectureError
from flexres_tune.spec.presets import PRESETS
from flexres_tune.text import did_you_mean

Count = Annotated[int, Field(ge=1, le=100_000, strict=True)]

Kernel = Annotated[int, Field(ge=1, le=31, strict=True)]

Probability = Annotated[float, Field(ge=0, lt=1, strict=True)]


class Architecture(BaseModel):
    """Every design variable of the network. A field that a preset leaves out has the default given here.

    After validation `kernel_size`, `shortcut_kernel_size`, `stem_channels` and `dropout` have their full form (one
    entry per layer or linear layer), so that two spellings of one network are equal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocks: tuple[Count, ...] = Field(
        min_length=1, max_length=12, description="B_i, residual blocks in layer i; N = len(blocks)"
    )
    channels: tuple[Count, ...] = Field(min_length=1, max_length=12, description="C_i, channels of layer i")
    kernel_size: tuple[tuple[Kernel, ...], ...] = Field(
        default=3,
        validate_default=True,
        description="F_i, kernel of a block's convolutions: one number, or one per layer, each a number or a pair",
    )
    shortcut_kernel_size: tuple[Kernel, ...] = Field(
        default=1,
        validate_default=True,
        description="K_i, kernel of the projection shortcut: one number, or one per layer",
    )
    pool_size: Count = Field(default=4, description="P, window of the average pool before the head")
    block: Literal["basic", "bottleneck", "preact"] = Field(
        default="basic",
        description="basic, bottleneck (1-3-1, expansion 4) or preact (He et al. 2016, Identity Mappings)",
    )
    stem_channels: Count | None = Field(default=None, description="channels of the stem convolution; C_1 if absent")
    stem_kernel_size: Kernel = Field(default=3, description="kernel of the stem convolution")
    extra_conv: Count | None = Field(
        default=None, description="channels of another 3x3 conv-BN-ReLU after the last layer"
    )
    head: tuple[Count, ...] = Field(
        default=(), max_length=8, description="hidden widths of the linear layers before the classifier"
    )
    dropout: tuple[Probability, ...] = Field(
        default=0.0,
        validate_default=True,
        description="dropout before each linear layer: one number for all, or one per linear layer",
    )

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, data: Any) -> Any:
        """Expand the short forms; values that cannot be expanded are left to the checks of their fields."""
        if not isinstance(data, Mapping):
            return data
        data = dict(data)
        blocks, channels, head = data.get("blocks"), data.get("channels"), data.get("head", ())
        num_layers = len(blocks) if isinstance(blocks, list | tuple) else 0
        kernel = data.get("kernel_size", 3)
        if isinstance(kernel, int):
            kernel = [kernel] * num_layers
        if isinstance(kernel, list | tuple):
            width = 1 if data.get("block") == "bottleneck" else 2  # a bottleneck has one spatial convolution
            data["kernel_size"] = [[k] * width if isinstance(k, int) else k for k in kernel]
        shortcut = data.get("shortcut_kernel_size", 1)
        data["shortcut_kernel_size"] = [shortcut] * num_layers if isinstance(shortcut, int) else shortcut
        if data.get("stem_channels") is None and isinstance(channels, list | tuple) and channels:
            data["stem_channels"] = channels[0]
        dropout = data.get("dropout", 0.0)
        if isinstance(dropout, int | float) and isinstance(head, list | tuple):
            data["dropout"] = [dropout] * (len(head) + 1)
        return data

    @field_validator("kernel_size", "shortcut_kernel_size", "stem_kernel_size")
    @classmethod
    def _odd(cls, value: Any, info) -> Any:
        flat = [value] if isinstance(value, int) else [k for v in value for k in ([v] if isinstance(v, int) else v)]
        if even := [k for k in flat if k % 2 == 0]:
            raise ArchitectureError(
                f"kernels must be odd, because an even one changes the map's size, but got {even[0]}; "
                f"use {max(1, even[0] - 1)} or {even[0] + 1}"
            )
        return value

    @model_validator(mode="after")
    def _lengths_agree(self) -> Architecture:
        n = len(self.blocks)
        for name in ("channels", "kernel_size", "shortcut_kernel_size"):
            if len(getattr(self, name)) != n:
                raise ArchitectureError(
                    f"{name} must have one entry for each of the {n} layers in blocks={list(self.blocks)}, "
                    f"but has {len(getattr(self, name))}: {_plain(getattr(self, name))}"
                )
        width = 1 if self.block == "bottleneck" else 2
        for i, kernels in enumerate(self.kernel_size, 1):
            if len(kernels) != width:
                what = "one number (its middle convolution's)" if width == 1 else "a number or a pair"
                raise ArchitectureError(
                    f"kernel_size of layer {i} must be {what} for block={self.block}, but got {_plain(kernels)}"
                )
        if len(self.dropout) != len(self.head) + 1:
            raise ArchitectureError(
                f"dropout must be one number or one for each of the {len(self.head) + 1} linear layers "
                f"(head={list(self.head)} and the classifier), but has {len(self.dropout)}: {_plain(self.dropout)}"
            )
        return self

    @property
    def name(self) -> str:
        """The preset's name if there is one, else the shape: "3-2-3-2/64-128-192-256"."""
        return _preset_name(self) or f"{'-'.join(map(str, self.blocks))}/{'-'.join(map(str, self.channels))}"


def preset(name: str) -> dict[str, Any]:
    """A preset's row as a fresh mapping.

    Raises:
        ArchitectureError: no preset has that name.
    """
    if name not in PRESETS:
        raise ArchitectureError(
            f"model must be a preset's name or a mapping with blocks and channels, but got {name!r}"
            f"{did_you_mean(name, PRESETS)}; presets: {', '.join(PRESETS)}"
        )
    return dict(PRESETS[name])


def _preset_name(architecture: Architecture) -> str | None:
    for name, row in PRESETS.items():
        if tuple(row["blocks"]) == architecture.blocks and tuple(row["channels"]) == architecture.channels:
            fields = {key: value for key, value in row.items() if key != "num_parameters"}
            if Architecture.model_validate(fields) == architecture:
                return name
    return None


def _plain(value: Any) -> Any:
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value
