"""Document + profile + overrides -> Document, in which every value keeps the place where it was written.

`base` is merged key by key; every other key of a profile, `description` included, replaces the file's. `null` removes
a key. A new `base.model` also removes `model.channels` and the like, which belonged to the old model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from flexres_tune.errors import Problem, SpecError
from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.document.document import Document, KeyPath, Place, show
from flexres_tune.spec.document.yaml_reader import parse_yaml
from flexres_tune.text import did_you_mean, excerpt


def with_profile(document: Document, name: str) -> Document:
    """The file changed by one of its profiles; `profiles` itself stays as it is.

    Raises:
        SpecError: no such profile.
    """
    profiles = document.data.get("profiles")
    profiles = profiles if isinstance(profiles, dict) else {}
    if name not in profiles:
        hint = did_you_mean(name, profiles) or f"; the file has {show(list(profiles))}"
        message = f"--profile must be a profile of the file, auto or none, but got {show(name)}{hint}"
        raise SpecError([document.problem(("profiles",), message)])
    overlay = profiles[name]
    layered = _Layered(document)
    if not isinstance(overlay, dict):
        return document  # the check of the file reports the profile's type
    for key, value in overlay.items():
        source = ("profiles", name, key)
        if key == "base" and isinstance(value, dict) and isinstance(layered.data.get("base"), dict):
            for inner, item in value.items():
                layered.put(("base", inner), item, document, (*source, inner))
        else:
            layered.put((key,), value, document, source)
    return layered.document()


def with_overrides(document: Document, overrides: Sequence[str]) -> Document:
    """The document changed by each `key=value`; the value is read as YAML.

    Raises:
        SpecError: every override that has no key, no value, or a key that cannot exist.
    """
    layered, problems = _Layered(document), []
    for override in overrides:
        key, equals, text = override.partition("=")
        file = f"--set {excerpt(key.strip(), 100)}"
        try:
            if not equals or not key.strip():
                message = f"must be key=value, but got {show(override)}; for example --set base.epochs=2"
                raise SpecError([Problem("", message, file)])
            if not text.strip():
                message = f"must have a value after '=', but got {show(override)}; {key.strip()}=null removes the key"
                raise SpecError([Problem("", message, file)])
            value = parse_yaml(text, file, line=0)
            path = _parse_key(key.strip(), layered.data, file)
            layered.put(path, value.data, value, ())
            for place, known in list(layered.places.items()):
                if known.file == file and known.path == ():
                    layered.places[place] = Place(place, file, 0)
        except SpecError as error:
            problems.extend(error.problems)
    if problems:
        raise SpecError(problems)
    return layered.document()


class _Layered:
    """A copy of a document that is being changed."""

    def __init__(self, document: Document):
        self.data = _copy(document.data)
        self.places = dict(document.places)

    def put(self, path: KeyPath, value: Any, source: Document, source_path: KeyPath) -> None:
        """Set `path` to a value, and its places to those in the source; None removes it."""
        if path in (("base", "model"), ("base", "optimizer")) and isinstance(self.data.get("base"), dict):
            for key in [key for key in self.data["base"] if key.startswith(f"{path[1]}.")]:
                del self.data["base"][key]
        parent = self.data
        for i, part in enumerate(path[:-1]):
            if isinstance(parent, dict) and parent.get(part) is None:
                parent[part] = {}
                self.places[path[: i + 1]] = Place(path[: i + 1], source.places[source_path].file, 0)
            parent = parent[part]
        for place in [place for place in self.places if place[: len(path)] == path]:
            del self.places[place]
        if value is None and isinstance(parent, dict):
            parent.pop(path[-1], None)
            return
        parent[path[-1]] = _copy(value)
        depth = len(source_path)
        for place, known in source.places.items():
            if place[:depth] == source_path:
                self.places[path + place[depth:]] = known if depth else Place(path + place, known.file, 0)

    def document(self) -> Document:
        return Document(self.data, self.places)


def _parse_key(key: str, data: Any, file: str) -> KeyPath:
    """`parameters[1].model.channels.values` -> ("parameters", 1, "model.channels", "values"), checked against data."""

    def refuse(message: str) -> SpecError:
        return SpecError([Problem("", message, file)])

    parts: list[str | int] = []
    for piece in key.split("."):
        matched = re.fullmatch(r"([^\[\]]+)((?:\[\d{1,6}\])*)", piece)
        if matched is None:
            raise refuse(
                f"a key must be names and indices joined by dots, but got {show(key)}; for example base.epochs"
            )
        name, indices = matched[1], re.findall(r"\d+", matched[2])
        under_trial = parts and parts[0] in ("base", "parameters")
        if under_trial and _is_argument(parts, name, data):
            parts[-1] = f"{parts[-1]}.{name}"
        else:
            parts.append(name)
        parts.extend(map(int, indices))
    if parts[0] in ("profiles", "profile", "source"):
        raise refuse(f"{parts[0]} cannot be set on the command line; choose one with --profile NAME")
    here = data
    for i, part in enumerate(parts):
        if isinstance(here, list):
            at = ".".join(map(str, parts[:i]))
            if not isinstance(part, int) or part >= len(here):
                raise refuse(f"{at} is a list of {len(here)}, so an index below {len(here)} must follow; write {at}[0]")
            here = here[part]
        elif isinstance(part, int):
            if parts[:i] == ["parameters"] and isinstance(here, dict) and part == 0:
                return tuple(parts[:i] + parts[i + 1 :])
            raise refuse(
                f"[{part}] must follow a list, but {'.'.join(map(str, parts[:i]))} is not a list; leave it out"
            )
        elif isinstance(here, dict) or here is None:
            here = here.get(part) if here else None
        else:
            at = ".".join(map(str, parts[:i]))
            raise refuse(f"{at} must be a mapping to have the key {show(part)}, but is {show(here)}; set {at} itself")
    return tuple(parts)


def _is_argument(parts: Sequence[str | int], name: str, data: Any) -> bool:
    """Whether NAME after `base.model` or `base.optimizer` is part of the key: a field of the model, or own code's."""
    field, section = parts[-1], data.get(parts[0]) if isinstance(data, dict) else None
    if field == "model" and name in Architecture.model_fields:
        return True
    is_own = parts[0] == "parameters" or (isinstance(section, dict) and isinstance(section.get(field), str))
    return field in ("model", "optimizer") and is_own and name not in ("value", "values", "min", "max", "distribution")


def _copy(value: Any) -> Any:
    """Deep copy of plain data."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value
