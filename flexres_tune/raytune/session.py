"""From a sweep file to an exit status: check, recall, run what is missing, answer. Imports ray only to run."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flexres_tune.datasets.shape import describe_dataset
from flexres_tune.errors import FlexResError
from flexres_tune.raytune.cluster import Cluster, connect, find_address, has_nvidia_gpu, share_for
from flexres_tune.raytune.interrupt import Interrupt
from flexres_tune.raytune.memory import Memory, recall
from flexres_tune.raytune.packing import settle
from flexres_tune.raytune.progress import SweepProgress
from flexres_tune.raytune.sources import ListSource
from flexres_tune.raytune.stages import Work, confirm_work, screen_work
from flexres_tune.raytune.versions import versions
from flexres_tune.records import Stage, TrialStatus
from flexres_tune.results.lock import SweepLock
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import Plan, write_plan
from flexres_tune.results.plan import PlannedTrial as PlanRow
from flexres_tune.spec import PlannedTrial, SweepSpec, describe_plan, expand_trials, load_sweep

EXIT_INTERRUPTED = 130
ENDED_WELL = (TrialStatus.COMPLETED, TrialStatus.STOPPED)


@dataclass(frozen=True)
class Session:
    """One call of `run`: the command line, parsed."""

    file: Path
    overrides: tuple[str, ...] = ()
    profile: str = "auto"
    storage: Path = Path("results")
    stage: Literal["all", "screen", "confirm"] = "all"
    max_concurrent: int | None = None
    address: str | None = None
    local: bool = False
    verbose: bool = False

    @cached_property
    def console(self) -> Console:
        return Console(highlight=False)

    def list_trials(self) -> int:
        """`--dry-run`: the trials and their totals; nothing is started or written."""
        spec = self._load(has_nvidia_gpu)
        trials = expand_trials(spec, describe_dataset)
        self._say_profile(spec)
        plan = describe_plan(spec, trials)
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in plan.columns:
            table.add_column(name, no_wrap=True)
        for row in plan.rows:
            table.add_row(*map(escape, row))
        if plan.rows:
            self.console.print(table)
        self._say(plan.totals)
        memory = recall(SweepPaths(self.storage, spec.name), spec.metric)
        if done := len(trials) - len(memory.missing(trials)):
            self._say(f"{done} of them are done: their rows are in {self.storage / spec.name}")
        return 0

    def run(self) -> int:
        """Run what is missing; the exit status: 0, 130 if interrupted, 1 if no trial ended well."""
        address = find_address(self.address, self.local)
        if address:  # a cluster's GPUs are seen only from inside it
            with connect(address, self.verbose) as cluster:
                return self._run(self._load(lambda: cluster.num_gpus > 0), cluster)
        return self._run(self._load(has_nvidia_gpu), None)

    def _load(self, has_gpu: Callable[[], bool]) -> SweepSpec:
        return load_sweep(self.file, profile=self.profile, overrides=self.overrides, has_gpu=has_gpu)

    def _run(self, spec: SweepSpec, cluster: Cluster | None) -> int:
        paths = SweepPaths(self.storage, spec.name)
        memory = recall(paths, spec.metric)
        screen = screen_work(spec, memory)
        self._say_profile(spec)
        if self.stage == "confirm":
            self._check_can_confirm(spec, screen)
        statuses: list[str] = []
        num_done = 0
        with ExitStack() as stack:
            interrupt = stack.enter_context(Interrupt())
            locked = False
            for stage in (Stage.SCREEN, Stage.CONFIRM):
                if self.stage not in ("all", stage):
                    continue
                if stage is Stage.CONFIRM and statuses:
                    memory = recall(paths, spec.metric)
                work = screen if stage is Stage.SCREEN else confirm_work(spec, screen.planned(), memory)
                num_done += work.num_done
                if work.num_todo == 0:
                    continue
                if not locked:
                    stack.enter_context(SweepLock(paths))
                    locked = True
                if cluster is None:
                    cluster = stack.enter_context(connect(None, self.verbose))
                write_plan(
                    paths, self._plan(spec, [*screen.planned(), *(work.planned() if work is not screen else ())])
                )
                statuses += self._train(spec, work, memory, paths, cluster, interrupt)
                if interrupt.requested:
                    self._say(f"interrupted; to go on: {self._command}")
                    return EXIT_INTERRUPTED
        if not statuses:
            self._say(f"{spec.name}: nothing to do: all {num_done} trials are in {paths.folder}")
        self._answer(paths)
        return 0 if not statuses or any(TrialStatus(status) in ENDED_WELL for status in statuses) else 1

    def _train(
        self,
        spec: SweepSpec,
        work: Work,
        memory: Memory,
        paths: SweepPaths,
        cluster: Cluster,
        interrupt: Interrupt,
    ) -> list[str]:
        """Run one stage; the statuses of the trials that were started."""
        from flexres_tune.raytune.runner import RunOptions, run_trials  # ray: only now

        requested, why = settle(spec.resources_per_trial, cluster, memory.missing(work.planned()))
        share = share_for(requested, cluster, self.max_concurrent)
        name = spec.name if work.stage is Stage.SCREEN else f"{spec.name}: confirm"
        done = f", {work.num_done} already done" if work.num_done else ""
        self._say(f"{name}: {work.num_todo} trials to run{done}; {share.reason}" + (f"; {why}" if why else ""))
        with SweepProgress(self.console, work.num_todo, work.num_epochs) as progress:
            options = RunOptions(verbose=self.verbose)
            states = run_trials(spec, work.source, memory, paths, share, interrupt, progress.update, options)
            starved = [s.planned for s in states.values() if s.record.status == TrialStatus.OUT_OF_MEMORY]
            if starved and share.num_concurrent > 1 and not interrupt.requested:
                alone = share.whole_device(cluster)
                progress.message(f"out of memory: {len(starved)} trials again, {alone.reason}")
                memory = recall(paths, spec.metric)
                source = ListSource(starved)
                states |= run_trials(spec, source, memory, paths, alone, interrupt, progress.update, options)
        return [state.record.status for state in states.values()]

    def _check_can_confirm(self, spec: SweepSpec, screen: Work) -> None:
        if spec.confirm is None:
            raise FlexResError(
                f"{self.file}: confirm: must be there for --stage confirm, but is not; "
                "add confirm: {top: 3, seeds: [10, 11, 12, 13, 14]}"
            )
        if screen.num_todo:
            raise FlexResError(
                f"{self.file}: the screening must be complete before --stage confirm, but {screen.num_todo} of its "
                "trials are missing; leave --stage out to run both"
            )

    def _plan(self, spec: SweepSpec, trials: Sequence[PlannedTrial]) -> Plan:
        num_screen = spec.num_trials * len(spec.seeds) if spec.method == "tpe" else None
        num_confirm = spec.confirm.top * len(spec.confirm.seeds) if spec.confirm else 0
        listed = [t for t in trials if t.stage == Stage.SCREEN]
        return Plan(
            sweep=spec.name,
            description=spec.description,
            profile=spec.profile,
            command=self._command,
            order_seed=spec.order_seed,
            trials=tuple(PlanRow(t.config.trial_id, t.config.config_id, t.config.seed, t.stage) for t in trials),
            num_trials=(num_screen or len(listed)) + num_confirm,
            created_at=datetime.now(UTC),
            versions=versions(),
            host=socket.gethostname(),
            pid=os.getpid(),
            spec=spec.resolved(),
        )

    @property
    def _command(self) -> str:
        return shlex.join(["python", "-m", "flexres_tune.run", *sys.argv[1:]])

    def _say(self, text: str) -> None:
        self.console.print(text, markup=False, soft_wrap=True)

    def _say_profile(self, spec: SweepSpec) -> None:
        if self.profile == "auto" and spec.profile != "none":
            base = spec.base
            self._say(
                f"no GPU found: profile {spec.profile} runs instead of the file as written "
                f"({base.get('dataset', 'cifar10')}, {base.get('model')}, {base.get('epochs', 20)} epochs); "
                "--profile none overrides"
            )

    def _answer(self, paths: SweepPaths) -> None:
        """The leaderboard, where the tables are, and what to type next."""
        from flexres_tune.results import open_results
        from flexres_tune.results.answer import answer_sentence
        from flexres_tune.results.answers import answer_leaderboard
        from flexres_tune.results.present import print_section

        for section in answer_leaderboard(open_results(paths.root), paths.sweep, limit=10).sections:
            print_section(section, self.console)
        self._say(f"tables: {paths.folder}")
        next_command = ["python", "-m", "flexres_tune.query", "leaderboard", "--sweep", paths.sweep]
        if self.storage != Path("results"):
            next_command += ["--results", str(self.storage)]
        self._say(f"next:   {shlex.join(next_command)}")
        self._say(answer_sentence(open_results(paths.root), paths.sweep))
