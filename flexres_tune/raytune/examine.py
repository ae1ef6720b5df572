"""Every node of a cluster, or this machine alone, looked at: -> list[Patient]."""

from __future__ import annotations

import os
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from flexres_tune.places import AnyPath, make_path
from flexres_tune.raytune.checkup import Patient
from flexres_tune.raytune.probe import look, remove_mark, seen_marks, write_mark


@dataclass(frozen=True)
class Sharing:
    """Whether the nodes write to one folder, or one place on object storage."""

    storage: AnyPath
    apart: tuple[str, ...]  # addresses of nodes that cannot write there or do not see what the others wrote
    problems: tuple[str, ...]


def examine_here(datasets: Sequence[str], storage: AnyPath | None, num_gpus_ray: float) -> list[Patient]:
    """This machine, without Ray."""
    mark = _new_round() + "here"
    facts = look(tuple(datasets), _text(storage), mark, None, os.environ.get("RAY_TMPDIR", "/tmp"))
    if storage and not facts.storage_problem:
        remove_mark(str(storage), mark)
    return [Patient("this machine", facts, num_gpus_ray)]


def examine_cluster(datasets: Sequence[str], storage: AnyPath | None) -> list[Patient]:
    """Every node of the connected cluster."""
    from flexres_tune.raytune.nodes import alive_nodes, clock_offset_s, on_every_node

    nodes, round_, place = alive_nodes(), _new_round(), _text(storage)
    answers = on_every_node(
        nodes, look, lambda node: (tuple(datasets), place, round_ + node.node_id, os.getcwd(), "/tmp")
    )
    marks = {round_ + a.node.node_id for a in answers if a.value is not None and not a.value.storage_problem}
    sees = {}
    if place:
        for answer in on_every_node(nodes, seen_marks, lambda node: (place, round_)):
            sees[answer.node.node_id] = set(answer.value or ()) >= marks
        on_every_node(nodes, remove_mark, lambda node: (place, round_ + node.node_id))
    return [
        Patient(
            name=answer.node.address,
            facts=answer.value,
            num_gpus_ray=answer.node.num_gpus,
            clock=clock_offset_s(answer.node) if answer.value is not None else None,
            sees_all_marks=sees.get(answer.node.node_id) if len(nodes) > 1 else None,
            problem=answer.problem,
        )
        for answer in answers
    ]


def check_sharing(storage: AnyPath) -> Sharing:
    """Write a file from every node of the connected cluster, and look for all of them from this one."""
    from flexres_tune.raytune.nodes import alive_nodes, on_every_node

    nodes, round_, place = alive_nodes(), _new_round(), str(storage.resolve())
    mine = round_ + "driver"
    problem = write_mark(place, mine)
    written = on_every_node(nodes, write_mark, lambda node: (place, round_ + node.node_id))
    here = set(seen_marks(place, round_))
    sees = {
        a.node.node_id: mine in (a.value or ()) for a in on_every_node(nodes, seen_marks, lambda node: (place, round_))
    }
    on_every_node(nodes, remove_mark, lambda node: (place, round_ + node.node_id))
    if problem is None:
        remove_mark(place, mine)
    still = {node.node_id for node in alive_nodes()}  # one that has died, but was counted when this began, needs none
    written = [answer for answer in written if answer.node.node_id in still]
    apart = [
        a.node.address
        for a in written
        if a.value or a.problem or round_ + a.node.node_id not in here or not sees[a.node.node_id]
    ]
    problems = [text for a in written if (text := a.value or a.problem)]
    return Sharing(make_path(place), tuple(apart), tuple(dict.fromkeys(problems)))


def _new_round() -> str:
    return f".writable-{uuid.uuid4().hex[:8]}-"


def _text(storage: AnyPath | None) -> str | None:
    return str(storage.resolve()) if storage else None
