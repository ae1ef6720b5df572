"""Sweep file -> SweepSpec, or every problem in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pydantic import ValidationError

from flexres_tune.errors import Problem, SpecError
from flexres_tune.spec.document import Document, sorted_problems
from flexres_tune.spec.expand import check_trials, count_trials
from flexres_tune.spec.messages import findings
from flexres_tune.spec.overlay import with_overrides, with_profile
from flexres_tune.spec.rules import check_rules, check_values
from flexres_tune.spec.sweep import SweepSpec
from flexres_tune.spec.yaml_reader import read_yaml

TRIAL_MAKING_KEYS = {"method", "max_parameters", "seeds", "base", "parameters", "exclude", "num_trials", "order_seed"}
MAX_CHECKED_TRIALS = 2_000  # where the file is wrong already
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

    spec = _check(chosen, profile, str(path), problems)
    variants = []
    for name in others:
        variant = document if name == "none" else with_profile(document, name)
        variants.append(_check(variant, name, str(path), problems))
    if problems:
        raise sorted_problems(problems)
    spec._variants = tuple(variants)
    return spec


def _check(document: Document, profile: str, source: str, problems: list[Problem]) -> SweepSpec:
    """The sweep, with the keys that are wrong left out; adds what is wrong to `problems`."""
    bad_keys: set[str] = set()
    known_before = len(problems)
    data = {**document.data, "profile": profile, "source": source}
    for key in ("profile", "source"):
        if key in document.data:
            problems.append(document.problem((key,), "no such key in a sweep; choose a profile with --profile NAME"))
    try:
        spec = SweepSpec.model_validate(data)
    except ValidationError as error:
        for where, message in findings(error):
            bad_keys.add(str(where[0]))
            problems.append(document.problem(where, message))
        rest = {key: value for key, value in data.items() if key not in bad_keys}
        spec = SweepSpec.model_validate({"name": "unnamed"} | rest)
    for where, message in check_values(document.data):
        bad_keys.add(str(where[0]))
        problems.append(document.problem(where, message))
    for where, message in check_rules(spec, frozenset(bad_keys)):
        bad_keys.add(str(where[0]))
        problems.append(document.problem(where, message))
    spec._document = document
    if len(problems) > known_before and not bad_keys & TRIAL_MAKING_KEYS and count_trials(spec) <= MAX_CHECKED_TRIALS:
        problems += check_trials(spec)  # so that the next run does not find more
    return spec
