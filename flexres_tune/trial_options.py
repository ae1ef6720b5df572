"""TrialConfig on a command line: one option per field, checked by the rules of a sweep file.

Imports no torch, so that a wrong option is reported at once.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel

from flexres_tune.datasets import describe_dataset
from flexres_tune.errors import Problem, SpecError
from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.document.document import Finding, show
from flexres_tune.spec.document.yaml_reader import parse_yaml
from flexres_tune.spec.messages import CHOICES, TRIAL_KEYS
from flexres_tune.spec.own_code.references import check_code, find_references, own_fields, read_references
from flexres_tune.spec.parameters import check_budget
from flexres_tune.spec.presets import PRESETS
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.spec.trial_values import build_config, check_value
from flexres_tune.spec.width import apply_width

# a single entry is a list too; the other options that take a list also take a number
_LISTS = ("blocks", "channels", "head", "augmentation")
_TEXTS = ("model", "dataset")  # not read as YAML, because a path may contain any character


def with_options(models: Mapping[str, type[BaseModel]]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Decorator of a command: one option per field of the models instead of its `**fields`.

    Args:
        models: TrialConfig or Architecture, by the heading of its options in the help.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        added = []
        for panel, model in models.items():
            for name, field in model.model_fields.items():
                if name in ("model", "optimizer_values", "code"):  # the commands have these themselves
                    continue
                option = typer.Option(
                    option_name((name,)),
                    help=_help(name, field),
                    metavar="VALUE",
                    show_default=_default(field),
                    rich_help_panel=panel,
                )
                kind = Annotated[str | None, option]
                added.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind))
        command.__signature__ = signature.replace(parameters=[*own, *added])
        command.__annotations__ = {p.name: p.annotation for p in (*own, *added)}
        return command

    return decorate


def read_config(
    texts: Mapping[str, str | None], max_parameters: int, own_values: Sequence[str] = ()
) -> tuple[TrialConfig, int]:
    """The configuration that the options give, and its number of parameters.

    Own code may be anywhere: who types a command may run any code anyway.

    Args:
        texts: an option's text by its field's name; None if it was not given.
        max_parameters: the budget.
        own_values: `model.width=64` and the like, arguments of an own model or optimizer.

    Raises:
        SpecError: every problem of the options, one line per problem.
        DataError: the data set is missing.
    """
    values = {
        name if name in TrialConfig.model_fields else f"model.{name}": value
        for name, value in read_options(texts).items()
    } | read_own_values(own_values)
    if not any(key.partition(".")[0] == "model" for key in values):
        message = f"must be given, or else --blocks and --channels; presets: {', '.join(PRESETS)}"
        raise SpecError([Problem("--model", message)])
    values.setdefault("model", {})
    references = list(find_references({"base": values}))
    code, unreadable = read_references(references, Path(), allow_any=True)
    own = own_fields(references, code)
    refuse((path[1:], message) for path, message in unreadable)
    # each value is checked alone first, because a wrong model would hide the problems of the other values
    findings = [
        ((key, *path), message)
        for key in values
        if key in TRIAL_KEYS and key != "model" and not (key.startswith("model.") and "model" in own)
        for path, message in check_value(key, values[key], code)
    ]
    seed = values.pop("seed", 0)
    values, more = apply_width(values, describe_dataset, max_parameters, code)
    config, also = build_config(values, seed, code)
    findings += more or also or check_code(config)
    if not findings:
        shape = describe_dataset(config.images)
        num_parameters, findings = check_budget(config.model, config.images, shape, max_parameters)
    refuse(findings)
    return config, num_parameters


def read_options(texts: Mapping[str, str | None]) -> dict[str, Any]:
    """The values of the options that were given, by field; `1e-3`, `3,3`, `[3, 3]` and `[[1, 5], [1, 5]]` are YAML.

    Raises:
        SpecError: not YAML.
    """
    return {name: _read(name, text) for name, text in texts.items() if text is not None}


def refuse(findings: Iterable[Finding]) -> None:
    """Raise a SpecError that names each finding's option, if there are any."""
    if problems := [Problem(option_name(path), message) for path, message in findings]:
        raise SpecError(list(dict.fromkeys(problems)))


def option_name(path: tuple) -> str:
    """`--channels` for the key paths ("model.channels",) and ("model", "channels"); "" for ()."""
    parts = [part for key in path if isinstance(key, str) for part in key.split(".")]
    of_model = len(parts) > 1 and parts[0] == "model" and parts[1] in Architecture.model_fields
    return f"--{parts[of_model].replace('_', '-')}" if parts else ""


def read_own_values(texts: Sequence[str]) -> dict[str, Any]:
    """`--set model.width=64` and the like as values by key.

    Raises:
        SpecError: another form.
    """
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        field, _, name = key.partition(".")
        if not equals or field not in ("model", "optimizer") or not name.isidentifier():
            message = f"must be model.NAME=VALUE or optimizer.NAME=VALUE, but got {show(text)}; the rest has options"
            raise SpecError([Problem("--set", message)])
        values[key] = parse_yaml(value, f"--set {key}", line=0).data
    return values


def _read(name: str, text: str) -> Any:
    if name in _TEXTS and not text.lstrip().startswith("{"):
        return text
    if (name in _LISTS or "," in text) and not text.lstrip().startswith(("[", "{")):
        text = f"[{text}]"
    return parse_yaml(text, option_name((name,)), line=0).data


def _help(name: str, field: Any) -> str:
    """The field's description, and the names that it takes unless the description has them all."""
    names, words = CHOICES.get(name, ()), re.findall(r"\w+", field.description)
    return field.description if set(names) <= set(words) else f"{field.description}: {', '.join(names)}"


def _default(field: Any) -> str | bool:
    if field.is_required() or field.default is None:
        return False
    return ",".join(field.default) or "none" if isinstance(field.default, tuple) else show(field.default)
