"""Sweep file or a sweep built in Python, profile and overrides -> SweepSpec, or every problem in them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from flexres_tune.errors import Problem, SpecError
from flexres_tune.spec.document.document import Document, Finding, sorted_problems
from flexres_tune.spec.document.overlay import with_overrides, with_profile
from flexres_tune.spec.document.plain import plain_document
from flexres_tune.spec.document.yaml_reader import read_yaml
from flexres_tune.spec.expand import Describe, check_trials, count_trials
from flexres_tune.spec.messages import findings, suggest_key
from flexres_tune.spec.own_code.references import find_references, read_references
from flexres_tune.spec.own_code.source import Source
from flexres_tune.spec.rules import check_rules, check_values
from flexres_tune.spec.sweep import NOT_IN_A_FILE, SweepSpec

TRIAL_MAKING_KEYS = {
    "method",
    "max_parameters",
    "seeds",
    "base",
    "parameters",
    "exclude",
    "num_trials",
    "order_seed",
    "baseline",
}
MAX_CHECKED_TRIALS = 2_000  # of a sweep that has other problems already
LAPTOP = "laptop"  # the profile that `auto` chooses if there is no GPU

SweepSource = str | Path | Mapping[str, Any] | SweepSpec  # a sweep file, or a sweep that was built in Python


def load_sweep(
    sweep: SweepSource,
    *,
    profile: str = "none",
    overrides: Sequence[str] = (),
    has_gpu: Callable[[], bool] | None = None,
    describe: Describe | None = None,
    allow_code: bool = False,
) -> SweepSpec:
    """The sweep in a YAML file or of Python, changed by a profile and overrides, checked.

    A mapping has the keys of a sweep file, and its problems are reported by key. A SweepSpec is checked like the
    mapping of its values, because pydantic alone does not check what keys mean together.

    The file's other profiles are checked as well, so that a broken `laptop` is found on the machine with the GPU. They
    are not checked if there are overrides, because those are meant for the sweep that runs now.

    Args:
        sweep: the sweep file, a mapping or a SweepSpec.
        profile: a profile's name, `none`, or `auto`: `laptop` if the file has it and `has_gpu()` is False.
        overrides: `key=value` as after `--set`, applied after the profile, such as `base.epochs=2`; values are YAML.
        has_gpu: whether trials find a GPU; called only if the answer matters.
        describe: image size and number of classes of a data set. With it the trials of the other profiles are checked
            too; `expand_trials` checks those of the sweep that is returned. Both import own code that the file names.
        allow_code: whether the file may name code outside of its folder, and of any installed package.

    Raises:
        SpecError: every problem found.
    """
    document, source, folder = _read(sweep)
    profiles = document.data.get("profiles")
    names = [name for name in profiles if name not in ("auto", "none")] if isinstance(profiles, dict) else []
    if profile == "auto":
        without_gpu = LAPTOP in names and has_gpu is not None and not has_gpu()
        profile = LAPTOP if without_gpu else "none"
    problems: list[Problem] = []
    chosen = document
    try:
        chosen = document if profile == "none" else with_profile(document, profile)
        chosen = with_overrides(chosen, overrides)
    except SpecError as error:
        problems.extend(error.problems)
    others = [] if overrides else [name for name in ("none", *names) if name != profile]

    read = functools.partial(read_references, folder=folder, allow_any=allow_code)
    applied = sweep.profile if isinstance(sweep, SweepSpec) else profile
    spec, found, has_trials = _check(chosen, applied, source, read)
    problems += found
    for name in others:
        changed = document if name == "none" else with_profile(document, name)
        other, found, other_has_trials = _check(changed, name, source, read)
        problems += found
        if describe and other_has_trials and not (found and count_trials(other) > MAX_CHECKED_TRIALS):
            problems += check_trials(other, describe)
    if problems and describe and has_trials and count_trials(spec) <= MAX_CHECKED_TRIALS:
        problems += check_trials(spec, describe)  # so that the next run does not find more
    if problems:
        raise sorted_problems(problems)
    return spec


def _read(sweep: SweepSource) -> tuple[Document, str, Path]:
    """(the sweep's data, its file's name or "", the folder that own code is named relative to)."""
    if isinstance(sweep, SweepSpec):
        folder = Path(sweep.source).absolute().parent if sweep.source else Path.cwd()
        return Document(sweep.resolved()), sweep.source, folder
    if isinstance(sweep, Mapping):
        return plain_document(sweep), "", Path.cwd()
    return read_yaml(str(sweep)), str(sweep), Path(sweep).absolute().parent


def _once(found: Sequence[Finding]) -> list[Finding]:
    """The findings without those about the value of a key that does not exist: its name has to change first."""
    unknown = {where for where, message in found if message.startswith("no such key")}
    return [
        (where, message)
        for where, message in found
        if message.startswith("no such key") or not any(where[: len(key)] == key for key in unknown)
    ]


def _check(
    document: Document, profile: str, source: str, read: Callable[..., tuple[dict[str, Source], list[Finding]]]
) -> tuple[SweepSpec, list[Problem], bool]:
    """The sweep without its wrong keys, its problems, and whether its trials can be listed."""
    found = [((key,), suggest_key(key, "sweep")) for key in NOT_IN_A_FILE if key in document.data]
    code, unreadable = read(find_references(document.data))
    found += unreadable
    bad_keys = {str(where[0]) for where, _ in unreadable}
    data = {**document.data, "profile": profile, "source": source, "document": document, "code": code}
    try:
        spec = SweepSpec.model_validate(data)
    except ValidationError as error:
        found += findings(error)
        bad_keys |= {str(where[0]) for where, _ in findings(error)}
        right = {key: value for key, value in data.items() if key not in bad_keys}
        spec = SweepSpec.model_validate({"name": "unnamed"} | right)
    for where, message in check_values(document.data, code):
        bad_keys.add(str(where[0]))
        found.append((where, message))
    for where, message in check_rules(spec, frozenset(bad_keys)):
        bad_keys.add(str(where[0]))
        found.append((where, message))
    problems = [document.problem(where, message) for where, message in _once(found)]
    return spec, problems, not bad_keys & TRIAL_MAKING_KEYS
