"""run_sweep: what the command `run` does, from Python."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from flexres_tune.api.sweep import Sweep, open_results
from flexres_tune.errors import FlexResError
from flexres_tune.run.option_values import LoggerName, check_logger, parse_statuses
from flexres_tune.run.restart import Caller, ReloadRequested
from flexres_tune.spec import SweepSpec
from flexres_tune.spec.load import SweepSource
from flexres_tune.storage import AnyPath, make_path
from flexres_tune.sweep.options import RunOptions
from flexres_tune.text import did_you_mean, excerpt, join_words

if TYPE_CHECKING:
    from rich.console import Console

    from flexres_tune.run.session import Ending, Session


class Options(TypedDict, total=False):
    """The options of the command `run`, with its defaults; `python -m flexres_tune.run --help` describes them."""

    profile: str
    overrides: Mapping[str, Any] | Sequence[str]  # {"base.epochs": 2}, or ["base.epochs=2"] as after --set
    stage: str  # all | screen | confirm
    reuse: bool
    retry: Sequence[str]  # statuses
    address: str | None
    local: bool
    max_concurrent: int | None
    trial_timeout_s: float | None
    loggers: Sequence[str]
    allow_code: bool
    verbose: bool
    quiet: bool  # print nothing


def _is_one_of(names: Sequence[str]) -> tuple[str, Callable[[Any], bool]]:
    return join_words(names), lambda value: isinstance(value, str) and value in names


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


_IS_FLAG = ("True or False", lambda value: isinstance(value, bool))
_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {  # option -> what it must be, and whether a value is that
    "profile": ("the name of a profile, auto or none", lambda value: isinstance(value, str)),
    "overrides": (
        'a mapping such as {"base.epochs": 2}, or a list of texts such as "base.epochs=2"',
        lambda value: isinstance(value, Mapping) or _are_texts(value),
    ),
    "stage": _is_one_of(("all", "screen", "confirm")),
    "reuse": _IS_FLAG,
    "retry": ("a list of statuses", _are_texts),
    "address": ("the address of a Ray cluster, or None", lambda value: value is None or isinstance(value, str)),
    "local": _IS_FLAG,
    "max_concurrent": (
        "a whole number of at least 1, or None",
        lambda value: value is None or (_is_number(value) and isinstance(value, int) and value >= 1),
    ),
    "trial_timeout_s": (
        "a number of seconds of at least 1, or None",
        lambda value: value is None or (_is_number(value) and value >= 1),
    ),
    "loggers": (
        f"a list of {join_words(list(LoggerName), 'and')}",
        lambda value: _are_texts(value) and set(value) <= set(LoggerName),
    ),
    "allow_code": _IS_FLAG,
    "verbose": _IS_FLAG,
    "quiet": _IS_FLAG,
}


def run_sweep(sweep: SweepSource, *, storage: str | AnyPath = "results", **options: Unpack[Options]) -> Sweep:
    """Run what is missing of a sweep, on this machine or on the Ray cluster that it belongs to, and return the sweep.

    Calling it again with the same sweep runs nothing, or what was added. Ctrl-C (in a notebook: interrupt) saves the
    running trials and raises KeyboardInterrupt; a second one raises it at once.

    Args:
        sweep: a sweep file, a mapping with the keys of one, or a SweepSpec.
        storage: the results folder, or s3://BUCKET/... or gs://BUCKET/...
        options: those of the command `run`; see `Options`.

    Raises:
        SpecError: the sweep cannot be run as written; has every problem found.
        FlexResError: an option, the data or the machine does not fit, or no trial ended well.
        KeyboardInterrupt: interrupted; all rows are written.
    """
    from flexres_tune.run.session import Session

    run_options = parse_options(storage, options)
    console = _make_console(options.get("quiet", False))
    session = Session(sweep, run_options, console, caller_of(sweep, storage, options))
    ending = _run(session)
    if ending.reason:
        raise FlexResError(f"{ending.reason}; open_results({str(storage)!r})[{ending.paths.sweep!r}].trials() has all")
    return open_results(ending.paths.root)[ending.paths.sweep]


def parse_options(storage: str | AnyPath, options: Mapping[str, Any]) -> RunOptions:
    """The options checked, as the command has them.

    Raises:
        TypeError: no such option.
        FlexResError: every option that has a wrong value.
    """
    problems = []
    for name, value in options.items():
        if name not in _RULES:
            known = did_you_mean(name, _RULES) or f"; options: {', '.join(_RULES)}"
            raise TypeError(f"run_sweep() has no option {excerpt(name)!r}{known}")
        rule, holds = _RULES[name]
        if not holds(value):
            problems.append(f"{name}: must be {rule}, but got {excerpt(repr(value))}")
    if problems:
        raise FlexResError("\n".join(problems))
    values = {name: value for name, value in options.items() if name != "quiet"}
    overrides = values.get("overrides", ())
    if isinstance(overrides, Mapping):
        overrides = [f"{key}={json.dumps(value)}" for key, value in overrides.items()]
    values["overrides"] = tuple(overrides)
    values["retry"] = parse_statuses(values.get("retry", ()))
    values["loggers"] = tuple(map(LoggerName, values.get("loggers", ())))
    for name in values["loggers"]:
        check_logger(name)
    return RunOptions(storage=make_path(storage), **values)


def caller_of(sweep: SweepSource, storage: str | AnyPath, options: Mapping[str, Any]) -> Caller:
    """The Python code that runs the sweep again; messages, plan.json and the report show it."""
    return Caller(
        again=_call(sweep, storage, options),
        retry=_call(sweep, storage, {**options, "retry": ["failed"]}),
        ends_process=False,
    )


def _run(session: Session) -> Ending:
    """One run, and further ones if a person asks the driver to read its file again.

    Raises:
        KeyboardInterrupt: a signal arrived.
    """
    from flexres_tune.cli import EXIT_INTERRUPTED
    from flexres_tune.cluster.ray_processes import RayLostError

    while True:
        try:
            ending = session.run()
        except ReloadRequested as request:
            session.print(str(request))
            continue
        except RayLostError as error:
            raise RayLostError(
                f"{error}; restart this Python process (in a notebook: its kernel), and run the sweep again: its "
                "trials resume from their checkpoints"
            ) from error
        if ending.status == EXIT_INTERRUPTED:
            raise KeyboardInterrupt(session.caller.interrupted_line)
        return ending


def _make_console(is_quiet: bool) -> Console:
    from rich.console import Console

    from flexres_tune.display.notebook import is_notebook, make_notebook_console
    from flexres_tune.display.terminal import make_console

    if is_quiet:
        return Console(file=io.StringIO(), width=120)
    return make_notebook_console() if is_notebook() else make_console()


def _call(sweep: SweepSource, storage: str | AnyPath, options: Mapping[str, Any]) -> str:
    """The call as Python code. A sweep that was built in Python is `sweep`, because its values would fill a page."""
    is_file = not isinstance(sweep, Mapping | SweepSpec)
    words = [repr(os.fspath(Path(sweep))) if is_file else "sweep", f"storage={str(storage)!r}"]
    words += [f"{name}={value!r}" for name, value in options.items()]
    return f"flexres_tune.run_sweep({', '.join(words)})"
