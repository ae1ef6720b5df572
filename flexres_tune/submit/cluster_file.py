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
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from flexres_tune.errors import FlexResError
from flexres_tune.text import did_you_mean

SETTINGS = "flexres_tune"  # the mapping under `provider`
EXAMPLES = {"python": "~/venv/bin/python", "storage": "/mnt/results"}  # its keys
PLACEHOLDER = "-YOURS"  # ends every value that the user must replace
MAX_BYTES = 200_000


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
    config = _read(path)
    provider = config["provider"]
    if placeholders := sorted({value for value in _texts(config) if PLACEHOLDER in value}):
        raise ClusterError(
            f"{path}: every {PLACEHOLDER} must be replaced, but {len(placeholders)} values have one, such as "
            f"{placeholders[0][:60]!r}; the header of the file says how"
        )
    settings = provider.get(SETTINGS) or {}
    if not isinstance(settings, dict):
        raise ClusterError(
            f"{path}: provider.{SETTINGS}: must be a mapping, but got {settings!r:.60}; write {_example()}"
        )
    if unknown := [key for key in settings if key not in EXAMPLES]:
        hint = did_you_mean(unknown[0], EXAMPLES) or f"; its keys are {' and '.join(EXAMPLES)}"
        raise ClusterError(f"{path}: provider.{SETTINGS}: no such key: {unknown[0]!r:.60}{hint}")
    values = {}
    for key, option in {"python": python, "storage": storage}.items():
        value = settings.get(key) if option is None else option
        place = f"{path}: provider.{SETTINGS}.{key}" if option is None else f"--{key}"
        if value is None:
            raise ClusterError(f"{place}: must be set, but is missing; add {_example()}, or give --{key}")
        if not isinstance(value, str) or not value.startswith(("/", "~/")):
            raise ClusterError(f"{place}: must be a path that begins with / or ~/, but got {value!r:.100}")
        values[key] = value
    return ClusterFile(path, config["cluster_name"], provider["type"], **values)


def _read(path: Path) -> dict[str, Any]:
    """The file as a mapping that has the keys of every file for `ray up`."""
    try:
        raw = path.read_bytes()[: MAX_BYTES + 1]
        if len(raw) > MAX_BYTES:
            raise ClusterError(f"{path}: a cluster file must have at most {MAX_BYTES:,} bytes, but has more")
        config = YAML(typ="safe", pure=True).load(raw.decode("utf-8-sig"))
    except OSError as error:
        raise ClusterError(f"{path}: must be a readable cluster file, but: {error.strerror}; check the path") from None
    except (YAMLError, UnicodeDecodeError) as error:
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ClusterError(f"{place}: must be one YAML document for `ray up`, but: {reason}") from None
    provider = config.get("provider") if isinstance(config, dict) else None
    has_type = isinstance(provider, dict) and isinstance(provider.get("type"), str)
    if not has_type or not isinstance(config.get("cluster_name"), str):
        raise ClusterError(
            f"{path}: must be a file for `ray up`, with cluster_name and provider.type, but is not; "
            "cluster/gpu.yaml is an example"
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
    return f"{SETTINGS}: {{{', '.join(f'{key}: {value}' for key, value in EXAMPLES.items())}}}"
