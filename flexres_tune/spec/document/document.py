"""Document: plain data and, for every key path in it, the place where it was written; and how messages show values."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flexres_tune.errors import Problem, SpecError
from flexres_tune.text import excerpt

KeyPath = tuple[str | int, ...]  # ("parameters", 1, "lr")
Finding = tuple[KeyPath, str]  # a Problem before its line is known


@dataclass(frozen=True)
class Place:
    """Where a value was written: `file` is a file's name, or `--set key` for an override."""

    path: KeyPath  # as written: a value from a profile is reported under `profiles.laptop`
    file: str
    line: int  # from 1; 0 for an override


@dataclass(frozen=True)
class Document:
    """A sweep's data before it is checked; values from a profile or an override keep their own places."""

    data: Any
    places: Mapping[KeyPath, Place] = field(default_factory=dict)

    def problem(self, path: KeyPath, message: str) -> Problem:
        """The problem at a key path, or at the closest key above it that the file has.

        Args:
            path: key path in `data`; its last keys may be missing from a mapping.
            message: rule, value found, what to do.
        """
        path = self.as_written(path)
        known = path
        while known and known not in self.places:
            known = known[:-1]
        place = self.places.get(known)
        if place is None:
            return Problem(format_path(path), message)
        rest = path[len(known) :]
        if not isinstance(self._at(known), Mapping):  # no missing key, but part of a short form such as a preset
            rest = ()
        return Problem(format_path(place.path + rest), message, excerpt(place.file, 300), place.line)

    def _at(self, path: KeyPath) -> Any:
        value = self.data
        for part in path:
            try:
                value = value[part]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def as_written(self, path: KeyPath) -> KeyPath:
        """The path without the index of the grid if `parameters` is one mapping and not a list."""
        single = isinstance(self.data, Mapping) and isinstance(self.data.get("parameters"), Mapping)
        if single and path[:1] == ("parameters",) and len(path) > 1 and isinstance(path[1], int):
            return path[:1] + path[2:]
        return path


def sorted_problems(problems: Iterable[Problem]) -> SpecError:
    """All problems as one error: each once, overrides first, then by line."""
    return SpecError(sorted(dict.fromkeys(problems), key=lambda problem: problem.line))


def format_path(path: KeyPath) -> str:
    """`parameters[1].lr`, with unprintable characters escaped."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else ("." if text else "") + excerpt(part, 60)
    return text


def show(value: Any, limit: int = 80) -> str:
    """A value as YAML on one line, escaped and cut to `limit` characters."""
    text = _flow(value, limit)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def show_values(values: Mapping[str, Any]) -> str:
    """`lr=0.1, batch_size=8`: the values that a trial varies."""
    return ", ".join(f"{excerpt(key)}={show(value, 40)}" for key, value in values.items()) or "the only trial"


def _flow(value: Any, limit: int) -> str:
    if isinstance(value, Mapping):
        inner = (f"{excerpt(key, 40)}: {_flow(item, limit)}" for key, item in value.items())
        return "{" + _joined(inner, limit) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + _joined((_flow(item, limit) for item in value), limit) + "]"
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        text = excerpt(value, limit)
        return text if text and text == text.strip() and not _is_ambiguous(value) else json.dumps(text)
    return str(value)


def _joined(parts, limit: int) -> str:
    text = ""
    for part in parts:
        text += (", " if text else "") + part
        if len(text) > limit:
            break
    return text


def _is_ambiguous(text: str) -> bool:
    """Whether YAML would read the text without quotes as something else: a number, a boolean, a list."""
    try:
        float(text)
        return True
    except ValueError:
        return text.lower() in ("true", "false", "null", "~") or text[0] in "[]{}\"'&*!#|>%@`,"
