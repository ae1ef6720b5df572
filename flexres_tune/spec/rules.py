"""Rules between the parts of a sweep; a row per rule names the keys that the rule reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from flexres_tune.errors import Problem
from flexres_tune.spec.document.document import Finding, show
from flexres_tune.spec.keys.distribution import Distribution
from flexres_tune.spec.keys.metric import GOALS
from flexres_tune.spec.levels import epochs_of, list_levels, list_parts
from flexres_tune.spec.messages import TRIAL_KEYS, suggest_key, suggest_value
from flexres_tune.spec.metrics import METRIC_TRAITS, is_metric_column, metric_column
from flexres_tune.spec.own_code.references import Code, find_references, own_fields
from flexres_tune.spec.own_code.source import CodeError, CodeName, signature_problem
from flexres_tune.spec.sweep import SweepSpec
from flexres_tune.spec.trial import NO_SPLIT, TrialConfig
from flexres_tune.spec.trial_values import check_value
from flexres_tune.text import did_you_mean, join_words


def check_rules(spec: SweepSpec, bad_keys: frozenset[str]) -> Iterator[Finding]:
    """Problems between keys whose own values are right.

    Args:
        spec: the sweep; its wrong keys have default values.
        bad_keys: top-level keys that are wrong; rules that read them are skipped.
    """
    for keys, rule in _RULES:
        if not bad_keys & set(keys):
            yield from rule(spec)


def check_values(data: Mapping[str, Any], code: Code) -> Iterator[Finding]:
    """Problems of single values in base, parameters and exclude, whatever else is wrong."""
    own = own_fields(find_references(data), code)
    shared = ((("base",), data.get("base")), (("baseline",), data.get("baseline")))
    for path, values in (*shared, *_entries("exclude", data.get("exclude"))):
        for key, value in _items(values):
            yield from _check(path, key, [((), value)], code, own)
    grids = data.get("parameters")
    grids = [grids] if isinstance(grids, dict) else grids
    for path, grid in _entries("parameters", grids):
        for key, distribution in _items(grid):
            yield from _check(path, key, list(_values(distribution)), code, own)
    yield from _model_is_given(data.get("base") or {}, grids or [{}])


def _values(distribution: Any) -> Iterator[tuple[tuple, Any]]:
    """Each value in a distribution, with its path there."""
    for key, value in _items(distribution):
        if key == "value" or (key in ("min", "max") and isinstance(value, int | float) and not isinstance(value, bool)):
            yield (key,), value
        elif key == "values" and isinstance(value, list):
            yield from (((key, i), item) for i, item in enumerate(value))


def _check(
    path: tuple, key: str, values: Sequence[tuple[tuple, Any]], code: Code, own: frozenset[str]
) -> Iterator[Finding]:
    field, dot, name = str(key).partition(".")
    if dot and field in own and name.isidentifier():
        return  # an argument of own code, which says itself what it takes
    if key == "seed":
        yield (*path, key), "no such key in a trial; write seeds at the top level, for example seeds: [0, 1, 2]"
    elif key not in TRIAL_KEYS:
        yield (*path, key), suggest_key(key, "trial")
    else:
        for inner, value in values:
            for rest, message in check_value(key, value, code):
                yield (*path, key, *inner, *rest), message


def _entries(name: str, values: Any) -> list[tuple[tuple, Any]]:
    return [((name, i), value) for i, value in enumerate(values)] if isinstance(values, list) else []


def _items(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []


def _metrics_are_known(spec: SweepSpec) -> Iterator[Finding]:
    columns: dict[str, str] = {}
    for i, name in enumerate(spec.metrics):
        column = metric_column(name)
        if not isinstance(name, CodeName) and name not in METRIC_TRAITS:
            is_builtin = "; each sweep has val_accuracy and val_loss" if name in GOALS else ""
            hint = is_builtin or did_you_mean(name, METRIC_TRAITS)
            yield ("metrics", i), f"must be {join_words(METRIC_TRAITS)}, or FILE.py:NAME, but got {show(name)}{hint}"
        elif isinstance(name, CodeName) and not is_metric_column(column):
            yield ("metrics", i), f"{name}: must not have the name of another column of the tables, {column}; rename it"
        elif column in columns:
            yield (
                ("metrics", i),
                f"metrics must have distinct names, but {columns[column]} and {name} are {column}; rename one",
            )
        elif isinstance(name, CodeName) and (problem := _metric_problem(name)):
            yield ("metrics", i), problem
        columns.setdefault(column, name)


def _metric_problem(name: CodeName) -> str | None:
    try:
        return signature_problem(name, None, None)
    except CodeError as error:
        return str(error)


def _metric_is_measured(spec: SweepSpec) -> Iterator[Finding]:
    known = [*GOALS, *map(metric_column, spec.metrics)]
    name = spec.metric.name
    if name not in known:
        hint = (
            "; add it to metrics" if name in METRIC_TRAITS else suggest_value("name", name) or did_you_mean(name, known)
        )
        yield (
            ("metric", "name"),
            f"must be {join_words(known)}, but got {show(name)}{hint or '; for example val_accuracy'}",
        )


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


def _model_is_given(base: Any, grids: Any) -> Iterator[Finding]:
    if not isinstance(base, dict) or not isinstance(grids, list):
        return  # which is a problem of its own
    keys = [base.keys() | dict(_items(grid)).keys() for grid in grids]
    is_misspelt = any(did_you_mean(str(key), TRIAL_KEYS).endswith("mean model?") for key in set().union(*keys))
    if not is_misspelt and any("model" not in each for each in keys):
        yield ("base", "model"), "must be given, but is missing; for example model: resnet22_2"


def _confirm_seeds_are_fresh(spec: SweepSpec) -> Iterator[Finding]:
    if spec.confirm and spec.confirm.seeds and (used := sorted(set(spec.confirm.seeds) & set(spec.seeds))):
        free = max((*spec.seeds, *spec.confirm.seeds)) + 1
        message = (
            f"confirm.seeds must not contain any of seeds, but both have {show(used)}; "
            f"use for example {show([free + i for i in range(min(len(spec.confirm.seeds), 5))])}"
        )
        yield ("confirm", "seeds"), message


def _a_trial_can_be_stopped(spec: SweepSpec) -> Iterator[Finding]:
    early, longest = spec.early_terminate, max(_all_epochs(spec), default=None)
    if longest is None:
        return
    if early.rungs and early.rungs[0].epochs >= longest:
        message = (
            "the first rung must be before the last epoch of some trial, or none is ever paused, but got "
            f"{early.rungs[0].epochs} and {longest} epochs; lower it, or set early_terminate: none"
        )
        yield ("early_terminate", "rungs", 0, "epochs"), message
    if isinstance(early.grace_period, int) and early.grace_period >= longest:
        message = (
            f"grace_period must be less than the epochs of some trial, or none is ever {_ended(spec)}, but got "
            f"{early.grace_period} and {longest} epochs; lower grace_period, or set early_terminate: none"
        )
        yield ("early_terminate", "grace_period"), message


def _ended(spec: SweepSpec) -> str:
    return "paused" if spec.early_terminate.pauses else "stopped"


def _pauses_what_tpe_draws(spec: SweepSpec) -> Iterator[Finding]:
    early = spec.early_terminate
    if spec.method != "tpe" or not early.pauses:
        return
    if early.type == "hyperband":
        message = (
            "method tpe must have rungs that all configurations share, because it cannot know how many it will draw "
            "for each bracket, but got hyperband with variant promotion; set type: asha, or variant: stopping"
        )
        yield ("early_terminate",), message
    if any(True for _ in _compares_what_varies(spec)):
        return
    lengths: dict[str, list[Any]] = {}
    where: dict[tuple, None] = {}
    for part in list_parts(spec):
        of_level, written = lengths.setdefault(part.level, []), spec.parameters[part.grid].get("epochs")
        of_level += [number for number in epochs_of(spec, part) if number not in of_level]
        if len(of_level) > 1 or (written is not None and written.is_range):
            where["parameters", part.grid, "epochs"] = None
    for path in where:
        message = (
            "must be one number if method tpe pauses trials, because only trials of one length meet at a rung, "
            "but it varies; write epochs in base, or set early_terminate: {type: asha, variant: stopping}"
        )
        yield path, message


def _compares_what_varies(spec: SweepSpec) -> Iterator[Finding]:
    varied = [key for key in dict.fromkeys(key for grid in spec.parameters for key in grid)]
    for i, key in enumerate(spec.compare):
        path = ("compare", i) if isinstance(spec.document.data.get("compare"), list) else ("compare",)
        listed = [grid[key] for grid in spec.parameters if key in grid]
        if key == "seed":
            yield path, "must name parameters, but seed is none: results are means over seeds; name another key"
        elif key not in TRIAL_KEYS:
            yield path, suggest_key(key, "trial")
        elif any(distribution.is_range for distribution in listed):
            message = (
                f"{key} must have listed values to be compared, but got a range; write for example values: [0.01, 0.1]"
            )
            yield path, message
        elif not listed:
            message = f"must name parameters that vary, but {key} does not; " + (
                f"use {join_words(varied, 'or')}, or add parameters.{key}" if varied else f"add parameters.{key}"
            )
            yield path, message


def _compares_levels(spec: SweepSpec) -> Iterator[Finding]:
    if any(True for _ in _compares_what_varies(spec)):
        return
    levels = list_levels(spec)
    if spec.compare and len(levels) < 2:
        message = f"must have at least two levels, but has only {levels[0]}; add values, or remove compare"
        yield ("compare",), message
    confirm = spec.confirm
    least = confirm.top * len(levels) + 2 * (spec.baseline is not None) if confirm else 0
    if confirm and confirm.num_runs is not None and confirm.num_runs < least:
        product = f"top {confirm.top}"
        if spec.compare:
            product += f" x {len(levels)} levels = {confirm.top * len(levels)}"
        product += " and 2 for the baseline" if spec.baseline is not None else ""
        message = f"num_runs must give each candidate a run, {product}, but got {confirm.num_runs}; raise num_runs, or lower top"
        yield ("confirm", "num_runs"), message


def _each_level_is_drawn(spec: SweepSpec) -> Iterator[Finding]:
    if spec.method == "grid" or spec.num_trials is None or any(True for _ in _compares_what_varies(spec)):
        return
    num_levels = len(list_levels(spec))
    if spec.num_trials < num_levels:
        message = (
            f"num_trials must be at least the number of levels, {num_levels}, so that each has a configuration, but got "
            f"{spec.num_trials}; raise num_trials, or compare fewer values"
        )
        yield ("num_trials",), message
        return
    num_parts = Counter(part.level for part in list_parts(spec))
    least = num_levels * max(num_parts.values(), default=0)
    if spec.method == "tpe" and spec.num_trials < least:
        each = "each mapping of parameters" if num_levels == 1 else "each level of each mapping of parameters"
        message = (
            f"num_trials must be at least {least}, so that {each} has a configuration, but got {spec.num_trials}; raise "
            "num_trials, or remove a mapping"
        )
        yield ("num_trials",), message


def _baseline_is_confirmed(spec: SweepSpec) -> Iterator[Finding]:
    if spec.baseline is not None and spec.confirm is None:
        message = (
            f"a baseline must have confirm, because it is confirmed with the best, but got {show(spec.baseline)} without "
            "confirm; add confirm: {top: 3, seeds: [10, 11, 12, 13, 14]}, or remove baseline"
        )
        yield ("baseline",), message


def _holds_images_out(spec: SweepSpec) -> Iterator[Finding]:
    message = (
        f"val_split must hold out images, because configurations are compared on them, but got {NO_SPLIT}; remove it, or "
        "train the winner on all images with confirm.final: {train_on: all}"
    )
    if spec.base.get("val_split") == NO_SPLIT:
        yield ("base", "val_split"), message
    for where, distribution in _distributions(spec):
        if where[-1] == "val_split" and NO_SPLIT in (distribution.values or ()):
            yield where, message


def _final_run_can_be_tested(spec: SweepSpec) -> Iterator[Finding]:
    if spec.confirm is not None and spec.confirm.final is not None and spec.base.get("test") == "none":
        message = (
            "final measures the winner on the test images, but base.test is none, and without validation images nothing "
            "else measures it; remove final, or base.test"
        )
        yield ("confirm", "final"), message


def _enough_are_kept(spec: SweepSpec) -> Iterator[Finding]:
    rungs = spec.early_terminate.rungs
    if spec.confirm and rungs and rungs[-1].keep < spec.confirm.top:
        message = (
            f"top must be at most what the last rung keeps, but got {spec.confirm.top} and keep: {rungs[-1].keep}; "
            "lower top, or raise keep"
        )
        yield ("confirm", "top"), message


def ranking_warning(spec: SweepSpec) -> Problem | None:
    """Why `metric.at: best` favours some trials of this sweep; None if it does not, or if the sweep ranks by the last epoch.

    The best of more epochs is the maximum of more draws, so a longer trial gains by chance. Learning-rate schedules that
    end in noise gain as well: tests/analysis/simulate_ranked_epoch.py has the figures.
    """
    if spec.metric.at == "last":
        return None
    epochs = {
        value
        for grid in spec.parameters
        for value in (
            *_epochs(spec, grid),
            *([grid["epochs"].min] if "epochs" in grid and grid["epochs"].is_range else ()),
        )
        if isinstance(value, int)
    }
    schedules = {name for grid in spec.parameters for name in _schedules(spec, grid)}
    if len(epochs) > 1:
        reason = f"trials have {min(epochs)} to {max(epochs)} epochs, and the best of more epochs is higher by chance"
    elif "constant" in schedules and len(schedules) > 1:
        names = join_words(sorted(schedules), "and")
        reason = (
            f"trials have the schedules {names}, and the best epoch of a constant learning rate is higher by chance"
        )
    else:
        return None
    return spec.document.problem(
        ("metric",), f"at: best should rank trials that are alike, but {reason}; write at: last"
    )


def _schedules(spec: SweepSpec, grid: Mapping[str, Distribution]) -> Sequence[Any]:
    if "lr_schedule" in grid:
        return grid["lr_schedule"].values or ()
    return (spec.base.get("lr_schedule", TrialConfig.model_fields["lr_schedule"].default),)


def _all_epochs(spec: SweepSpec) -> list[int]:
    return [value for grid in spec.parameters for value in _epochs(spec, grid) if isinstance(value, int)]


def _epochs(spec: SweepSpec, grid: Mapping[str, Distribution]) -> Sequence[Any]:
    if "epochs" in grid:
        return grid["epochs"].values or (grid["epochs"].max,)
    return (spec.base.get("epochs", TrialConfig.model_fields["epochs"].default),)


def _distributions(spec: SweepSpec) -> Iterator[tuple[tuple, Distribution]]:
    for i, grid in enumerate(spec.parameters):
        for key, distribution in grid.items():
            yield ("parameters", i, key), distribution


_RULES: Sequence[tuple[tuple[str, ...], Callable[[SweepSpec], Iterator[Finding]]]] = (
    (("metrics",), _metrics_are_known),
    (("metric", "metrics"), _metric_is_measured),
    (("method", "num_trials"), _num_trials_if_drawn),
    (("method", "parameters"), _grid_is_finite),
    (("method", "parameters"), _draws_vary),
    (("confirm", "seeds"), _confirm_seeds_are_fresh),
    (("early_terminate", "base", "parameters"), _a_trial_can_be_stopped),
    (("early_terminate", "method", "base", "compare", "parameters", "exclude"), _pauses_what_tpe_draws),
    (("compare", "method", "base", "parameters"), _compares_what_varies),
    (("compare", "method", "confirm", "base", "parameters", "baseline", "exclude"), _compares_levels),
    (("compare", "method", "num_trials", "base", "parameters", "exclude"), _each_level_is_drawn),
    (("early_terminate", "confirm"), _enough_are_kept),
    (("baseline", "confirm"), _baseline_is_confirmed),
    (("base", "parameters"), _holds_images_out),
    (("confirm", "base"), _final_run_can_be_tested),
)
