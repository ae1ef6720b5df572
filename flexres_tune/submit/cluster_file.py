"""ClusterFile: what `submit` reads in a file for `ray up`: name, provider, Python and results folder of the head.

The last two are in `provider.flexres_tune`. Ray's schema leaves only the keys of a provider open:

    provider:
      type: aws
      flexres_tune: {python: ~/venv/bin/python, storage: /mnt/results}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml.nodes import Node

from flexres_tune.errors import FlexResError, SpecError
from flexres_tune.spec.document.yaml_reader import YamlError, compose, read_text
from flexres_tune.text import did_you_mean, excerpt

SETTINGS = "flexres_tune"  # the mapping under `provider`
EXAMPLES = {"python": "~/venv/bin/python", "storage": "/mnt/results"}  # its keys
PLACEHOLDER = "-YOURS"  # ends every value that the user must replace


class ClusterError(FlexResError):
    """A cluster that is not up or cannot be reached, or a cluster file without the settings that `submit` needs."""


@dataclass(frozen=True)
class ClusterFile:
    """The settings that `submit` uses."""

    path: Path
    name: str
    provider: str
    python: str  # path on the head; ~ is the head's home
    storage: str  # results folder on the head, absolute or under ~


def read_cluster_file(path: Path, python: str | None = None, storage: str | None = None) -> ClusterFile:
    """Read a cluster file. `python` and `storage` take precedence over its own settings.

    Raises ClusterError if it is not a file for `ray up`, if placeholders are not replaced, or if no Python or storage
    is named.
    """
    root = _read(path)
    config = _children(root)
    provider = _children(config.get("provider"))
    name, kind = _text(config.get("cluster_name")), _text(provider.get("type"))
    if name is None or kind is None:
        raise ClusterError(
            f"{path}: must be a file for `ray up`, with cluster_name and provider.type, but is not; "
            "cluster/gpu.yaml is an example"
        )
    if placeholders := sorted({text for text in _texts(root) if PLACEHOLDER in text}):
        raise ClusterError(
            f"{path}: every {PLACEHOLDER} must be replaced, but {len(placeholders)} values have one, such as "
            f"{excerpt(placeholders[0], 60)!r}; the header of the file says how"
        )
    settings = _children(provider.get(SETTINGS))
    if not settings and _text(provider.get(SETTINGS)) is not None:
        found = excerpt(_text(provider[SETTINGS]), 60)
        raise ClusterError(f"{path}: provider.{SETTINGS}: must be a mapping, but got {found!r}; write {_example()}")
    if unknown := [key for key in settings if key not in EXAMPLES]:
        hint = did_you_mean(unknown[0], EXAMPLES) or f"; its keys are {' and '.join(EXAMPLES)}"
        raise ClusterError(f"{path}: provider.{SETTINGS}: no such key: {excerpt(unknown[0], 60)!r}{hint}")
    values = {}
    for key, option in {"python": python, "storage": storage}.items():
        value = _text(settings.get(key)) if option is None else option
        place = f"{path}: provider.{SETTINGS}.{key}" if option is None else f"--{key}"
        if value is None:
            raise ClusterError(f"{place}: must be set, but is missing; add {_example()}, or give --{key}")
        if not value.startswith(("/", "~/")):
            raise ClusterError(f"{place}: must be a path that begins with / or ~/, but got {excerpt(value, 100)!r}")
        values[key] = value
    return ClusterFile(path, name, kind, **values)


def _read(path: Path) -> Node | None:
    """The file's YAML as nodes. No values are made of them: a merge of merges could stand for millions."""
    try:
        return compose(read_text(path, "cluster file"))[0]
    except SpecError as error:
        raise ClusterError(str(error)) from None
    except YamlError as error:
        reason = error.message.removeprefix("must be YAML 1.2, but: ")
        raise ClusterError(f"{path}:{error.line}: must be one YAML document for `ray up`, but: {reason}") from None


def _children(node: Node | None) -> dict[str, Node]:
    """The values of a mapping by key; empty for any other node."""
    if node is None or node.id != "mapping":
        return {}
    return {key.value: value for key, value in node.value if key.id == "scalar"}


def _text(node: Node | None) -> str | None:
    """The text of a value; None if it is null, a list or a mapping."""
    return node.value if node is not None and node.id == "scalar" and not node.tag.endswith(":null") else None


def _texts(root: Node) -> Iterator[str]:
    """All texts below a node; one that aliases repeat, or that contains itself, is visited once."""
    stack, seen = [root], set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        if node.id == "scalar":
            yield node.value
        else:
            stack += (inner for pair in node.value for inner in pair) if node.id == "mapping" else node.value


def _example() -> str:
    return f"{SETTINGS}: {{{', '.join(f'{key}: {value}' for key, value in EXAMPLES.items())}}}"
