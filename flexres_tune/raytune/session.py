"""From a sweep file to an exit status: check, recall, run what is missing, answer. Imports ray only to run."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from flexres_tune.datasets.shape import describe_dataset
from flexres_tune.raytune.cluster import Cluster, connect, find_address, has_nvidia_gpu, share_for
from flexres_tune.raytune.interrupt import Interrupt
from flexres_tune.raytune.memory import Memory, recall
from flexres_tune.raytune.progress import SweepProgress
from flexres_tune.raytune.sources import ListSource, TpeSource, TrialSource
from flexres_tune.records import TrialStatus
from flexres_tune.results.lock import SweepLock
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import Plan, write_plan
from flexres_tune.results.plan import PlannedTrial as PlanRow
from flexres_tune.spec import PlannedTrial, SweepSpec, describe_plan, expand_trials, load_sweep, trial_from_assignment

EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Session:
    """One call of `run`: the command line, parsed."""

    file: Path
    overrides: tuple[str, ...] = ()
    profile: str = "auto"
    storage: Path = Path("results")
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
        self.console.print(plan.totals, markup=False, soft_wrap=True)
        memory = recall(SweepPaths(self.storage, spec.name), spec.metric.name)
        if done := len(trials) - len(memory.missing(trials)):
            self.console.print(f"{done} of them are done: their rows are in {self.storage / spec.name}", markup=False)
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
        trials = expand_trials(spec, describe_dataset)
        self._say_profile(spec)
        paths = SweepPaths(self.storage, spec.name)
        memory = recall(paths, spec.metric.name)
        source, todo = self._plan(spec, trials, memory)
        if todo == 0:
            self.console.print(
                f"{spec.name}: nothing to do: all {len(trials) or spec.num_trials} trials are in {paths.folder}",
                markup=False,
            )
            self._answer(paths)
            return 0
        with SweepLock(paths), Interrupt() as interrupt:
            write_plan(paths, self._plan_record(spec, trials))
            if cluster is not None:
                return self._train(spec, trials, source, todo, memory, paths, cluster, interrupt)
            with connect(None, self.verbose) as started:
                return self._train(spec, trials, source, todo, memory, paths, started, interrupt)

    def _train(
        self,
        spec: SweepSpec,
        trials: tuple[PlannedTrial, ...],
        source: TrialSource,
        todo: int,
        memory: Memory,
        paths: SweepPaths,
        cluster: Cluster,
        interrupt: Interrupt,
    ) -> int:
        from flexres_tune.raytune.runner import RunOptions, run_trials  # ray: only now

        share = share_for(spec.resources_per_trial, cluster, self.max_concurrent)
        done = (len(trials) or spec.num_trials * len(spec.seeds)) - todo
        self.console.print(
            f"{spec.name}: {todo} trials to run" + (f", {done} already done" if done else "") + f"; {share.reason}",
            markup=False,
        )
        num_epochs = sum(trial.config.epochs for trial in memory.missing(trials)) or todo
        with SweepProgress(self.console, todo, num_epochs) as progress:
            options = RunOptions(verbose=self.verbose)
            states = run_trials(spec, source, memory, paths, share, interrupt, progress.update, options)
        if interrupt.requested:
            self.console.print(f"interrupted; to go on: {self._command}", markup=False, soft_wrap=True)
            return EXIT_INTERRUPTED
        self._answer(paths)
        ended_well = any(
            TrialStatus(s.record.status) in (TrialStatus.COMPLETED, TrialStatus.STOPPED) for s in states.values()
        )
        return 0 if ended_well else 1

    def _plan(self, spec: SweepSpec, trials: tuple[PlannedTrial, ...], memory: Memory) -> tuple[TrialSource, int]:
        """Where the missing trials come from, and how many there are."""
        if spec.method != "tpe":
            missing = memory.missing(trials)
            return ListSource(missing), len(missing)
        source = TpeSource(spec, lambda values, seed: trial_from_assignment(spec, values, seed, describe_dataset))
        num_trials = spec.num_trials * len(spec.seeds)
        return source, num_trials - source.recall(memory.rows)

    def _plan_record(self, spec: SweepSpec, trials: tuple[PlannedTrial, ...]) -> Plan:
        from flexres_tune.raytune.versions import versions

        rows = (PlanRow(t.config.trial_id, t.config.config_id, t.config.seed, t.stage) for t in trials)
        return Plan(
            sweep=spec.name,
            description=spec.description,
            profile=spec.profile,
            command=self._command,
            order_seed=spec.order_seed,
            trials=tuple(rows),
            num_trials=len(trials) or spec.num_trials * len(spec.seeds),
            created_at=datetime.now(UTC),
            versions=versions(),
            host=socket.gethostname(),
            pid=os.getpid(),
            spec=spec.resolved(),
        )

    @property
    def _command(self) -> str:
        return shlex.join(["python", "-m", "flexres_tune.run", *sys.argv[1:]])

    def _say_profile(self, spec: SweepSpec) -> None:
        if self.profile == "auto" and spec.profile != "none":
            base = spec.base
            self.console.print(
                f"no GPU found: profile {spec.profile} runs instead of the file as written "
                f"({base.get('dataset', 'cifar10')}, {base.get('model')}, {base.get('epochs')} epochs); "
                "--profile none overrides",
                markup=False,
                soft_wrap=True,
            )

    def _answer(self, paths: SweepPaths) -> None:
        """The leaderboard, where the tables are, and what to type next."""
        from flexres_tune.results import open_results
        from flexres_tune.results.answers import answer_leaderboard
        from flexres_tune.results.present import print_section

        for section in answer_leaderboard(open_results(paths.root), paths.sweep, limit=10).sections:
            print_section(section, self.console)
        self.console.print(f"tables: {paths.folder}", markup=False)
        next_command = ["python", "-m", "flexres_tune.query", "leaderboard", "--sweep", paths.sweep]
        if self.storage != Path("results"):
            next_command += ["--results", str(self.storage)]
        self.console.print(f"next:   {shlex.join(next_command)}", markup=False, soft_wrap=True)
