"""From a sweep file to an exit status: check, recall, run what is missing, answer. Imports ray only to run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from rich.console import Console

from flexres_tune.cli import EXIT_INTERRUPTED
from flexres_tune.cluster.connection import RayConnection, find_address
from flexres_tune.cluster.packing import resolve_auto_resources
from flexres_tune.cluster.ray_processes import call_unless_ray_died
from flexres_tune.cluster.resources import ClusterResources, has_nvidia_gpu, trial_resources
from flexres_tune.cluster.shared_storage import require_shared_storage
from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.datasets.verify import verify_dataset
from flexres_tune.display.terminal import escape_for_console, make_console
from flexres_tune.errors import FlexResError
from flexres_tune.records import Stage, TrialStatus
from flexres_tune.results.lock import SweepLock
from flexres_tune.results.paths import SweepPaths
from flexres_tune.results.plan import make_plan, write_plan
from flexres_tune.results.writer import check_writable, compact_if_needed
from flexres_tune.run.printout import print_ending, print_listing, write_report
from flexres_tune.run.progress import SweepProgress
from flexres_tune.search.sources import FixedTrials
from flexres_tune.search.stages import Work, confirm_work, screen_work
from flexres_tune.spec import PlannedTrial, SweepSpec, expand_trials, load_sweep
from flexres_tune.storage import AnyPath, is_remote
from flexres_tune.sweep.history import History, read_history
from flexres_tune.sweep.reuse import reuse_rows
from flexres_tune.sweep.signals import REPORT_WITHIN_S, Signals
from flexres_tune.text import plural

MAX_PASSES = 3  # Ray forgets a trial whose process could not be reused in time: it is run in the next pass
ENDED_WELL = (TrialStatus.COMPLETED, TrialStatus.STOPPED)


@dataclass(frozen=True)
class Session:
    """One call of `run`: the command line, parsed."""

    file: Path
    overrides: tuple[str, ...] = ()
    profile: str = "auto"
    storage: AnyPath = Path("results")
    stage: Literal["all", "screen", "confirm"] = "all"
    max_concurrent: int | None = None
    address: str | None = None
    local: bool = False
    verbose: bool = False
    reuse: bool = True  # rows of other sweeps
    retry: tuple[TrialStatus, ...] = ()
    trial_timeout_s: float | None = None
    loggers: tuple[str, ...] = ()

    @cached_property
    def console(self) -> Console:
        return make_console()

    def list_trials(self) -> int:
        """`--dry-run`: the trials and their totals; nothing is started or written."""
        spec = self._load(has_nvidia_gpu)
        trials = expand_trials(spec, describe_dataset)
        self._say_profile(spec)
        paths = SweepPaths(self.storage, spec.name)
        missing = read_history(paths, spec.metric, retry=self.retry).missing(trials)
        print_listing(self.console, spec, trials, missing, paths.folder, self.max_concurrent)
        return 0

    def run(self) -> int:
        """Run what is missing; the exit status: 0, 130 if interrupted, 1 if no trial ended well."""
        address = find_address(self.address, self.local)
        with Signals() as interrupt, RayConnection(address, self.verbose) as ray:
            if address:  # a cluster's GPUs are seen only from inside it
                spec = self._load(lambda: self._start(ray, interrupt).num_gpus > 0)
            else:
                spec = self._load(has_nvidia_gpu)
            return self._run(spec, ray, interrupt)

    def _load(self, has_gpu: Callable[[], bool]) -> SweepSpec:
        return load_sweep(
            self.file, profile=self.profile, overrides=self.overrides, has_gpu=has_gpu, describe=describe_dataset
        )

    def _run(self, spec: SweepSpec, ray: RayConnection, interrupt: Signals) -> int:
        paths = SweepPaths(self.storage, spec.name)
        memory = read_history(paths, spec.metric, spec.parameters[0], self.retry)
        screen = screen_work(spec, memory)
        self._say_profile(spec)
        if self.stage == "confirm":
            self._check_can_confirm(spec, screen)
        confirm = confirm_work(spec, screen.planned(), memory)
        works = [work for work in (screen, confirm) if self.stage in ("all", work.stage)]
        if not any(work.num_todo for work in works):
            self._say(f"{spec.name}: nothing to do: all {sum(w.num_done for w in works)} trials are in {paths.folder}")
            compact_if_needed(paths)
            print_ending(self.console, paths, has_new_rows=False)
            return 0
        with SweepLock(paths):
            check_writable(paths)
            statuses = self._run_stages(spec, paths, ray, interrupt)
        if interrupt.requested:
            if statuses and interrupt.seconds_since < REPORT_WITHIN_S:
                self._say(write_report(paths))
            self._say(self._how_to_go_on)
            return EXIT_INTERRUPTED
        print_ending(self.console, paths, has_new_rows=True)
        return 0 if not statuses or any(TrialStatus(status) in ENDED_WELL for status in statuses.values()) else 1

    def _run_stages(self, spec: SweepSpec, paths: SweepPaths, ray: RayConnection, interrupt: Signals) -> dict[str, str]:
        """Screen, then confirm; the statuses of the trials that were started, by trial_id."""
        statuses: dict[str, str] = {}
        for stage in (Stage.SCREEN, Stage.CONFIRM):
            if self.stage not in ("all", stage):
                continue
            for _ in range(MAX_PASSES):
                memory, screen, work = self._find_work(spec, paths, stage, statuses)
                if work.num_todo == 0 or interrupt.requested:
                    break
                if not ray.is_connected:
                    with interrupt.exit_on_first(self._how_to_go_on):  # a download may take minutes
                        self._check_data(memory.missing(work.planned()), spec)
                cluster = self._start(ray, interrupt)
                require_shared_storage(paths.root, cluster)
                listed = [*screen.planned(), *(work.planned() if work is not screen else ())]
                write_plan(paths, make_plan(spec, listed, self._command))
                started = self._train(spec, work, memory, paths, cluster, interrupt)
                statuses |= started
                if not started:  # a search whose space holds nothing new
                    break
        return statuses

    def _find_work(
        self, spec: SweepSpec, paths: SweepPaths, stage: Stage, tried: Mapping[str, str]
    ) -> tuple[History, Work, Work]:
        """(memory, the screening, the stage's work), after rows that other sweeps have are taken over."""
        while True:
            memory = read_history(paths, spec.metric, spec.parameters[0], self.retry, tried)
            screen = screen_work(spec, memory)
            work = screen if stage is Stage.SCREEN else confirm_work(spec, screen.planned(), memory)
            missing = memory.missing(work.planned()) if self.reuse and not self.retry else []
            reused = reuse_rows(paths, missing, stage, spec.profile)
            if not reused:
                return memory, screen, work
            num, names = sum(reused.values()), ", ".join(sorted(reused))
            self._say(f"{spec.name}: {num} trials are done in {names}: their rows are reused; --no-reuse runs them")

    def _start(self, ray: RayConnection, interrupt: Signals) -> ClusterResources:
        """Connected; a signal that comes meanwhile ends the command at once, for nothing has been started."""
        if not ray.is_connected:
            with interrupt.exit_on_first(self._how_to_go_on):
                try:
                    ray.connect()
                except SystemExit:  # from the handler that Ray has for SIGTERM while it starts
                    interrupt.exit_now()
            interrupt.install()  # joining a cluster, too, Ray has taken SIGTERM
        return ray.cluster

    def _check_data(self, trials: Sequence[PlannedTrial], spec: SweepSpec) -> None:
        """Read all images once: a file that is damaged or half downloaded is said before any trial starts."""
        names = {trial.config.dataset for trial in trials} or {spec.base.get("dataset", "cifar10")}
        for name in sorted(names):
            verify_dataset(name)

    def _train(
        self,
        spec: SweepSpec,
        work: Work,
        memory: History,
        paths: SweepPaths,
        cluster: ClusterResources,
        interrupt: Signals,
    ) -> dict[str, str]:
        """Run one stage; the statuses of the trials that were started, by trial_id."""
        from flexres_tune.raytune.concurrency import measure_slots
        from flexres_tune.raytune.runner import RunOptions, run_trials  # ray: only now

        with interrupt.exit_on_first(self._how_to_go_on):  # trials are measured, none is run
            trials = memory.missing(work.planned())
            requested, why = call_unless_ray_died(
                lambda: resolve_auto_resources(spec.resources_per_trial, cluster, trials)
            )
        share = trial_resources(requested, cluster, self.max_concurrent)
        name = spec.name if work.stage is Stage.SCREEN else f"{spec.name}: confirm"
        for logger in self.loggers if is_remote(paths.root) else ():
            self._say(f"--logger {logger}: what it writes to files is on this machine, in {paths.logs(logger)}")
        done = f", {work.num_done} already done" if work.num_done else ""
        self._say(
            f"{name}: {plural(work.num_todo, 'trial')} to run{done}; {share.reason}" + (f"; {why}" if why else "")
        )
        options = RunOptions(
            trial_timeout_s=self.trial_timeout_s,
            loggers=self.loggers,
            verbose=self.verbose,
            num_slots=measure_slots(share, cluster, paths.root, self.max_concurrent),
        )
        judged = work.planned() if work.stage is Stage.SCREEN else ()
        budgets = {trial.config.trial_id: trial.config.epochs for trial in judged}
        with SweepProgress(self.console, work.num_todo, work.num_epochs) as progress:
            states = run_trials(spec, work.source, memory, budgets, paths, share, interrupt, progress, options)
            starved = [s.planned for s in states.values() if s.record.status == TrialStatus.OUT_OF_MEMORY]
            if starved and share.num_concurrent > 1 and not interrupt.requested:
                alone = share.whole_device(cluster)
                progress.message(f"out of memory: {plural(len(starved), 'trial')} again, {alone.reason}")
                memory = read_history(paths, spec.metric)
                source = FixedTrials(starved)
                options = replace(options, num_slots=None)
                states |= run_trials(spec, source, memory, budgets, paths, alone, interrupt, progress, options)
        return {trial_id: state.record.status for trial_id, state in states.items()}

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

    @property
    def _command(self) -> str:
        return shlex.join(["python", "-m", "flexres_tune.run", *sys.argv[1:]])

    @property
    def _how_to_go_on(self) -> str:
        return f"interrupted; to go on: {self._command}"

    def _say(self, text: str) -> None:
        self.console.print(escape_for_console(text), soft_wrap=True)

    def _say_profile(self, spec: SweepSpec) -> None:
        if self.profile == "auto" and spec.profile != "none":
            base = spec.base
            self._say(
                f"no GPU found: profile {spec.profile} runs instead of the file as written "
                f"({base.get('dataset', 'cifar10')}, {base.get('model')}, {base.get('epochs', 20)} epochs); "
                "--profile none overrides"
            )
