"""One run of a sweep, by the command or by run_sweep(). Imports ray only if trials must run."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.console import Console

from flexres_tune.cli import EXIT_FAILED, EXIT_INTERRUPTED
from flexres_tune.cluster.connection import RayConnection, find_address
from flexres_tune.cluster.resources import ClusterResources, TrialResources, has_nvidia_gpu
from flexres_tune.cluster.shared_storage import require_shared_storage
from flexres_tune.datasets.sources import describe_dataset
from flexres_tune.datasets.verify import verify_dataset
from flexres_tune.display.terminal import escape_for_console, make_console
from flexres_tune.errors import FlexResError, ResultsError, SpecError
from flexres_tune.estimate.price import DryRun
from flexres_tune.records import LeftOut, Stage, TrialStatus
from flexres_tune.results.lock import find_holder, sweep_lock
from flexres_tune.results.paths import SweepPaths, steer_command
from flexres_tune.results.plan import closed_plan, make_plan, plan_or_none, write_plan
from flexres_tune.results.writer import check_writable, compact_if_needed
from flexres_tune.run.auto_values import AutoValues
from flexres_tune.run.printout import (
    describe_confirm_power,
    describe_images,
    describe_missing_metrics,
    describe_spending,
    print_ending,
    print_estimate,
    print_listing,
)
from flexres_tune.run.progress import SweepProgress, best_of, waiting
from flexres_tune.run.remaining import (
    Remaining,
    count_after_screening,
    count_todo,
    describe_todo,
    read_remaining,
)
from flexres_tune.run.restart import Caller, ReloadRequested, typed_caller
from flexres_tune.search.base import History, Search
from flexres_tune.search.budget import BudgetedSearches
from flexres_tune.search.lists import ListSearch
from flexres_tune.spec import PlannedTrial, SweepSpec, expand_trials, load_sweep
from flexres_tune.spec.load import SweepSource
from flexres_tune.spec.metrics import metric_column
from flexres_tune.spec.rules import ranking_warning
from flexres_tune.spec.trial import images_of
from flexres_tune.storage import is_remote
from flexres_tune.sweep.fail_fast import FailFast
from flexres_tune.sweep.history import read_history
from flexres_tune.sweep.options import RunOptions
from flexres_tune.sweep.precision import Precisions, expected_precision, recorded_precisions
from flexres_tune.sweep.reuse import reuse_rows
from flexres_tune.sweep.signals import REPORT_WITHIN_S, Signals
from flexres_tune.text import join_words, plural

MAX_PASSES = 3  # Ray may lose a trial again and again; the next pass runs it
ENDED_WELL = (TrialStatus.COMPLETED, TrialStatus.STOPPED, TrialStatus.PAUSED)


@dataclass(frozen=True)
class Ending:
    """How a run of a sweep ended."""

    paths: SweepPaths
    status: int  # of the command: 0, 130 if interrupted, 1 if no trial ended well
    reason: str = ""  # of status 1


@dataclass(frozen=True)
class Session:
    """One run of a sweep: its file or its values, how to run it, where to print, and who runs it."""

    sweep: SweepSource
    options: RunOptions = field(default_factory=RunOptions)
    console: Console = field(default_factory=make_console)
    caller: Caller = field(default_factory=typed_caller)

    @property
    def name(self) -> str:
        """What messages call the sweep before it is read."""
        return str(self.sweep) if isinstance(self.sweep, str | Path) else "the sweep"

    def list_trials(self, dry_run: DryRun) -> int:
        """`--dry-run`: print the trials, their totals and an estimate. Starts no trial and writes no results.

        Speeds that are measured for the estimate are stored in the cache of this machine.
        """
        spec = self._load(has_nvidia_gpu)
        trials = expand_trials(spec, describe_dataset)
        self.print_profile(spec)
        self.print_code(spec)
        self.print_warning(spec)
        paths = SweepPaths(self.options.storage, spec.name)
        found = read_remaining(paths, spec, trials, self.options.retry)
        work = found.searches[Stage.SCREEN].work
        print_listing(self.console, spec, trials, work, paths.folder, self.options.max_concurrent)
        self.print(describe_todo(count_todo(spec, found)))
        print_estimate(self.console, spec, trials, found.history, self.options, dry_run)
        self.print(f"precision: {expected_precision(spec, trials, recorded_precisions(paths))}")
        if power := describe_confirm_power(paths, spec):
            self.print(power)
        return 0

    def run(self) -> Ending:
        """Run what is missing."""
        address = find_address(self.options.address, self.options.local)
        with Signals(self.caller.ends_process) as signals, RayConnection(address, self.options.verbose) as ray:
            if address:  # only a process in the cluster sees its GPUs
                spec = self._load(lambda: self.connect(ray, signals).num_gpus > 0)
            else:
                with waiting(self.console, f"reading {self.name}"):
                    spec = self._load(has_nvidia_gpu)
            return _SweepRun(self, spec, ray, signals).run()

    def print(self, text: str) -> None:
        """One line of plain text."""
        self.console.print(escape_for_console(text), soft_wrap=True)

    def print_profile(self, spec: SweepSpec) -> None:
        """Say which profile runs, if the user has not chosen it."""
        if self.options.profile == "auto" and spec.profile != "none" and not isinstance(self.sweep, SweepSpec):
            base = spec.base
            self.print(
                f"no GPU found: profile {spec.profile} runs instead of the file as written "
                f"({base.get('dataset', 'cifar10')}, {base.get('model')}, {base.get('epochs', 20)} epochs); "
                "--profile none overrides"
            )

    def print_code(self, spec: SweepSpec) -> None:
        """Say which code of the user's own the sweep imports, in this process and in those of its trials."""
        for name, source in spec.code.items():
            files = ", ".join(str(Path(source.folder, file)) for file, _ in source.files) or source.target
            self.print(f"imports code: {name} ({files}; digest {source.digest})")

    def print_warning(self, spec: SweepSpec) -> None:
        """Say if the epoch that ranks the trials favours some of them."""
        if warning := ranking_warning(spec):
            self.print(f"warning: {warning}")

    def problem_of_file(self) -> str:
        """What is wrong with the sweep file as it is now, "" if nothing."""
        if not isinstance(self.sweep, str | Path):
            return (
                "the sweep was built in Python, so it has no file to read again; call run_sweep() with the changed one"
            )
        try:
            expand_trials(self._load(has_nvidia_gpu), describe_dataset)
        except (FlexResError, OSError) as error:
            return str(error)
        return ""

    def connect(self, ray: RayConnection, signals: Signals) -> ClusterResources:
        """The cluster, started or joined if it is not; a signal meanwhile ends the run, because no trial runs yet."""
        if not ray.is_connected:
            text = f"connecting to Ray at {ray.address}" if ray.address else "starting Ray on this machine"
            with signals.exit_on_first(self.caller.interrupted_line), waiting(self.console, text):
                try:
                    ray.connect()
                except SystemExit:  # raised by the handler that Ray installs for SIGTERM while it starts
                    signals.exit_now()
            signals.install()  # Ray has replaced the handler for SIGTERM
        return ray.cluster

    def _load(self, has_gpu: Callable[[], bool]) -> SweepSpec:
        spec = load_sweep(
            self.sweep,
            profile=self.options.profile,
            overrides=self.options.overrides,
            has_gpu=has_gpu,
            describe=describe_dataset,
            allow_code=self.options.allow_code,
        )
        if spec.reproduces is not None:
            from flexres_tune.analysis.published import (
                reference_problem,
            )  # not for sweeps that need no published tables

            if problem := reference_problem(spec.reproduces):
                raise SpecError([spec.document.problem(("reproduces",), problem)])
        return spec


class _SweepRun:
    """A session whose sweep file is loaded."""

    def __init__(self, session: Session, spec: SweepSpec, ray: RayConnection, signals: Signals):
        self._session, self._options, self._spec = session, session.options, spec
        self._print = session.print
        self._ray, self._signals = ray, signals
        self._paths = SweepPaths(self._options.storage, spec.name)
        self._trials = expand_trials(spec, describe_dataset)
        wanted = {"screen": [Stage.SCREEN], "confirm": [Stage.CONFIRM, Stage.FINAL]}
        self._stages = wanted.get(self._options.stage, list(Stage))
        self._statuses: dict[str, TrialStatus] = {}  # of the trials that were started, by trial_id
        self._fail_fast = FailFast()
        self._budgeted: BudgetedSearches | None = None  # of the last look at the tables, if the sweep has a budget
        self._precisions: Precisions = {}  # of `precision: auto`, by kind of device; empty until it is decided
        max_concurrent = self._options.max_concurrent
        self._auto = AutoValues(spec, self._paths, max_concurrent, self._print, self._exit_on_signal)

    def run(self) -> Ending:
        """Run the stages that have something to do."""
        self._session.print_profile(self._spec)
        with waiting(self._session.console, "reading the tables"):
            searches = self._read_work()[1]
        self._session.print_code(self._spec)
        self._session.print_warning(self._spec)
        if note := describe_missing_metrics(self._paths, self._spec):
            self._print(note)
        if self._options.stage == "confirm":
            self._check_can_confirm(searches[Stage.SCREEN])
        selected = [searches[stage].work for stage in self._stages]
        if not any(each.num_todo for each in selected):
            num_done, folder = sum(each.num_done for each in selected), self._paths.folder
            has_left_out = self._budgeted is not None and self._budgeted.left_out != LeftOut()
            trials = f"{plural(num_done, 'trial')} that the budget allows" if has_left_out else f"all {num_done} trials"
            self._print(f"{self._spec.name}: nothing to do: {trials} are in {folder}")
            compact_if_needed(self._paths)
            self._close_plan_if_free()
            print_ending(self._session.console, self._paths, has_new_rows=False)
            self._print_budget()
            return Ending(self._paths, 0)
        self._refuse_if_running()
        self._print(describe_images(self._spec, self._trials))
        with sweep_lock(self._paths):
            check_writable(self._paths)
            for stage in self._stages:
                self._run_stage(stage)
            self._close_plan()
        if self._signals.must_reload:
            raise ReloadRequested(f"{self._spec.name}: reading {self._session.name} again, and continuing")
        if self._signals.requested:
            if self._statuses and self._signals.seconds_since < REPORT_WITHIN_S:
                from flexres_tune.report.files import try_report

                self._print(try_report(self._paths))
            self._print(self._session.caller.interrupted_line)
            return Ending(self._paths, EXIT_INTERRUPTED)
        print_ending(self._session.console, self._paths, has_new_rows=True)
        self._print_budget()
        if self._fail_fast.error is not None:
            reason = self._fail_fast.message(self._session.caller.retry)
            self._print(reason)
            return Ending(self._paths, EXIT_FAILED, reason)
        statuses = self._statuses.values()
        if not statuses or any(status in ENDED_WELL for status in statuses):
            return Ending(self._paths, 0)
        reason = f"{self._spec.name}: none of the {plural(len(statuses), 'trial')} that ran ended well"
        return Ending(self._paths, EXIT_FAILED, reason)

    def _read_work(self) -> tuple[History, Mapping[Stage, Search]]:
        """Compare the sweep file with the tables: (what they have, a search per stage that trains what is missing)."""
        found = read_remaining(self._paths, self._spec, self._trials, self._options.retry, self._statuses)
        self._budgeted = found.budgeted
        return found.history, found.searches

    def _close_plan(self) -> None:
        """If nothing is left to do, no trial of the plan is missing any more.

        A sweep whose rows were all copied from others has no plan yet, without which nobody knows its metric.
        """
        history, searches = self._read_work()
        plan = plan_or_none(self._paths)
        if plan is None and history.trials:
            listed = [trial for search in searches.values() for trial in search.work.trials]
            plan = make_plan(self._spec, listed, self._session.caller.again, recorded_precisions(self._paths))
            write_plan(self._paths, plan)
        if plan is not None and not any(search.work.num_todo for search in searches.values()):
            started = {key for key, past in history.trials.items() if past.attempt}
            left_out = LeftOut() if self._budgeted is None else self._budgeted.left_out
            if (closed := closed_plan(plan, started, left_out)) != plan:
                write_plan(self._paths, closed)

    def _close_plan_if_free(self) -> None:
        """Close the plan of a driver that was killed at the very end, unless another driver runs or nobody may write."""
        with contextlib.suppress(ResultsError), sweep_lock(self._paths):
            self._close_plan()

    def _run_stage(self, stage: Stage) -> None:
        """Train what is missing in a stage; several passes, because Ray may lose a trial."""
        for _ in range(MAX_PASSES):
            history, searches = self._read_work()
            with waiting(self._session.console, "looking for the missing trials in other sweeps"):
                while self._copy_rows_of_other_sweeps(stage, searches[stage].work.missing):
                    history, searches = self._read_work()
            search = searches[stage]
            if search.work.num_todo == 0 or self._signals.requested or self._fail_fast.error is not None:
                return
            if not self._ray.is_connected:
                with self._exit_on_signal("checking the images, which are decoded once per machine"):
                    self._verify_data(search.work.missing)
            cluster = self._session.connect(self._ray, self._signals)
            with waiting(self._session.console, "checking that all nodes share the results folder"):
                require_shared_storage(self._paths.root, cluster)
            before = list(Stage)[: list(Stage).index(stage) + 1]
            listed = tuple(trial for each in before for trial in searches[each].work.trials)
            self._precisions = self._precisions or self._auto.precisions(listed, cluster)
            resources, reason = self._auto.resources(search.work.missing, cluster, self._precisions)
            plan = make_plan(self._spec, listed, self._session.caller.again, self._precisions)
            plan = replace(plan, device_share=resources.device_share(cluster))
            if self._budgeted is not None:
                self._budgeted.account.device_share = plan.device_share
            write_plan(self._paths, plan)
            self._print_start(stage, history, searches, reason)
            started = self._train(stage, search, history, cluster, resources)
            self._statuses |= started
            if (precisions := recorded_precisions(self._paths)) != self._precisions:  # another kind of device joined
                self._precisions = precisions
                write_plan(self._paths, replace(plan, precisions=precisions))
            if not started:  # a search whose space holds nothing new
                return

    def _copy_rows_of_other_sweeps(self, stage: Stage, missing: Sequence[PlannedTrial]) -> bool:
        """Copy the rows of trials that other sweeps have completed; whether there were any."""
        if not self._options.reuse or self._options.retry:
            return False
        metrics = tuple(map(metric_column, self._spec.metrics))
        precisions = recorded_precisions(self._paths)
        copied = reuse_rows(self._paths, missing, stage, self._spec.profile, precisions, metrics)
        if copied:
            trials, names = plural(sum(copied.values()), "trial"), ", ".join(sorted(copied))
            self._print(f"{self._spec.name}: reusing the rows of {trials} of {names}; --no-reuse runs them again")
        return bool(copied)

    def _verify_data(self, missing: Sequence[PlannedTrial]) -> None:
        """Read all images once: a damaged or half downloaded file is reported before any trial starts."""
        names = {trial.config.images for trial in missing} or {images_of(self._spec.base, self._spec.code)}
        for name in sorted(filter(None, names)):
            verify_dataset(name)

    def _train(
        self, stage: Stage, search: Search, history: History, cluster: ClusterResources, resources: TrialResources
    ) -> dict[str, TrialStatus]:
        """Run one search to its end; returns the statuses of the trials that were started, by trial_id."""
        from flexres_tune.cluster.nodes import stop_mps_on_nodes
        from flexres_tune.raytune.concurrency import measure_slots
        from flexres_tune.raytune.runner import TuneRun, run_trials

        name, work = self._name_of(stage), search.work
        best = best_of(work.trials, history)
        has_confirmation = stage is Stage.SCREEN and Stage.CONFIRM in self._stages
        metric, counts = self._spec.metric, (work.num_todo, work.num_epochs)
        with SweepProgress(self._session.console, *counts, name, metric, best) as progress:
            run = TuneRun(
                spec=self._spec,
                search=search,
                paths=self._paths,
                resources=resources,
                signals=self._signals,
                display=progress,
                history=history,
                judged=search.work.trials if stage is Stage.SCREEN else (),
                options=self._options,
                fail_fast=self._fail_fast,
                check_reload=self._session.problem_of_file,
                node=cluster.nodes[0] if cluster.is_local else None,
                precisions=self._precisions,
                measure_slots=measure_slots(resources, cluster, self._paths.root, self._options.max_concurrent),
                num_later=count_after_screening(self._spec, history)[Stage.CONFIRM] if has_confirmation else 0,
            )
            states = run_trials(run)
            starved = [s for s in states.values() if s.record.status == TrialStatus.OUT_OF_MEMORY]
            if starved and resources.num_concurrent > 1 and not self._signals.requested:
                alone = resources.whole_device(cluster)
                progress.message(f"out of memory: running {plural(len(starved), 'trial')} again, {alone.reason}")
                history = read_history(self._paths, self._spec, with_scores=False)
                search = ListSearch(
                    [s.planned for s in starved], until_epochs={s.trial_id: s.until_epoch for s in starved}
                )
                again = replace(run, search=search, resources=alone, history=history, measure_slots=None)
                states |= run_trials(again)
            if resources.mps:
                stop_mps_on_nodes()
        return {trial_id: TrialStatus(state.record.status) for trial_id, state in states.items()}

    @contextlib.contextmanager
    def _exit_on_signal(self, text: str) -> Iterator[None]:
        """Context of a step before the first trial, such as a download: the first signal ends the command at once."""
        with self._signals.exit_on_first(self._session.caller.interrupted_line), waiting(self._session.console, text):
            yield

    def _name_of(self, stage: Stage) -> str:
        return self._spec.name if stage is Stage.SCREEN else f"{self._spec.name}: {stage}"

    def _print_start(self, stage: Stage, history: History, searches: Mapping[Stage, Search], reason: str) -> None:
        """How many trials this stage and the later ones have left, and what each trial takes of the machine."""
        search, num_todo = searches[stage], {Stage.SCREEN: searches[stage].work.num_todo}
        if stage is Stage.SCREEN and self._options.stage == "all":
            num_todo = count_todo(self._spec, Remaining(history, searches))
        name = self._name_of(stage)
        for logger in self._options.loggers if is_remote(self._paths.root) else ():
            self._print(f"--logger {logger}: its files are written on this machine, to {self._paths.logs(logger)}")
        done = f", {search.work.num_done} already done" if search.work.num_done else ""
        self._print(f"{name}: {describe_todo(num_todo)}{done}; {reason}")

    def _refuse_if_running(self) -> None:
        """Raise ResultsError if a driver runs the sweep; says how to hand it what has changed in the sweep file."""
        holder = find_holder(self._paths)
        if holder is None:
            return
        refusal = holder.refusal(self._paths.lock, self._spec.name)
        plan = plan_or_none(self._paths)
        steer = steer_command(self._paths, "reload")
        now = self._spec.resolved()
        changed = [key for key in {**plan.spec, **now} if plan.spec.get(key) != now.get(key)] if plan else []
        if changed:
            raise ResultsError(
                f"{refusal}. The sweep is not what it runs: {join_words(changed, 'and')} changed. To hand it the file as "
                f"it is now, save trials and continue: {steer}"
            )
        raise ResultsError(f"{refusal}. It runs the file as it is now; after a change of the file: {steer}")

    def _print_budget(self) -> None:
        """What was spent of the budget, and what was left out because it did not fit."""
        if self._spec.budget is not None:
            self._read_work()
            self._print(describe_spending(self._budgeted))

    def _check_can_confirm(self, screen: Search) -> None:
        file = self._session.name
        if self._spec.confirm is None:
            raise FlexResError(
                f"{file}: confirm: must be set for --stage confirm, but is not; "
                "add confirm: {top: 3, seeds: [10, 11, 12, 13, 14]}"
            )
        if screen.work.num_todo:
            raise FlexResError(
                f"{file}: the screening must be complete before --stage confirm, but {screen.work.num_todo} of its "
                "trials are missing; leave out --stage to run both"
            )
