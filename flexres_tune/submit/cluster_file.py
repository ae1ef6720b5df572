"""ClusterFile: what `submit` reads in a file for `ray up`: name, provider, Python and results of the head, prices.

The last three are in `provider.flexres_tune`. Ray's schema leaves only the keys of a provider open:

    provider:
      type: aws
      flexres_tune: {python: ~/venv/bin/python, storage: /mnt/results, head_usd_per_hour: 0.2, worker_usd_per_hour: 1.3}
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ruamel.yaml.nodes import Node

from flexres_tune.errors import FlexResError, SpecError
from flexres_tune.spec.document.yaml_reader import YamlError, compose, read_text
from flexres_tune.text import did_you_mean, excerpt, join_words

SETTINGS = "flexres_tune"  # the mapping under `provider`
EXAMPLES = {"python": "~/venv/bin/python", "storage": "/mnt/results"}  # its keys that must be set
PRICES = ("head_usd_per_hour", "worker_usd_per_hour")  # its keys that may be left out
STORAGE_STARTS = ("/", "~/", "s3://", "gs://")
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
    storage: str  # results: a folder on the head, absolute or under ~, or s3://... or gs://...
    region: str | None = None
    project: str | None = None  # of Google Cloud
    max_workers: int | None = None
    head_usd_per_hour: float | None = None
    worker_usd_per_hour: float | None = None


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
    known = (*EXAMPLES, *PRICES)
    if unknown := [key for key in settings if key not in known]:
        hint = did_you_mean(unknown[0], known) or f"; its keys are {join_words(known, 'and')}"
        raise ClusterError(f"{path}: provider.{SETTINGS}: no such key: {excerpt(unknown[0], 60)!r}{hint}")
    values = {}
    for key, option in {"python": python, "storage": storage}.items():
        value = _text(settings.get(key)) if option is None else option
        place = f"{path}: provider.{SETTINGS}.{key}" if option is None else f"--{key}"
        if value is None:
            raise ClusterError(f"{place}: must be set, but is missing; add {_example()}, or give --{key}")
        starts = STORAGE_STARTS if key == "storage" else STORAGE_STARTS[:2]
        if not value.startswith(starts):
            or_address = ", s3:// or gs://" if key == "storage" else ""
            rule = f"must be a path that begins with / or ~/{or_address}"
            raise ClusterError(f"{place}: {rule}, but got {excerpt(value, 100)!r}")
        values[key] = value
    max_workers = _text(config.get("max_workers"))
    return ClusterFile(
        path,
        name,
        kind,
        **values,
        region=_text(provider.get("region")),
        project=_text(provider.get("project_id")),
        max_workers=int(max_workers) if max_workers and max_workers.isdecimal() else None,
        **{key: _read_price(path, key, _text(settings.get(key))) for key in PRICES},
    )


def read_provider(path: Path) -> str | None:
    """`provider.type` of a cluster file, in which placeholders may still be left. Raises ClusterError."""
    return _text(_children(_children(_read(path)).get("provider")).get("type"))


def _read_price(path: Path, key: str, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        price = float(text)
    except ValueError:
        price = math.nan
    if not 0 <= price < math.inf:
        raise ClusterError(
            f"{path}: provider.{SETTINGS}.{key}: must be a price in USD per hour, such as 1.32, but got "
            f"{excerpt(text, 60)!r}"
        )
    return price


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
