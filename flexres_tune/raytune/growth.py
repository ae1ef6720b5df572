"""What a cluster that scales may grow to: the file that `ray up` leaves on the head, and what is there now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flexres_tune.raytune.size import NodeSize

BOOTSTRAP = Path("~/ray_bootstrap_config.yaml")  # as cluster/*.yaml name it in `ray start --autoscaling-config`


def grown(now: Mapping[str, float], config: Mapping[str, Any] | None) -> dict[str, float]:
    """CPUs and GPUs with as many workers as the file allows, those with most GPUs first; at least what is there now.

    Trials are asked for by this number: Ray starts machines for trials that wait, and only for those.
    """
    nodes = _allowed(config)
    total = {"CPU": sum(node.num_cpus for node in nodes), "GPU": sum(node.num_gpus for node in nodes)}
    return {name: max(now.get(name, 0), total[name]) for name in ("CPU", "GPU")}


def grown_nodes(now: Sequence[NodeSize], config: Mapping[str, Any] | None) -> tuple[NodeSize, ...]:
    """The nodes of a cluster that has grown as far as the file allows; those that are there where they are more."""

    def total(nodes: Sequence[NodeSize]) -> tuple[float, float]:
        return sum(node.num_gpus for node in nodes), sum(node.num_cpus for node in nodes)

    return tuple(max(now, _allowed(config), key=total))


def _allowed(config: Mapping[str, Any] | None) -> list[NodeSize]:
    """The head and as many workers as the file allows, those with most GPUs first."""
    types = (config or {}).get("available_node_types") or {}
    head = (config or {}).get("head_node_type")
    left = int((config or {}).get("max_workers") or 0)
    sizes = {name: NodeSize.of(node_type.get("resources") or {}) for name, node_type in types.items()}
    nodes = [sizes[head]] if head in sizes else []
    for name in sorted((name for name in types if name != head), key=sizes.__getitem__, reverse=True):
        count = min(left, int(types[name].get("max_workers", left)))
        left -= count
        nodes += [sizes[name]] * count
    return nodes


def read_bootstrap(path: Path = BOOTSTRAP) -> Mapping[str, Any] | None:
    """The file, or None where this machine is not the head of a cluster that `ray up` has started."""
    from ruamel.yaml import YAML, YAMLError

    try:
        return YAML(typ="safe", pure=True).load(path.expanduser().read_text())
    except (OSError, YAMLError):
        return None
