"""What a cluster that scales may grow to: the file that `ray up` leaves on the head, and what is there now."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # as cluster/*.yaml name it in `ray start --autoscaling-config`


def grown(now: Mapping[str, float], config: Mapping[str, Any] | None) -> dict[str, float]:
    """CPUs and GPUs with as many workers as the file allows, those with most GPUs first; at least what is there now.

    Trials are asked for by this number: Ray starts machines for trials that wait, and only for those.
    """
    types = (config or {}).get("available_node_types") or {}
    head = (config or {}).get("head_node_type")
    left = int((config or {}).get("max_workers") or 0)
    total = dict(types[head].get("resources") or {}) if head in types else {}
    workers = [node_type for name, node_type in types.items() if name != head]
    for node_type in sorted(workers, key=_size, reverse=True):
        count = min(left, int(node_type.get("max_workers", left)))
        left -= count
        for name, amount in (node_type.get("resources") or {}).items():
            total[name] = total.get(name, 0) + count * amount
    return {name: max(now.get(name, 0), total.get(name, 0)) for name in ("CPU", "GPU")}


def read_bootstrap(path: Path = BOOTSTRAP) -> Mapping[str, Any] | None:
    """The file, or None where this machine is not the head of a cluster that `ray up` has started."""
    from ruamel.yaml import YAML, YAMLError

    try:
        return YAML(typ="safe", pure=True).load(path.expanduser().read_text())
    except (OSError, YAMLError):
        return None


def _size(node_type: Mapping[str, Any]) -> tuple[float, float]:
    resources = node_type.get("resources") or {}
    return resources.get("GPU", 0), resources.get("CPU", 0)
