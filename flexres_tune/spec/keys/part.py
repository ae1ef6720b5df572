"""What every key that holds a mapping has in common, and seeds."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from flexres_tune.spec.document.document import show

Seed = Annotated[int, Field(ge=0, lt=2**63, strict=True)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1, max_length=10_000)]


class Part(BaseModel):
    """Frozen, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def each_once(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """The seeds, if no seed is listed twice; else a ValueError."""
    if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
        raise ValueError(f"must be distinct, but {show(twice[0])} is listed twice in {show(seeds)}; remove one")
    return seeds
