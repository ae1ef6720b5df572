"""Rules between the parts of a sweep; a row per rule names the keys that the rule reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flexres_tune.spec.document import Finding, show
from flexres_tune.spec.messages import TRIAL_KEYS, suggest_key
from flexres_tune.spec.sweep import Distribution, SweepSpec
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.spec.trial_values import check_value


def check_rules(spec: SweepSpec, bad_keys: frozenset[str]) -> Iterator[Finding]:
    """Problems between keys whose own values are right.

    Args:
        spec: the sweep; its wrong keys have default values.
        bad_keys: top-level keys that are wrong; rules that read them are skipped.
    """
    for keys, rule in _RULES:
        if not bad_keys & set(keys):
            yield from rule(spec)


def check_values(data: Mapping[str, Any]) -> Iterator[Finding]:
    """Problems of single values in base, parameters and exclude, whatever else is wrong."""
    for path, values in (("base",), data.get("base")), *_entries("exclude", data.get("exclude")):
        for key, value in _items(values):
            yield from _check(path, key, [((), value)])
    grids = data.get("parameters")
    grids = [grids] if isinstance(grids, dict) else grids
    for path, grid in _entries("parameters", grids):
        for key, distribution in _items(grid):
            yield from _check(path, key, list(_values(distribution)))


def _values(distribution: Any) -> Iterator[tuple[tuple, Any]]:
    """Each value in a distribution, with its path there."""
    for key, value in _items(distribution):
        if key == "value" or (key in ("min", "max") and isinstance(value, int | float) and not isinstance(value, bool)):
            yield (key,), value
        elif key == "values" and isinstance(value, list):
            yield from (((key, i), item) for i, item in enumerate(value))


def _check(path: tuple, key: str, values: Sequence[tuple[tuple, Any]]) -> Iterator[Finding]:
    if key == "seed":
        yield (*path, key), "no such key in a trial; write seeds at the top level, for example seeds: [0, 1, 2]"
    elif key not in TRIAL_KEYS:
        yield (*path, key), suggest_key(key, "trial")
    else:
        for inner, value in values:
            for rest, message in check_value(key, value):
                yield (*path, key, *inner, *rest), message


def _entries(name: str, values: Any) -> list[tuple[tuple, Any]]:
    return [((name, i), value) for i, value in enumerate(values)] if isinstance(values, list) else []


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _num_trials_if_drawn(spec: SweepSpec) -> Iterator[Finding]:
    if spec.method == "grid" and spec.num_trials is not None:
        message = (
            f"num_trials belongs to method random and tpe, but method is grid and num_trials {spec.num_trials}; "
            "remove it: a grid runs all its configurations"
        )
        yield ("num_trials",), message
    if spec.method != "grid" and spec.num_trials is None:
        yield ("method",), f"method {spec.method} must have num_trials, but it is missing; for example num_trials: 50"


def _grid_is_finite(spec: SweepSpec) -> Iterator[Finding]:
    if spec.method != "grid":
        return
    for path, distribution in _distributions(spec):
        if distribution.is_range:
            low, high = distribution.min, distribution.max
            few = distribution.distribution == "int_uniform" and high - low < 8
            listed = show(list(range(low, high + 1))) if few else f"[{show(low)}, ..., {show(high)}]"
            message = (
                f"a grid must have listed values, but got a range from {show(low)} to {show(high)} "
                f"({distribution.distribution}); write values: {listed}, or method: random"
            )
            yield path, message


def _draws_vary(spec: SweepSpec) -> Iterator[Finding]:
    if spec.method == "grid":
        return
    if not any(True for _ in _distributions(spec)):
        message = (
            f"method {spec.method} must have parameters to draw, but there are none; add for example "
            "parameters: {lr: {min: 0.01, max: 0.1}}"
        )
        yield ("method",), message
    if spec.method == "tpe" and len(spec.parameters) > 1:
        message = (
            f"method tpe must have one mapping of parameters, but got a list of {len(spec.parameters)}; "
            "run one sweep per mapping, or use method: random"
        )
        yield ("parameters",), message


def _model_is_given(spec: SweepSpec) -> Iterator[Finding]:
    if "model" not in spec.base and any("model" not in grid for grid in spec.parameters):
        yield ("base", "model"), "must be given, but is missing; for example model: resnet22_2"


def _confirm_seeds_are_fresh(spec: SweepSpec) -> Iterator[Finding]:
    if spec.confirm and (used := sorted(set(spec.confirm.seeds) & set(spec.seeds))):
        free = max((*spec.seeds, *spec.confirm.seeds)) + 1
        message = (
            f"confirm.seeds must not contain any of seeds, but both have {show(used)}; "
            f"use for example {show([free + i for i in range(min(len(spec.confirm.seeds), 5))])}"
        )
        yield ("confirm", "seeds"), message


def _a_trial_can_be_stopped(spec: SweepSpec) -> Iterator[Finding]:
    grace = spec.early_terminate.grace_period
    epochs = [value for grid in spec.parameters for value in _epochs(spec, grid) if isinstance(value, int)]
    if grace is not None and epochs and grace >= max(epochs):
        message = (
            f"grace_period must be less than the epochs of some trial, or none is ever stopped, but got {grace} and "
            f"{max(epochs)} epochs; lower grace_period, or set early_terminate: none"
        )
        yield ("early_terminate", "grace_period"), message


def _epochs(spec: SweepSpec, grid: Mapping[str, Distribution]) -> Sequence[Any]:
    if "epochs" in grid:
        return grid["epochs"].values or (grid["epochs"].max,)
    return (spec.base.get("epochs", TrialConfig.model_fields["epochs"].default),)


def _distributions(spec: SweepSpec) -> Iterator[tuple[tuple, Distribution]]:
    for i, grid in enumerate(spec.parameters):
        for key, distribution in grid.items():
            yield ("parameters", i, key), distribution


_RULES: Sequence[tuple[tuple[str, ...], Callable[[SweepSpec], Iterator[Finding]]]] = (
    (("method", "num_trials"), _num_trials_if_drawn),
    (("method", "parameters"), _grid_is_finite),
    (("method", "parameters"), _draws_vary),
    (("base", "parameters"), _model_is_given),
    (("confirm", "seeds"), _confirm_seeds_are_fresh),
    (("early_terminate", "base", "parameters"), _a_trial_can_be_stopped),
)
