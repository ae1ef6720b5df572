"""Widest channels under a budget: C_i = max(1, floor(s * r_i)) for the largest s that fits, then what is left over.

r is a ratio of channels between the layers: doubling (1, 2, 4, ...) unless another is given. "Widest" is settled in
two steps. First the scale s that all layers share is made as large as the budget allows. Then s goes on growing, one
channel at a time in the order in which the layers would receive theirs, and a layer whose next channel no longer fits
stays behind while the others go on. So the ratio is kept as far as whole channels can keep it, and the result is
maximal: no layer can have one channel more. Pure arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from math import floor
from typing import Any

from pydantic import ValidationError

from flexres_tune.errors import ArchitectureError, FlexResError, Problem
from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.document import Finding, format_path, show
from flexres_tune.spec.messages import findings
from flexres_tune.spec.parameters import EXPANSION, DataShape, count_quickly
from flexres_tune.spec.trial import TrialConfig

FIT = "fit"  # the only value of `width`
MAX_CHANNELS = 100_000  # as Architecture allows


class OverBudgetError(ArchitectureError):
    """Not even one channel a layer fits the budget."""


@dataclass(frozen=True)
class Fit:
    """The widest form of an architecture."""

    architecture: Architecture
    scaled: tuple[int, ...]  # channels at the largest common scale, before what was left over was spent
    num_parameters: int


def fit_width(
    model: Mapping[str, Any], max_parameters: int, num_classes: int = 10, image_size: int = 32
) -> Architecture:
    """`widest()` alone, as a sweep wants it; the same arguments are answered at once."""
    return widest(model, max_parameters, num_classes, image_size).architecture


def widest(model: Mapping[str, Any], max_parameters: int, num_classes: int = 10, image_size: int = 32) -> Fit:
    """The architecture with the widest channels of at most `max_parameters` trainable parameters.

    Args:
        model: mapping with the presets' keys. `channels` is the ratio, doubling where it is absent. A `stem_channels`
            that is given stays; else the stem is as wide as the first layer. `head` and `extra_conv` stay.

    Raises:
        ArchitectureError: not a valid model, the pool does not fit, or one channel a layer is over the budget.
    """
    template = with_ratio(model)
    try:
        architecture = Architecture.model_validate({k: v for k, v in template.items() if k != "num_parameters"})
    except ValidationError as error:
        problems = (Problem(format_path(path), message) for path, message in findings(error))
        raise ArchitectureError("; ".join(map(str, problems))) from None
    return _widest(architecture, template.get("stem_channels") is None, max_parameters, num_classes, image_size)


def with_ratio(model: Mapping[str, Any]) -> dict[str, Any]:
    """The model without `width`, and with the doubling ratio as its channels where it has none."""
    plain = {key: value for key, value in model.items() if key != "width"}
    blocks = plain.get("blocks")
    if plain.get("channels") is None:  # without blocks any will do: their absence is reported, not that of channels
        num_layers = min(len(blocks), 12) if isinstance(blocks, list | tuple) else 1  # more are refused anyway
        plain["channels"] = [2**i for i in range(num_layers)]
    return plain


def apply_width(
    values: Mapping[str, Any], describe: Callable[[str], DataShape | None], max_parameters: int
) -> tuple[dict[str, Any], list[Finding]]:
    """A trial's values with `width: fit` turned into plain channels, so that no id depends on it.

    Values without it come back as they are; so do those whose model is wrong otherwise, but for `width` itself:
    what is wrong with them is found where every model is checked. Paths of findings start with the trial's key.
    """
    model = _merged(values)
    if model is None or "width" not in model:
        return dict(values), []
    rest = {key: value for key, value in values.items() if key != "model" and not key.startswith("model.")}
    template = with_ratio(model)
    if problem := width_problem(model["width"]):
        return {**rest, "model": template}, [(("model", "width"), problem)]
    dataset = values.get("dataset", TrialConfig.model_fields["dataset"].default)
    try:
        shape = describe(dataset) if isinstance(dataset, str) else None
        num_classes, image_size = (
            (shape.num_classes, shape.image_size) if shape else (10, 32)
        )  # not known: checked only
        Architecture.model_validate({key: value for key, value in template.items() if key != "num_parameters"})
        architecture = fit_width(template, max_parameters, num_classes, image_size)
    except OverBudgetError as error:
        return {**rest, "model": template}, [(("model", "width"), str(error))]
    except (FlexResError, ValidationError):
        return {**rest, "model": template}, []
    return {**rest, "model": {**template, "channels": list(architecture.channels)}}, []


def width_problem(value: Any) -> str | None:
    """What is wrong with the value of `width`, the one key of a model that is no field of Architecture."""
    if value == FIT:
        return None
    return (
        f"must be {FIT} (the widest channels under max_parameters), but got {show(value)}; "
        "write width: fit, or leave it out and give channels"
    )


def _merged(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The model with its `model.` fields laid over it; None where it is a preset's name, or nothing that could be."""
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
        return count_quickly(shaped(channels), num_classes, image_size)

    def at(scale: float) -> tuple[int, ...]:
        return tuple(min(MAX_CHANNELS, max(1, floor(scale * r))) for r in ratio)

    def fits(channels: tuple[int, ...]) -> bool:
        return count(channels) <= budget

    scaled = next((at(s) for s in _scales(template, stem_follows, ratio, lambda s: fits(at(s)))), None)
    if scaled is None:
        narrowest = at(0)
        raise OverBudgetError(
            f"max_parameters must leave room for one channel a layer, but blocks={list(template.blocks)} with the head "
            f"and stem given have {count(narrowest):,} then, and max_parameters is {budget:,}; "
            "use fewer or smaller layers, or raise max_parameters"
        )
    channels, num_parameters = scaled, count(scaled)
    behind: set[int] = set()
    while len(behind) < len(ratio):
        i = min((i for i in range(len(ratio)) if i not in behind), key=lambda i: ((channels[i] + 1) / ratio[i], -i))
        wider = (*channels[:i], channels[i] + 1, *channels[i + 1 :])
        if wider[i] > MAX_CHANNELS or count(wider) > budget:
            behind.add(i)
            continue
        if count(wider) < num_parameters:  # the first layer's shortcut went away: there is room again
            behind.clear()
        channels, num_parameters = wider, count(wider)
    return Fit(shaped(channels), scaled, num_parameters)


def _scales(template: Architecture, stem_follows: bool, ratio: list[float], fits: Callable[[float], bool]):
    """The largest scale that fits, if any; nothing where none does.

    More channels are more parameters, with one exception: where the first layer comes to be as wide as a stem that
    was given, its projection shortcut goes away. So the scales are searched in three stretches, the widest first.
    """
    top = MAX_CHANNELS + 1.0
    edges = [0.0, top]
    expansion = EXPANSION if template.block == "bottleneck" else 1
    if not stem_follows and template.stem_channels % expansion == 0:
        equal = template.stem_channels // expansion
        just_above = (1 + 1e-12) / ratio[0]  # so that floor() lands on the whole channel
        edges = [0.0, equal * just_above, (equal + 1) * just_above, top]
        if edges[2] >= top:
            edges = [0.0, top]
    for low, high in reversed(list(pairwise(edges))):
        if not fits(low):
            continue
        for _ in range(60):  # a scale to 1e-13 of itself; what matters is on which side of a whole channel it lies
            middle = (low + high) / 2
            low, high = (middle, high) if fits(middle) else (low, middle)
        yield low
        return
