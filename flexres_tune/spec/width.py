"""Widest channels under a budget: C_i = max(1, floor(s * r_i)) for the largest s that fits, then single channels.

r is a ratio of channels between the layers: doubling (1, 2, 4, ...) unless another is given. First the scale s, which
all layers share, is made as large as the budget allows. Then s grows further, one channel at a time in the order in
which the layers would receive theirs; a layer whose next channel does not fit is skipped while the others continue.
So the ratio is kept as well as whole channels can keep it, and the result is maximal: no layer can have one channel
more. Pure arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import floor
from types import MappingProxyType
from typing import Any

from flexres_tune.errors import ArchitectureError, FlexResError
from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.document.document import Finding, show
from flexres_tune.spec.own_code.model import OwnModel, widest_own
from flexres_tune.spec.own_code.source import CodeError, CodeName, Source
from flexres_tune.spec.parameters import EXPANSION, InputShape, count_parameters, parse_architecture
from flexres_tune.spec.trial import images_of

FIT = "fit"  # the only value of `width`
MAX_CHANNELS = 100_000  # as Architecture allows


class OverBudgetError(ArchitectureError):
    """Not even one channel per layer fits the budget."""


@dataclass(frozen=True)
class Fit:
    """The widest form of an architecture."""

    architecture: Architecture
    scaled: tuple[int, ...]  # channels at the largest common scale, before single channels were added
    num_parameters: int


def widest(model: Mapping[str, Any], max_parameters: int, num_classes: int = 10, image_size: int = 32) -> Fit:
    """The architecture with the widest channels of at most `max_parameters` trainable parameters.

    Args:
        model: mapping with the presets' keys. `channels` is the ratio, doubling if absent. A given `stem_channels`
            stays; else the stem is as wide as the first layer. `head` and `extra_conv` stay.

    Raises:
        ArchitectureError: not a valid model, the pool does not fit, or one channel per layer is over the budget.
    """
    template = with_ratio(model)
    template.pop("num_parameters", None)
    stem_follows = template.get("stem_channels") is None
    return _widest(parse_architecture(template), stem_follows, max_parameters, num_classes, image_size)


def with_ratio(model: Mapping[str, Any]) -> dict[str, Any]:
    """The model without `width`; a model without channels gets the doubling ratio."""
    plain = {key: value for key, value in model.items() if key != "width"}
    blocks = plain.get("blocks")
    if plain.get("channels") is None:  # without blocks any ratio does: the check then reports the missing blocks
        num_layers = min(len(blocks), 12) if isinstance(blocks, list | tuple) else 1  # more are refused anyway
        plain["channels"] = [2**i for i in range(num_layers)]
    return plain


def apply_width(
    values: Mapping[str, Any],
    describe: Callable[[str], InputShape | None],
    max_parameters: int,
    code: Mapping[str, Source] = MappingProxyType({}),
) -> tuple[dict[str, Any], list[Finding]]:
    """A trial's values with `width: fit` replaced by plain channels, so that no id depends on it.

    Values without `width` are returned as they are. Of a model that is wrong in another way only `width` is removed:
    the check of all models reports the rest. Paths of findings start with the trial's key. Of an own model, which
    `code` has the source of, `model.width: fit` becomes the largest whole width that it can be called with.
    """
    if values.get("model.width") == FIT and isinstance(values.get("model"), str) and values["model"] in code:
        return _apply_own_width(values, describe, max_parameters, code)
    model = _merged(values)
    if model is None or "width" not in model:
        return dict(values), []
    rest = {key: value for key, value in values.items() if key != "model" and not key.startswith("model.")}
    template = with_ratio(model)
    if problem := width_problem(model["width"]):
        return {**rest, "model": template}, [(("model", "width"), problem)]
    images = images_of(values)
    try:
        shape = describe(images) if images else None
        num_classes, image_size = (shape.num_classes, shape.image_size) if shape else (10, 32)
        channels = widest(template, max_parameters, num_classes, image_size).architecture.channels
    except OverBudgetError as error:
        return {**rest, "model": template}, [(("model", "width"), str(error))]
    except FlexResError:
        return {**rest, "model": template}, []
    return {**rest, "model": {**template, "channels": list(channels)}}, []


def _apply_own_width(
    values: Mapping[str, Any],
    describe: Callable[[str], InputShape | None],
    max_parameters: int,
    code: Mapping[str, Source],
) -> tuple[dict[str, Any], list[Finding]]:
    name = values["model"]
    given = {key.removeprefix("model."): value for key, value in values.items() if key.startswith("model.")}
    del given["width"]
    images = images_of(values, code)
    try:
        shape = describe(images) if images else None
        num_classes, image_size = (shape.num_classes, shape.image_size) if shape else (10, 32)
        model = OwnModel(code=CodeName(name, code[name]), values=given)
        width = widest_own(model, max_parameters, num_classes, image_size).values["width"]
    except CodeError as error:
        return {**values, "model.width": 1}, [(("model.width",), str(error))]
    except FlexResError:  # the data set, which another check reports
        return {**values, "model.width": 1}, []
    return {**values, "model.width": width}, []


def width_problem(value: Any) -> str | None:
    """The problem of a value of `width`, the only key of a model that is not a field of Architecture; None if right."""
    if value == FIT:
        return None
    return (
        f"must be {FIT} (the widest channels under max_parameters), but got {show(value)}; "
        "write width: fit, or leave it out and give channels"
    )


def _merged(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The model changed by the `model.` fields; None if the model is not a mapping."""
    model = values.get("model")
    if not isinstance(model, Mapping):
        return None
    return dict(model) | {
        key.removeprefix("model."): value for key, value in values.items() if key.startswith("model.")
    }


@lru_cache(maxsize=1024)  # a sweep asks for the same few shapes thousands of times
def _widest(template: Architecture, stem_follows: bool, budget: int, num_classes: int, image_size: int) -> Fit:
    ratio = [c / max(template.channels) for c in template.channels]

    def shaped(channels: tuple[int, ...]) -> Architecture:
        stem = {"stem_channels": channels[0]} if stem_follows else {}
        return template.model_copy(update={"channels": channels, **stem})

    def count(channels: tuple[int, ...]) -> int:
        return count_parameters(shaped(channels), num_classes, image_size)

    def at(scale: float) -> tuple[int, ...]:
        return tuple(min(MAX_CHANNELS, max(1, floor(scale * r))) for r in ratio)

    scale = _largest_scale(template, stem_follows, ratio, lambda s: count(at(s)) <= budget)
    if scale is None:
        narrowest = at(0)
        raise OverBudgetError(
            f"max_parameters must leave room for one channel per layer, but blocks={list(template.blocks)} with the "
            f"given head and stem then have {count(narrowest):,} parameters, and max_parameters is {budget:,}; "
            "use fewer or smaller layers, or raise max_parameters"
        )
    channels = scaled = at(scale)
    num_parameters = count(channels)
    full: set[int] = set()
    while len(full) < len(ratio):
        i = min((i for i in range(len(ratio)) if i not in full), key=lambda i: ((channels[i] + 1) / ratio[i], -i))
        wider = (*channels[:i], channels[i] + 1, *channels[i + 1 :])
        if wider[i] > MAX_CHANNELS or count(wider) > budget:
            full.add(i)
            continue
        if count(wider) < num_parameters:  # the first layer no longer needs a shortcut, so there is room again
            full.clear()
        channels, num_parameters = wider, count(wider)
    return Fit(shaped(channels), scaled, num_parameters)


def _largest_scale(
    template: Architecture, stem_follows: bool, ratio: list[float], fits: Callable[[float], bool]
) -> float | None:
    """The largest scale that fits; None if none does.

    More channels are more parameters, with one exception: if the first layer is exactly as wide as a given stem, it
    needs no projection shortcut. So three intervals are searched, from the widest.
    """
    top = MAX_CHANNELS + 1.0
    edges = [0.0, top]
    expansion = EXPANSION if template.block == "bottleneck" else 1
    if not stem_follows and template.stem_channels % expansion == 0:
        equal = template.stem_channels // expansion
        just_above = (1 + 1e-12) / ratio[0]  # so that floor() gives the whole channel
        edges = [0.0, equal * just_above, (equal + 1) * just_above, top]
        if edges[2] >= top:
            edges = [0.0, top]
    for low, high in reversed(list(pairwise(edges))):
        if not fits(low):
            continue
        for _ in range(60):  # bisection, to a relative 1e-13: only the side of a whole channel matters
            middle = (low + high) / 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        return low
    return None
