"""Sweep file -> SweepSpec, or every problem in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import ValidationError

from flexres_tune.errors import Problem, SpecError
from flexres_tune.spec.document import Document
from flexres_tune.spec.overlay import with_overrides, with_profile
from flexres_tune.spec.problems import findings
from flexres_tune.spec.rules import check_rules, check_values
from flexres_tune.spec.sweep import SweepSpec
from flexres_tune.spec.yaml_file import read_yaml

LAPTOP = "laptop"  # the profile that `auto` chooses where there is no GPU


def load_sweep(
    path: str,
    *,
    profile: str = "none",
    overrides: Sequence[str] = (),
    has_gpu: Callable[[], bool] | None = None,
) -> SweepSpec:
    """The sweep in a YAML file, under a profile and overrides, checked.

    The file's other profiles are checked as well, so that a broken `laptop` is found on the machine with the GPU;
    not where there are overrides, which are meant for what runs now.

    Args:
        path: the sweep file.
        profile: a profile's name, `none`, or `auto`: `laptop` if the file has it and `has_gpu()` is False.
        overrides: `key=value` as after `--set`, laid over the profile, such as `base.epochs=2`; values are YAML.
        has_gpu: whether trials find a GPU; called only where the answer matters.

    Raises:
        SpecError: everything that is wrong with it.
    """
    document = read_yaml(str(path))
    profiles = document.data.get("profiles")
    names = list(profiles) if isinstance(profiles, dict) else []
    if profile == "auto":
        without_gpu = LAPTOP in names and has_gpu is not None and not has_gpu()
        profile = LAPTOP if without_gpu else "none"
    chosen = document if profile == "none" else with_profile(document, profile)
    chosen = with_overrides(chosen, overrides)
    others = [] if overrides else [name for name in ("none", *names) if name != profile]

    spec, problems = _check(chosen, profile, str(path))
    variants = []
    for name in others:
        variant, found = _check(document if name == "none" else with_profile(document, name), name, str(path))
        problems += found
        variants.append(variant)
    if problems:
        raise SpecError(sort_problems(problems))
    spec._variants = tuple(variants)
    return spec


def sort_problems(problems: Sequence[Problem]) -> list[Problem]:
    """Each problem once, overrides first, then by line."""
    return sorted(dict.fromkeys(problems), key=lambda problem: problem.line)


def _check(document: Document, profile: str, source: str) -> tuple[SweepSpec, list[Problem]]:
    """The sweep, with the keys that are wrong left out, and what is wrong."""
    problems: list[Problem] = []
    bad_keys: set[str] = set()
    data = {**document.data, "profile": profile, "source": source}
    for key in ("profile", "source"):
        if key in document.data:
            problems.append(document.problem((key,), "no such key in a sweep; choose a profile with --profile NAME"))
    try:
        spec = SweepSpec.model_validate(data)
    except ValidationError as error:
        for where, message in findings(error):
            bad_keys.add(str(where[0]))
            problems.append(document.problem(where, message, exact=message.endswith("is missing")))
        rest = {key: value for key, value in data.items() if key not in bad_keys}
        spec = SweepSpec.model_validate({"name": "unnamed"} | rest)
    for where, message in check_values(document.data):
        bad_keys.add(str(where[0]))
        problems.append(document.problem(where, message))
    for where, message in check_rules(spec, frozenset(bad_keys)):
        problems.append(document.problem(where, message, exact="is missing" in message))
    spec._document = document
    return spec, problems
