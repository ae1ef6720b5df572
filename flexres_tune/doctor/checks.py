"""Checks of nodes: collect what each node has, then judge it. Every check that fails comes with advice."""

from __future__ import annotations

import os
import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from flexres_tune.cluster.gpu_health import GpuHealth, examine_gpus
from flexres_tune.cluster.probe import DataName, NodeFacts, probe_node, remove_mark, seen_marks
from flexres_tune.cluster.shared_storage import new_mark_prefix
from flexres_tune.spec.own_code.source import CodeName
from flexres_tune.storage import AnyPath
from flexres_tune.text import join_words, plural

GIB = 1024**3
MIN_MEMORY = 2 * GIB  # one trial: torch alone takes 800 MB
MIN_SHM = GIB // 4  # Ray's object store is in /dev/shm; with less, Ray uses a file on disk
MIN_DISK = GIB
MAX_DISK_USED = 0.95  # with more, Ray refuses to write (RAY_local_fs_capacity_threshold)
MAX_CLOCK_OFFSET_S = 2.0  # started_at and finished_at are on the driver's clock, the age of a file on a node's


MIN_RATE = 0.8  # of the median of the devices of the same name


@dataclass(frozen=True)
class NodeReport:
    """What was collected on a node; `facts` is None and `problem` says why if it did not answer."""

    name: str  # its address
    facts: NodeFacts | None
    num_gpus_ray: float = 0
    clock: tuple[float, float] | None = None  # (offset to the driver, uncertainty) in seconds; None on its own machine
    sees_all_marks: bool | None = None  # whether it sees what other nodes wrote to --storage; None: not checked
    problem: str | None = None
    health: GpuHealth = field(default_factory=GpuHealth)


@dataclass(frozen=True)
class Check:
    """One line of the table."""

    name: str
    where: str
    found: str
    advice: str | None = None  # None: the check passed
    size: int | None = None  # bytes, if `found` is only a size

    @property
    def passed(self) -> bool:
        return self.advice is None


def _to_send(datasets: Sequence[str]) -> tuple[DataName, ...]:
    return tuple(
        (str(name), name.source.model_dump(mode="json") if isinstance(name, CodeName) else None) for name in datasets
    )


def collect_here(
    datasets: Sequence[str], storage: AnyPath | None, num_gpus_ray: float, measure_s: float = 0.0
) -> list[NodeReport]:
    """This machine, without Ray. With `measure_s`, each of its devices multiplies matrices for so long.

    `datasets` are names, or own code that loads images.
    """
    mark, place = new_mark_prefix() + "here", str(storage.resolve()) if storage else None
    facts = probe_node(_to_send(datasets), place, mark, None, os.environ.get("RAY_TMPDIR", "/tmp"))
    if place and not facts.storage_problem:
        remove_mark(place, mark)
    return [NodeReport("this machine", facts, num_gpus_ray, health=examine_gpus(measure_s))]


def collect_cluster(datasets: Sequence[str], storage: AnyPath | None, measure_s: float = 0.0) -> list[NodeReport]:
    """Every node of the connected cluster. With `measure_s`, each device multiplies matrices for so long."""
    from flexres_tune.cluster.nodes import alive_nodes, call_on_nodes, clock_offset_s

    nodes, prefix, place = alive_nodes(), new_mark_prefix(), str(storage.resolve()) if storage else None
    results = call_on_nodes(
        nodes, probe_node, lambda node: (_to_send(datasets), place, prefix + node.node_id, os.getcwd(), "/tmp")
    )
    marks = {prefix + r.node.node_id for r in results if r.value is not None and not r.value.storage_problem}
    sees_all = {}
    if place:
        for result in call_on_nodes(nodes, seen_marks, lambda node: (place, prefix)):
            sees_all[result.node.node_id] = set(result.value or ()) >= marks
        call_on_nodes(nodes, remove_mark, lambda node: (place, prefix + node.node_id))
    health = {
        result.node.node_id: result.value or GpuHealth(problem=result.problem)
        for result in call_on_nodes(nodes, examine_gpus, lambda node: (measure_s,))
    }
    return [
        NodeReport(
            name=result.node.address,
            facts=result.value,
            num_gpus_ray=result.node.num_gpus,
            clock=clock_offset_s(result.node) if result.value is not None else None,
            sees_all_marks=sees_all.get(result.node.node_id) if len(nodes) > 1 else None,
            problem=result.problem,
            health=health[result.node.node_id],
        )
        for result in results
    ]


def run_checks(reports: Sequence[NodeReport], storage: str | None = None) -> list[Check]:
    """All checks; nodes with the same result share a line."""
    checks: list[Check] = []
    for report in reports:
        if report.facts is None:
            advice = "read its log in /tmp/ray/session_latest/logs, then start Ray there again"
            checks.append(Check("answers", report.name, report.problem or "nothing", advice))
    answered = [report for report in reports if report.facts is not None]
    for name, version in (("Python", "python"), ("Ray", "ray"), ("torch", "torch"), ("flexres_tune", "code")):
        checks += _check_versions(name, [(report.name, getattr(report.facts, version)) for report in answered])
    for report in answered:
        checks += _check_node(report, report.facts, storage)
    checks += check_rates([(report.name, report.health) for report in answered])
    return _join_equal(checks)


def _check_versions(name: str, versions: Sequence[tuple[str, str | None]]) -> Iterator[Check]:
    """One check per (node, version); the version that most nodes have is the right one."""
    counts = Counter(version for _, version in versions if version)
    most_common = max(counts, key=counts.__getitem__, default=None)
    for where, version in versions:
        if version is None:
            fix = "pip install -r requirements.txt there" if name != "flexres_tune" else "put the checkout there"
            yield Check(name, where, "missing", f"{fix}, in the environment that Ray was started from")
        elif version != most_common:
            advice = f"most nodes have {most_common}: install the same version there, and start Ray again"
            yield Check(name, where, version, advice)
        else:
            yield Check(name, where, version)


def _check_node(report: NodeReport, facts: NodeFacts, storage: str | None) -> Iterator[Check]:
    yield _check_gpus(report, facts)
    yield from check_health(report.name, report.health)
    if facts.memory_available is not None:
        too_small = facts.memory_available < MIN_MEMORY
        advice = f"free memory: a trial takes about {MIN_MEMORY / GIB:.0f} GiB" if too_small else None
        yield _check_size("free memory", report.name, facts.memory_available, advice)
    if facts.shm_free is not None:
        advice = "mount a larger one: mount -o remount,size=4G /dev/shm, or docker run --shm-size"
        yield _check_size("free /dev/shm", report.name, facts.shm_free, advice if facts.shm_free < MIN_SHM else None)
    yield _check_disk(report.name, facts)
    for dataset, problem in facts.data_problems.items():
        advice = "copy it there, or set FLEXRES_TUNE_DATA to a copy that the node can read" if problem else None
        yield Check(f"data {dataset}", report.name, problem or "ok", advice)
    if storage is not None:
        yield _check_storage(report, facts, storage)
    if report.clock is not None:
        offset_s, uncertainty_s = report.clock
        is_wrong = abs(offset_s) - uncertainty_s > MAX_CLOCK_OFFSET_S
        found = f"{offset_s:+.1f} s" if is_wrong else f"within {MAX_CLOCK_OFFSET_S:g} s"
        advice = "set it: chronyc makestep, or timedatectl set-ntp true" if is_wrong else None
        yield Check("clock", report.name, found, advice)


def _check_gpus(report: NodeReport, facts: NodeFacts) -> Check:
    if facts.num_gpus_torch is None:
        advice = "torch must import there: pip install -r requirements.txt in the environment of that Ray"
        return Check("GPUs", report.name, f"torch: {facts.torch_problem}", advice)
    found = f"{report.num_gpus_ray:g} (Ray), {facts.num_gpus_torch} (torch)"
    if report.num_gpus_ray == facts.num_gpus_torch:
        return Check("GPUs", report.name, found)
    if report.num_gpus_ray > facts.num_gpus_torch:
        advice = (
            "trials would find no GPU: run nvidia-smi there, and check that the driver is new enough for torch's CUDA"
        )
    else:
        advice = "Ray does not use all of them: start it with --num-gpus, or without CUDA_VISIBLE_DEVICES"
    return Check("GPUs", report.name, found, advice)


def check_health(where: str, health: GpuHealth) -> Iterator[Check]:
    """Driver, MPS, memory errors and throttling of a node's GPUs; nothing for a node without GPUs."""
    if health.problem:
        yield Check(
            "GPU health", where, health.problem, "run nvidia-smi there; if it fails, restart or replace the node"
        )
    if not health.states:
        return
    drivers = join_words(sorted({state.driver for state in health.states}), "and")
    yield Check("NVIDIA driver", where, drivers)
    yield Check("MPS", where, "can be started" if health.has_mps else "no nvidia-cuda-mps-control: trials take turns")
    for state in health.states:
        name = f"GPU {state.index} ({state.name})"
        if state.num_ecc_errors:
            found = f"{name}: {plural(state.num_ecc_errors, 'uncorrected memory error')}"
            yield Check("GPU memory", where, found, "replace the node, or reset the GPU: its results may be wrong")
        if state.throttling:
            heat = "" if state.temperature_c is None else f" at {state.temperature_c} degrees"
            found = f"{name}: slowed down, {join_words(state.throttling, 'and')}{heat}"
            yield Check("GPU clocks", where, found, "check its cooling and power supply, or replace the node")
    if not any(state.num_ecc_errors for state in health.states):
        yield Check("GPU memory", where, "no uncorrected errors")
    if not any(state.throttling for state in health.states):
        yield Check("GPU clocks", where, "not slowed down")


def check_rates(nodes: Sequence[tuple[str, GpuHealth]]) -> Iterator[Check]:
    """Matrix products per second of each node; one that is slower than MIN_RATE of devices of the same name fails."""
    rates: dict[str, list[float]] = {}
    for _, health in nodes:
        for rate in health.rates:
            rates.setdefault(rate.name, []).append(rate.flops)
    for where, health in nodes:
        for name in dict.fromkeys(rate.name for rate in health.rates):
            slowest = min(rate.flops for rate in health.rates if rate.name == name)
            usual = statistics.median(rates[name])
            if slowest < MIN_RATE * usual:
                found = f"{name}: {slowest / 1e12:.3g} TFLOP/s, {slowest / usual:.0%} of the others"
                advice = "other programs may use it: stop them; or replace the node, because trials wait for it"
                yield Check("matrix product", where, found, advice)
            else:
                yield Check("matrix product", where, f"{name}: {usual / 1e12:.3g} TFLOP/s (median)")


def _check_disk(where: str, facts: NodeFacts) -> Check:
    if facts.disk_used_fraction <= MAX_DISK_USED and facts.disk_free >= MIN_DISK:
        return _check_size("free disk", where, facts.disk_free, None)
    found = f"{_format_gib(facts.disk_free)}, {facts.disk_used_fraction:.0%} used"
    advice = "free space, or give ray start --temp-dir on another disk: Ray stops writing at 95 %"
    return Check("free disk", where, found, advice)


def _check_storage(report: NodeReport, facts: NodeFacts, storage: str) -> Check:
    if problem := facts.storage_problem:
        advice = "mount it there, writable for the user that Ray runs as"
        if "://" in storage:
            advice = "give the node credentials for it (a role, or the environment that `ray start` was typed in)"
        return Check("storage", report.name, problem, advice)
    if report.sees_all_marks is False:
        advice = "give --storage a folder that all nodes share (NFS, EFS), mounted at the same path"
        return Check("storage", report.name, f"{storage} is another folder there", advice)
    return Check("storage", report.name, "written" if report.sees_all_marks is None else "written, and shared")


def _check_size(name: str, where: str, size: int, advice: str | None) -> Check:
    return Check(name, where, _format_gib(size), advice, size)


def _join_equal(checks: Sequence[Check]) -> list[Check]:
    """One line per result, in the order of the checks, failures first; of sizes that pass, the smallest is shown."""
    groups: dict[tuple[str, str, str | None], list[Check]] = {}
    for check in checks:
        found = "" if check.passed and check.size is not None else check.found
        groups.setdefault((check.name, found, check.advice), []).append(check)
    order = list(dict.fromkeys(check.name for check in checks))
    lines = []
    for (name, found, advice), group in groups.items():
        if not found:
            or_more = " or more" if len({check.found for check in group}) > 1 else ""
            found = _format_gib(min(check.size or 0 for check in group)) + or_more
        nodes = [check.where for check in group]
        where = ", ".join(nodes[:3]) + (f" and {len(nodes) - 3} more" if len(nodes) > 3 else "")
        lines.append(Check(name, where, found, advice))
    return sorted(lines, key=lambda line: (order.index(line.name), line.passed))


def _format_gib(num_bytes: int) -> str:
    return f"{num_bytes / GIB:.1f} GiB"
