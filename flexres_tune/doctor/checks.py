"""From what the nodes have to what is wrong with it: facts -> findings, each with a way out. Imports no ray."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flexres_tune.cluster.probe import NodeFacts, probe_node, remove_mark, seen_marks
from flexres_tune.cluster.shared_storage import new_mark_prefix
from flexres_tune.storage import AnyPath

GIB = 1024**3

MIN_MEMORY = 2 * GIB  # one trial: torch alone takes 800 MB

MIN_SHM = GIB // 4  # Ray's object store lies there; below, it falls back to a file on disk

MIN_DISK = GIB

MAX_DISK_USED = 0.95  # above, Ray refuses to write (RAY_local_fs_capacity_threshold)

MAX_CLOCK_OFFSET_S = 2.0  # started_at and finished_at come from the driver's clock, a file's age from a node's


@dataclass(frozen=True)
class NodeReport:
    """A node with what was found on it. A problem instead of facts: it did not answer."""

    name: str  # its address
    facts: NodeFacts | None
    num_gpus_ray: float = 0
    clock: tuple[float, float] | None = (
        None  # (offset to the driver, uncertainty), seconds; None on the driver's machine
    )
    sees_all_marks: bool | None = None  # whether it sees what the others wrote to --storage; None: not asked
    problem: str | None = None


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    check: str
    where: str
    found: str
    advice: str | None = None  # what to do; None where all is well
    size: int | None = None  # bytes, where `found` is nothing but that

    @property
    def is_fine(self) -> bool:
        return self.advice is None


def run_checks(patients: Sequence[NodeReport], storage: str | None = None) -> list[Check]:
    """All findings, those that nodes share in one line."""
    findings: list[Check] = []
    for patient in patients:
        if patient.facts is None:
            advice = "look at its log in /tmp/ray/session_latest/logs, then start Ray there again"
            findings.append(Check("answers", patient.name, patient.problem or "nothing", advice))
    asked = [patient for patient in patients if patient.facts is not None]
    for check, version in (("Python", "python"), ("Ray", "ray"), ("torch", "torch"), ("flexres_tune", "code")):
        findings += _agreement(check, [(p.name, getattr(p.facts, version)) for p in asked])
    for patient in asked:
        findings += _node(patient, storage)
    return _together(findings)


def _agreement(check: str, versions: Sequence[tuple[str, str | None]]) -> Iterator[Check]:
    """A line for each version; the one that most nodes have is right."""
    if not versions:
        return
    (common, _), *_ = Counter(version for _, version in versions if version).most_common(1) or [(None, 0)]
    for name, version in versions:
        if version is None:
            missing = "pip install -r requirements.txt there" if check != "flexres_tune" else "put the checkout there"
            yield Check(check, name, "missing", f"{missing}, in the environment that Ray was started from")
        elif version != common:
            yield Check(check, name, version, f"most nodes have {common}: install the same there, and start Ray again")
        else:
            yield Check(check, name, version)


def _node(patient: NodeReport, storage: str | None) -> Iterator[Check]:
    facts, name = patient.facts, patient.name
    assert facts is not None
    yield _gpus(patient)
    if facts.memory_available is not None:
        few = facts.memory_available < MIN_MEMORY
        advice = f"free some: a trial takes about {MIN_MEMORY / GIB:.0f} GiB" if few else None
        yield Check("free memory", name, _size(facts.memory_available), advice, facts.memory_available)
    if facts.shm_free is not None:
        advice = "mount a larger one: mount -o remount,size=4G /dev/shm, or docker run --shm-size"
        advice = advice if facts.shm_free < MIN_SHM else None
        yield Check("free /dev/shm", name, _size(facts.shm_free), advice, facts.shm_free)
    full = facts.disk_used_fraction > MAX_DISK_USED or facts.disk_free < MIN_DISK
    advice = "free some, or give ray start --temp-dir on another disk: Ray stops writing at 95 %" if full else None
    found = f"{_size(facts.disk_free)}, {facts.disk_used_fraction:.0%} used" if full else _size(facts.disk_free)
    yield Check("free disk", name, found, advice, facts.disk_free)
    for dataset, problem in facts.data_problems.items():
        advice = "put it there, or point FLEXRES_TUNE_DATA at a copy that the node can read" if problem else None
        yield Check(f"data {dataset}", name, problem or "sound", advice)
    if storage is not None:
        yield _storage(patient, storage)
    if patient.clock is not None:
        offset, uncertainty = patient.clock
        off = abs(offset) - uncertainty > MAX_CLOCK_OFFSET_S
        advice = "set it: chronyc makestep, or timedatectl set-ntp true" if off else None
        found = f"{offset:+.1f} s" if off else f"within {MAX_CLOCK_OFFSET_S:g} s"
        yield Check("clock", name, found, advice)


def _gpus(patient: NodeReport) -> Check:
    facts = patient.facts
    assert facts is not None
    if facts.num_gpus_torch is None:
        advice = "torch must import there; pip install -r requirements.txt in the environment of that Ray"
        return Check("GPUs", patient.name, f"torch: {facts.torch_problem}", advice)
    found = f"{patient.num_gpus_ray:g} (Ray), {facts.num_gpus_torch} (torch)"
    if patient.num_gpus_ray == facts.num_gpus_torch:
        return Check("GPUs", patient.name, found)
    if patient.num_gpus_ray > facts.num_gpus_torch:
        advice = "trials would find no GPU: look at nvidia-smi there, and whether torch's CUDA is newer than the driver"
    else:
        advice = "Ray leaves some unused: start it with --num-gpus, or without CUDA_VISIBLE_DEVICES"
    return Check("GPUs", patient.name, found, advice)


def _storage(patient: NodeReport, storage: str) -> Check:
    assert patient.facts is not None
    if problem := patient.facts.storage_problem:
        advice = "mount it there, writable for the user that Ray runs as"
        if "://" in storage:
            advice = "give the node credentials for it (a role, or the environment that `ray start` was typed in)"
        return Check("storage", patient.name, problem, advice)
    if patient.sees_all_marks is False:
        advice = "give --storage a folder that all nodes share (NFS, EFS), mounted at the same path"
        return Check("storage", patient.name, f"{storage} is a folder of its own there", advice)
    return Check("storage", patient.name, "written" if patient.sees_all_marks is None else "written, and shared")


def _together(findings: Sequence[Check]) -> list[Check]:
    """Nodes with the same finding share a line; the order of the checks stays, what is wrong comes first in each.

    Of sizes that are all enough, the smallest is shown.
    """
    groups: dict[tuple[str, str, str | None], list[Check]] = {}
    for finding in findings:
        found = "" if finding.is_fine and finding.size is not None else finding.found
        groups.setdefault((finding.check, found, finding.advice), []).append(finding)
    order = list(dict.fromkeys(finding.check for finding in findings))
    lines = []
    for (check, found, advice), group in groups.items():
        if not found:
            more = " or more" if len({finding.found for finding in group}) > 1 else ""
            found = _size(min(finding.size or 0 for finding in group)) + more
        lines.append(Check(check, _names([finding.where for finding in group]), found, advice))
    return sorted(lines, key=lambda line: (order.index(line.check), line.is_fine))


def _names(where: Sequence[str]) -> str:
    shown = ", ".join(where[:3])
    return shown if len(where) <= 3 else f"{shown} and {len(where) - 3} more"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.1f} GiB"


def collect_here(datasets: Sequence[str], storage: AnyPath | None, num_gpus_ray: float) -> list[NodeReport]:
    """This machine, without Ray."""
    mark = new_mark_prefix() + "here"
    facts = probe_node(tuple(datasets), _text(storage), mark, None, os.environ.get("RAY_TMPDIR", "/tmp"))
    if storage and not facts.storage_problem:
        remove_mark(str(storage), mark)
    return [NodeReport("this machine", facts, num_gpus_ray)]


def collect_cluster(datasets: Sequence[str], storage: AnyPath | None) -> list[NodeReport]:
    """Every node of the connected cluster."""
    from flexres_tune.cluster.nodes import alive_nodes, call_on_nodes, clock_offset_s

    nodes, round_, place = alive_nodes(), new_mark_prefix(), _text(storage)
    answers = call_on_nodes(
        nodes, probe_node, lambda node: (tuple(datasets), place, round_ + node.node_id, os.getcwd(), "/tmp")
    )
    marks = {round_ + a.node.node_id for a in answers if a.value is not None and not a.value.storage_problem}
    sees = {}
    if place:
        for answer in call_on_nodes(nodes, seen_marks, lambda node: (place, round_)):
            sees[answer.node.node_id] = set(answer.value or ()) >= marks
        call_on_nodes(nodes, remove_mark, lambda node: (place, round_ + node.node_id))
    return [
        NodeReport(
            name=answer.node.address,
            facts=answer.value,
            num_gpus_ray=answer.node.num_gpus,
            clock=clock_offset_s(answer.node) if answer.value is not None else None,
            sees_all_marks=sees.get(answer.node.node_id) if len(nodes) > 1 else None,
            problem=answer.problem,
        )
        for answer in answers
    ]


def _text(storage: AnyPath | None) -> str | None:
    return str(storage.resolve()) if storage else None
