"""ClusterFile: what a file for `ray up` says of its head: name, provider, which Python runs there, where results go.

The last two stand in `provider.flexres_tune`, for a provider's keys are the only ones that Ray's schema leaves open:

    provider:
      type: aws
      flexres_tune: {python: ~/venv/bin/python, storage: /mnt/results}
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flexres_tune.errors import FlexResError
from flexres_tune.text import did_you_mean

BLOCK = "flexres_tune"
KEYS = {"python": "~/venv/bin/python", "storage": "/mnt/results"}  # what to set, with an example
PLACE = "-YOURS"  # what a file's header says to replace
MAX_BYTES = 200_000


class ClusterError(FlexResError):
    """A cluster that is not up, cannot be reached, or whose file does not say what is needed."""


@dataclass(frozen=True)
class ClusterFile:
    """A cluster as `submit` needs it."""

    path: Path
    name: str
    provider: str
    python: str  # path on the head; ~ is the head's
    storage: str  # results folder on the head, absolute or under ~


def read_cluster_file(path: Path, python: str | None = None, storage: str | None = None) -> ClusterFile:
    """The cluster file, where `python` and `storage` are given in place of the file's own.

    Raises:
        ClusterError: no file for `ray up`, places in it that are not filled in, or no Python or storage named.
    """
    config = _read(path)
    provider = config["provider"]
    if places := sorted({value for value in _texts(config) if PLACE in value}):
        raise ClusterError(
            f"{path}: what is yours must be filled in, but {len(places)} values hold {PLACE}, such as "
            f"{places[0][:60]!r}; the file's header says how"
        )
    block = provider.get(BLOCK) or {}
    if not isinstance(block, dict):
        raise ClusterError(f"{path}: provider.{BLOCK}: must be a mapping, but got {block!r:.60}; write {_example()}")
    if unknown := [key for key in block if key not in KEYS]:
        meant = did_you_mean(unknown[0], KEYS) or f"; it takes {' and '.join(KEYS)}"
        raise ClusterError(f"{path}: provider.{BLOCK}: no such key: {unknown[0]!r:.60}{meant}")
    values = {}
    for key, given in {"python": python, "storage": storage}.items():
        value = block.get(key) if given is None else given
        where = f"{path}: provider.{BLOCK}.{key}" if given is None else f"--{key}"
        if value is None:
            raise ClusterError(f"{where}: must be there, but is not; add {_example()}, or give --{key}")
        if not isinstance(value, str) or not value.startswith(("/", "~/")):
            raise ClusterError(f"{where}: must be a path that begins with / or ~/, but got {value!r:.100}")
        values[key] = value
    return ClusterFile(path, config["cluster_name"], provider["type"], **values)


def _read(path: Path) -> dict[str, Any]:
    """The file as a mapping that has what every file for `ray up` has."""
    try:
        raw = path.read_bytes()[: MAX_BYTES + 1]
        if len(raw) > MAX_BYTES:
            raise ClusterError(f"{path}: a cluster file must have at most {MAX_BYTES:,} bytes, but has more")
        config = YAML(typ="safe", pure=True).load(raw.decode("utf-8-sig"))
    except OSError as error:
        raise ClusterError(
            f"{path}: must be a cluster file that can be read, but: {error.strerror}; check the path"
        ) from None
    except (YAMLError, UnicodeDecodeError) as error:
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ClusterError(f"{place}: must be one YAML document for `ray up`, but: {reason}") from None
    provider = config.get("provider") if isinstance(config, dict) else None
    is_one = isinstance(provider, dict) and isinstance(provider.get("type"), str)
    if not is_one or not isinstance(config.get("cluster_name"), str):
        raise ClusterError(
            f"{path}: must be a file for `ray up`, with cluster_name and provider.type, but is not; "
            "cluster/gpu.yaml is one"
        )
    return config


def _texts(value: Any) -> Iterator[str]:
    """All texts in a tree of mappings and lists."""
    if isinstance(value, dict):
        value = [*value, *value.values()]
    if isinstance(value, list):
        for inner in value:
            yield from _texts(inner)
    elif isinstance(value, str):
        yield value


def _example() -> str:
    return f"{BLOCK}: {{{', '.join(f'{key}: {value}' for key, value in KEYS.items())}}}"
