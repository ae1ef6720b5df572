"""What we hand to Ray Tune in the driver: a searcher, a scheduler, a callback and a stopper, each a thin adapter.

The order in which Ray calls them (TuneController.step of Ray 2.60), over and over, always in Tune's thread:

1. SearchAdapter.suggest, until it returns no trial or as many run as the ConcurrencyLimiter allows. If no trial runs,
   Ray repeats this step in a loop of its own, without the steps below.
2. JournalCallback.on_trial_start, when a trial is started in a process.
3. One event. A report of a trial: first JournalScheduler.on_trial_result, which judges it, then
   JournalCallback.on_trial_result, which adds it to the journal. If it is the trial's last report, or the scheduler
   stops the trial: JournalCallback.on_trial_complete. A process that died: nothing if the trial is restarted, otherwise
   JournalCallback.on_trial_error. A process that could not be used again in time: nothing, and the trial is lost.
4. StopAll.stop_all, which may end all trials. No callback is called for them: Journal.close() writes their rows.
5. JournalCallback.on_step_end.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

from ray import tune
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.progress_reporter import TrialProgressCallback
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import ConcurrencyLimiter, Searcher

from flexres_tune.raytune.trainable import REPORT_KEY
from flexres_tune.raytune.watchdog import Watchdog
from flexres_tune.records import Decision, TrialStatus
from flexres_tune.search.base import DONE, WAIT, Assignment, Outcome, Search, Step
from flexres_tune.spec import Metric
from flexres_tune.sweep.journal import Journal, TrialState
from flexres_tune.sweep.signals import Signals
from flexres_tune.sweep.worker import TrialJob

MAX_LOSSES = 3  # of one trial, before it is left to the next pass
FAILURES_OF_A_LOSS = 2  # that Tune counts if a process dies between two trials: one for the process, one for its task


class DriverSide:
    """Base of everything we hand to Tuner: an object that is never copied, because it holds open files and locks.

    Tuner pickles its searcher, scheduler, callbacks and stopper into tuner.pkl for Tuner.restore, which we do not use:
    a sweep resumes from the tables. So a pickle holds an empty DriverSide, and a deep copy is the object itself.
    """

    def __reduce__(self) -> tuple:
        return DriverSide, ()

    def __deepcopy__(self, memo: dict) -> DriverSide:
        return self


class SearchAdapter(DriverSide, Searcher):
    """A `Search` as Ray's Searcher: each assignment becomes the configuration of one of Ray's trials.

    If the search assigns a paused trial again, Ray sees a new trial, with an id of its own.

    Tune loses a trial if the process that it was to reuse has died or is not free in time, and never starts it. Such a
    trial is handed out again before any other one, and the search does not notice: what stopping rules decide depends
    on the order in which trials run.

    on_decision: called with every decision of the search. must_wait: whether no trial may start for now. is_over:
    whether no trial will start any more. on_lost: called with the trial_id of a lost trial.
    """

    def __init__(
        self,
        search: Search,
        make_job: Callable[[Assignment], TrialJob],
        on_decision: Callable[[Decision], None],
        must_wait: Callable[[], bool],
        is_over: Callable[[], bool],
        on_lost: Callable[[str], None],
    ):
        super().__init__()
        self._on_decision = on_decision
        self._search = search
        self._make_job = make_job
        self._must_wait = must_wait
        self._is_over = is_over
        self._on_lost = on_lost
        self._is_done = False  # the search is
        self._running: set[str] = set()  # our trial_ids
        self._lost: deque[Assignment] = deque()
        self._num_losses: Counter[str] = Counter()  # by our trial_id
        self.unstarted: set[str] = set()  # Ray's ids of trials that were handed out and have not started
        self.num_to_come = 0  # assignments that may still run at once, see Search.most_to_come
        self.most_at_once = 0  # those and the trials that run
        self._count()
        self.assignments: dict[str, Assignment] = {}  # the last one of each trial, by our trial_id

    def suggest(self, trial_id: str) -> dict | str | None:
        if self._is_over():
            return Searcher.FINISHED
        if self._must_wait():
            return None  # Ray asks again
        assignment = self._next()
        if isinstance(assignment, Assignment):
            self._running.add(assignment.trial.config.trial_id)
        self._count()
        if assignment is DONE:
            return None if self.unstarted else Searcher.FINISHED  # after FINISHED, Ray would not ask for a lost trial
        if assignment is WAIT:
            if not self._running:
                raise RuntimeError("a search must not wait if no trial runs, because nothing would end the waiting")
            return None
        job = self._make_job(assignment)
        self.unstarted.add(trial_id)
        self.assignments[job.trial_id] = assignment
        return asdict(job)

    def hand_out_again(self, trial_id: str) -> bool:
        """Hand out a trial that Tune has lost, before any other; False if it was lost too often."""
        if self._num_losses[trial_id] == MAX_LOSSES:
            return False
        self._num_losses[trial_id] += 1
        self._running.discard(trial_id)
        self._lost.append(self.assignments[trial_id])
        self._count()
        self._on_lost(trial_id)
        return True

    def _next(self) -> Assignment | Step:
        if self._lost:
            return self._lost.popleft()
        if self._is_done:
            return DONE
        step = self._search.ask()
        self._pass_on_decisions()
        self._is_done = step is DONE
        return step

    def tell(self, state: TrialState, metric: Metric) -> None:
        """Tell the search how an assignment ended. Ray's on_trial_complete does not know the trial's row."""
        self._running.discard(state.trial_id)
        status = TrialStatus(state.record.status)
        assignment = self.assignments[state.trial_id]
        self._search.tell(
            Outcome(
                assignment,
                status,
                state.score(metric),
                state.last_score(metric),
                num_epochs=len(state.history),
                train_seconds=sum(each.epoch_seconds for each in state.history.values()),
            )
        )
        self._pass_on_decisions()
        self._count()

    def _count(self) -> None:
        """Once per event: other threads read the numbers, and Ray reads them in every step."""
        self.num_to_come = self._search.most_to_come() + len(self._lost)
        self.most_at_once = self.num_to_come + len(self._running)

    def _pass_on_decisions(self) -> None:
        for decision in self._search.take_decisions():
            self._on_decision(decision)

    def on_trial_complete(self, trial_id: str, result: dict | None = None, error: bool = False) -> None:
        """One of Ray's trials has ended. What came of it is for tell()."""
        self.unstarted.discard(trial_id)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a search is rebuilt from the tables."""


class JournalScheduler(DriverSide, FIFOScheduler):
    """Stops a trial if `Journal.judge` says so.

    One object serves asha, hyperband, median and none for every number of epochs; the rules are the rows of
    `early_stopping.STOPPING_RULES`. Ray's own schedulers have one ladder per Tuner, let a NaN score continue, and keep
    their state in no table, so that they would decide differently after a restart.
    """

    def __init__(self, journal: Journal, num_to_keep: Callable[[], int] = lambda: 0):
        """`num_to_keep`: how many idle processes the trials that follow can use again."""
        super().__init__()
        self._journal = journal
        self._num_to_keep = num_to_keep
        self._num_kept = 0  # by us; Ray adds one for each trial that it places
        self._resources: Any = None  # of a trial, as Ray's cache names them

    def on_trial_add(self, tune_controller: TuneController, trial: Trial) -> None:
        self._resources = trial.placement_group_factory
        self._update_cache(tune_controller)

    def choose_trial_to_run(self, tune_controller: TuneController) -> Trial | None:
        """The oldest pending trial, but one whose process is starting only if there is no other. Called in every step.

        Tune gives a process that is free to the trial that is chosen here, and ends the one that was starting for it. If
        trials are shorter than the start of a process, slots that become free on a cluster would never be used.
        """
        if self._resources is not None:
            self._update_cache(tune_controller)
        pending = [trial for trial in tune_controller.get_trials() if trial.status == Trial.PENDING]
        return next((trial for trial in pending if not _is_starting(tune_controller, trial)), next(iter(pending), None))

    def _update_cache(self, tune_controller: TuneController) -> None:
        """Tune keeps only one idle process while no trial is pending, and a new one takes seconds to start.

        An idle process holds its part of a GPU, and its machine cannot be ended: no more are kept than can be used.
        """
        number = self._num_to_keep()
        if number != self._num_kept:
            tune_controller._actor_cache.increase_max(self._resources, by=number - self._num_kept)
            self._num_kept = number

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict) -> str:
        report = result.get(REPORT_KEY)
        if report is None:
            return TrialScheduler.CONTINUE
        trial_id = trial.config["trial_id"]
        verdict = self._journal.judge(trial_id, report)
        stop = (verdict is not None and verdict.stop) or self._journal.must_stop(trial_id, report)
        self._journal.states[trial_id].was_stopped = stop
        return TrialScheduler.STOP if stop else TrialScheduler.CONTINUE


def _is_starting(tune_controller: TuneController, trial: Trial) -> bool:
    """Whether a process has resources for the trial, and starts for it."""
    actor = tune_controller._trial_to_actor.get(trial)
    if actor is None or actor in tune_controller._started_actors:
        return False
    return tune_controller._actor_manager.is_actor_started(actor)


class JournalCallback(DriverSide, tune.Callback):
    """Passes what happens to trials to the journal, the search and the display.

    limiter: that of a SearchAdapter.
    attempts: how many times earlier runs have started each trial, by trial_id.
    on_change: called after every change to a trial. on_message: called with text for the user.
    """

    def __init__(
        self,
        journal: Journal,
        limiter: ConcurrencyLimiter,
        watchdog: Watchdog,
        attempts: Mapping[str, int],
        on_change: Callable[[TrialState], None],
        on_message: Callable[[str], None],
    ):
        self._journal = journal
        self._limiter = limiter
        self._searcher: SearchAdapter = limiter.searcher
        self._watchdog = watchdog
        self._attempts = dict(attempts)
        self._num_starts: Counter[str] = Counter()  # by Ray's ids of its trials
        self._on_change = on_change
        self._on_message = on_message
        self._with_problem: set[str] = set()  # trial_ids whose problem was printed
        self._notices: set[str] = set()  # printed ones

    def on_trial_start(self, iteration: int, trials: list[Trial], trial: Trial, **info) -> None:
        self._on_change(self._start(trial, trial.num_failures))

    def on_trial_result(self, iteration: int, trials: list[Trial], trial: Trial, result: dict, **info) -> None:
        if REPORT_KEY not in result:
            return
        report, state = result[REPORT_KEY], self._journal.states[trial.config["trial_id"]]
        state.node_ip = result.get("node_ip", state.node_ip)
        self._journal.add(state.trial_id, report)
        result[REPORT_KEY] = report.without_predictions()  # Ray keeps the last result of every trial
        problem, notice = report.facts.problem, report.facts.notice
        if notice and notice not in self._notices:
            self._notices.add(notice)
            self._on_message(notice)
        if problem and state.trial_id not in self._with_problem:
            self._with_problem.add(state.trial_id)
            self._on_message(
                f"{problem}; trial {state.trial_id} continues, and if it is interrupted now, it resumes from its last "
                "saved checkpoint"
            )
        self._on_change(state)

    def on_trial_complete(self, iteration: int, trials: list[Trial], trial: Trial, **info) -> None:
        if trial.trial_id in self._num_starts:  # one that never started has no row
            self._finish(trial.config["trial_id"])

    def on_trial_error(self, iteration: int, trials: list[Trial], trial: Trial, **info) -> None:
        """The trial's process has died more often than it is restarted, or was killed because it hung."""
        trial_id = trial.config["trial_id"]
        if trial.trial_id not in self._num_starts:
            if trial.num_failures <= max(trial.max_failures, FAILURES_OF_A_LOSS):
                return self._recover_lost(trial)  # the process died between two trials
            self._start(trial, num_failures=0)
        self._finish(trial_id, TrialStatus.FAILED, self._watchdog.ended.get(trial_id) or _error_text(trial))

    def on_step_end(self, iteration: int, trials: list[Trial], **info) -> None:
        for trial in self._lost_silently(trials):
            self._limiter.on_trial_complete(trial.trial_id, error=True)  # or it would count as running for ever
            self._recover_lost(trial)
        self._watchdog.check(trials, time.monotonic())

    def _lost_silently(self, trials: list[Trial]) -> Iterator[Trial]:
        """Trials whose process could not be used again in time: Tune calls nothing for them. The newest are last."""
        missing = set(self._searcher.unstarted)
        for trial in reversed(trials):
            if not missing:
                return
            if trial.trial_id in missing:
                missing.remove(trial.trial_id)
                if trial.status == Trial.ERROR:
                    yield trial

    def _recover_lost(self, trial: Trial) -> None:
        """Tune will not start the trial: the search adapter hands it out again, or else the next pass runs it."""
        trial_id = trial.config["trial_id"]
        if not self._searcher.hand_out_again(trial_id):
            self._start(trial, num_failures=0)
            self._finish(trial_id, TrialStatus.INTERRUPTED)

    def _start(self, trial: Trial, num_failures: int) -> TrialState:
        trial_id = trial.config["trial_id"]
        # Ray counts no failure if the node was about to be taken away, but the trial does start again
        num_lost = max(num_failures, self._num_starts[trial.trial_id])
        attempt = self._attempts.get(trial_id, 0) + 1 + num_lost
        assignment = self._searcher.assignments[trial_id]
        self._num_starts[trial.trial_id] += 1
        self._searcher.unstarted.discard(trial.trial_id)
        return self._journal.start(assignment.trial, attempt, assignment.until_epoch)

    def _finish(self, trial_id: str, status: TrialStatus | None = None, error: str | None = None) -> None:
        state = self._journal.states[trial_id]
        self._attempts[trial_id] = state.attempt
        if self._journal.finish(trial_id, status, error) is not None:  # None: the journal is closed
            self._searcher.tell(state, self._journal.metric)
        self._on_change(state)


def _error_text(trial: Trial) -> str:
    error = trial.get_error()
    return f"{type(error).__name__}: {error}" if error is not None else "the trial's process died without a message"


class StopAll(DriverSide, tune.Stopper):
    """Stops all trials `save_s` seconds after a signal: until then they may save a checkpoint and end by themselves."""

    def __init__(self, signals: Signals, save_s: float):
        self._signals = signals
        self._save_s = save_s

    def __call__(self, trial_id: str, result: dict) -> bool:
        return False

    def stop_all(self) -> bool:
        return self._signals.seconds_since >= self._save_s


class NoRayOutput(DriverSide, TrialProgressCallback):
    """Replaces Ray's own lines about trials: even with verbose=0 it prints one for a trial without any result."""

    def on_trial_result(self, *args, **info) -> None: ...

    def on_trial_error(self, *args, **info) -> None: ...

    def on_trial_complete(self, *args, **info) -> None: ...
