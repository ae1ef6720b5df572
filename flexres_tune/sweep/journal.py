"""The journal of a run: the state of each trial, judged by the stopping rules and written to the tables."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Protocol

from flexres_tune.records import Decision, EpochMetrics, EpochRecord, TrialRecord, TrialStatus, Versions
from flexres_tune.results.writer import SweepWriter
from flexres_tune.search.early_stopping import StoppingRule, Verdict, make_rule
from flexres_tune.spec import Metric, PlannedTrial, SweepSpec
from flexres_tune.spec.levels import level_of
from flexres_tune.sweep.history import WITHOUT_SCORE, PastReports
from flexres_tune.sweep.worker import TrialFacts, TrialReport


@dataclass
class TrialState:
    """One trial of this run, from its start until its row is written."""

    planned: PlannedTrial
    attempt: int
    started_at: datetime
    node_ip: str | None = None
    facts: TrialFacts = field(default_factory=TrialFacts)
    history: dict[int, EpochMetrics] = field(default_factory=dict)  # by epoch
    until_epoch: int | None = None  # end of its assignment; None: its last epoch
    report: TrialReport | None = None  # the last one
    was_stopped: bool = False  # by a stopping rule
    reported_at: float = field(default_factory=time.monotonic)  # time of the last report, or of the start
    record: TrialRecord | None = None  # set when the row is written

    @property
    def trial_id(self) -> str:
        return self.planned.config.trial_id

    def score(self, metric: Metric) -> float | None:
        """The value of the metric that ranks the trial, higher is better; None if it has none, or did not end well.

        A trial that was stopped early counts with what it reached.
        """
        if self.record is not None and self.record.status in WITHOUT_SCORE:
            return None
        return metric.reached(self._scores(metric))

    def last_score(self, metric: Metric) -> float | None:
        """The same at the last epoch that the trial has reached."""
        if self.score(metric) is None:
            return None
        value = self._scores(metric).get(max(self.history), math.nan)
        return value if math.isfinite(value) else None

    def _scores(self, metric: Metric) -> dict[int, float]:
        values = {epoch: metrics.value(metric.name) for epoch, metrics in self.history.items()}
        return {epoch: metric.score(value) for epoch, value in values.items() if value is not None}


class Journal:
    """Judges reports by one stopping rule per ladder; adds rows to epochs, decisions and trials.

    A ladder is shared by the trials with the same number of epochs, of one level of `compare`. Only the first seed of a
    configuration is judged, see FirstSeedSearch, and trials of the confirmation are not judged at all.
    Every method takes `lock`, which is also held while rows are written. After close() no method changes anything: a
    thread of Ray's that was left behind may still call them.
    """

    def __init__(self, spec: SweepSpec, writer: SweepWriter, versions: Versions, git_commit: str | None):
        self._spec = spec
        self._writer = writer
        self._versions = versions
        self._git_commit = git_commit
        self._rules: dict[str, StoppingRule] = {}  # by ladder
        self._decided: set[tuple[str, int]] = set()  # (trial_id, epoch) with a row of a rule in `decisions`
        self._recorded: set[tuple[str, int, str, str]] = set()  # keys of all rows in `decisions`
        self._to_stop: set[str] = set()  # running trials that a person wants to end
        self.states: dict[str, TrialState] = {}
        self.lock = threading.RLock()
        self.is_closed = False

    @property
    def metric(self) -> Metric:
        """What the rules compare."""
        return self._spec.metric

    def replay(self, past: PastReports, trials: Iterable[PlannedTrial]) -> None:
        """Rebuild the rules from the tables, so that they decide as if nothing had been interrupted.

        A decision that was taken is kept: `epochs` alone does not say what it was compared with, because the row of an
        epoch that was computed again has moved to the table's end. If the driver was killed after it wrote an epoch and
        before it wrote the decision, the decision is taken again, and written.

        Args:
            past: decisions of another metric or rule are ignored.
            trials: the trials of the sweep as it is now; rows of others are ignored, because a trial of another base
                or data set cannot be compared with them.
        """
        metric = self._spec.metric
        judged = {trial.config.trial_id: trial for trial in trials if self._is_judged(trial)}
        self._recorded = {_key(row) for row in past.decisions}
        for row in past.decisions:
            trial = judged.get(row.trial_id)
            if row.action not in ("continue", "stop") or trial is None or row.ladder != self._ladder(trial):
                continue
            cutoff = None if row.cutoff is None else metric.score(row.cutoff)
            verdict = Verdict(row.rung, cutoff, row.action == "stop")
            self._rule(trial).remember(row.trial_id, row.epoch, verdict)
            self._decided.add((row.trial_id, row.epoch))
        if not judged or not past.epochs.num_rows:
            return
        columns = (past.epochs[name].to_pylist() for name in ("trial_id", "epoch", metric.name))
        for trial_id, epoch, value in zip(*columns, strict=True):
            if trial_id in judged and epoch is not None and value is not None:
                self._decide(judged[trial_id], epoch, value)

    def start(self, planned: PlannedTrial, attempt: int, until_epoch: int | None = None) -> TrialState:
        """A trial starts, or starts again after it was paused or its process died."""
        state = TrialState(planned, attempt, datetime.now(UTC), until_epoch=until_epoch)
        with self.lock:
            if not self.is_closed:
                is_known = state.trial_id in self.states
                self.states[state.trial_id] = state
                if self._spec.method == "tpe" and not is_known:
                    # if the driver is killed, only this row says what was drawn
                    self._writer.add_trial(self._record(state, TrialStatus.INTERRUPTED, None), planned.config)
        return state

    def judge(self, trial_id: str, report: TrialReport) -> Verdict | None:
        """What the stopping rule says about a report, None if nothing; a new verdict becomes a row of `decisions`."""
        with self.lock:
            state, metrics = self.states[trial_id], report.metrics
            if self.is_closed or metrics is None or report.status is not None or not self._is_judged(state.planned):
                return None
            return self._decide(state.planned, metrics.epoch, metrics.value(self._spec.metric.name))

    def request_stop(self, trial_id: str) -> bool:
        """A person wants a running trial to end at its next report; whether it runs."""
        with self.lock:
            state = self.states.get(trial_id)
            is_running = state is not None and state.record is None and not self.is_closed
            if is_running:
                self._to_stop.add(trial_id)
            return is_running

    def must_stop(self, trial_id: str, report: TrialReport) -> bool:
        """Whether a person has asked for the trial's end, and it has not ended by itself."""
        return trial_id in self._to_stop and report.status is None

    def record_steering(self, act: str, trial_id: str, who: str) -> None:
        """Write what a person asked for; about no trial if `trial_id` is empty."""
        with self.lock:
            if self.is_closed:
                return
            state, now = self.states.get(trial_id), datetime.now(UTC)
            last = state.history[max(state.history)] if state is not None and state.history else None
            self._writer.add_decision(
                Decision(
                    sweep=self._spec.name,
                    trial_id=trial_id,
                    epoch=last.epoch if last else 0,
                    rung=0,
                    value=last.value(self._spec.metric.name) if last else None,
                    cutoff=None,
                    action=f"steer {act}",
                    ladder=f"steering at {now.isoformat(timespec='microseconds')}",  # the key: each act has its own row
                    who=who,
                    decided_at=now,
                )
            )

    def record_decision(self, decision: Decision) -> None:
        """Write why the search paused or promoted a trial, unless the tables have it.

        Its value and cutoff are scores; the table has them as the metric.
        """
        metric = self._spec.metric
        with self.lock:
            if self.is_closed or _key(decision) in self._recorded:
                return
            self._recorded.add(_key(decision))
            value, cutoff = (None if x is None else metric.score(x) for x in (decision.value, decision.cutoff))
            self._writer.add_decision(replace(decision, sweep=self._spec.name, value=value, cutoff=cutoff))

    def add(self, trial_id: str, report: TrialReport) -> None:
        """Add a report of a running trial to its state, and its epoch to the tables."""
        with self.lock:
            if self.is_closed:
                return
            state = self.states[trial_id]
            state.facts, state.reported_at = report.facts, time.monotonic()
            state.report = report.without_predictions()  # the writer has them now
            if report.metrics is not None:
                state.history[report.metrics.epoch] = report.metrics
                attempt = max(1, state.attempt - 1) if report.is_repeat else state.attempt
                values = asdict(report.metrics)
                record = EpochRecord(**values, sweep=self._spec.name, trial_id=trial_id, attempt=attempt)
                self._writer.add_epoch(record, report.is_repeat)
            self._writer.add_predictions(report.predictions, report.labels, report.is_repeat)

    def finish(self, trial_id: str, status: TrialStatus | None = None, error: str | None = None) -> TrialRecord | None:
        """Write a trial's row. Status and error come from its last report unless they are given."""
        with self.lock:
            state = self.states[trial_id]
            if status is None:
                if state.report is not None and state.report.status is not None:
                    status, error = state.report.status, state.report.error
                else:
                    status = TrialStatus.STOPPED if state.was_stopped else TrialStatus.INTERRUPTED
            if not self.is_closed:
                state.record = self._record(state, status, error)
                self._writer.add_trial(state.record, state.planned.config)
            return state.record

    def close(self) -> list[TrialState]:
        """Write the rows of all trials that have none as interrupted; returns these trials."""
        with self.lock:
            unfinished = [state for state in self.states.values() if state.record is None]
            for state in unfinished:
                self.finish(state.trial_id, TrialStatus.INTERRUPTED)
            self.is_closed = True
        return unfinished

    def _is_judged(self, trial: PlannedTrial) -> bool:
        return trial.stage == "screen" and trial.config.seed == self._spec.seeds[0]

    def _decide(self, trial: PlannedTrial, epoch: int, value: float | None) -> Verdict | None:
        """The verdict on an epoch, none on the last one; written the first time."""
        if epoch >= trial.config.epochs or value is None:  # the epoch is older than the metric
            return None
        trial_id = trial.config.trial_id
        verdict = self._rule(trial).judge(trial_id, epoch, self._spec.metric.score(value))
        if verdict is not None and (trial_id, epoch) not in self._decided:
            self._decided.add((trial_id, epoch))
            self._writer.add_decision(
                Decision(
                    sweep=self._spec.name,
                    trial_id=trial_id,
                    epoch=epoch,
                    rung=verdict.rung,
                    value=value,
                    cutoff=None if verdict.cutoff is None else self._spec.metric.score(verdict.cutoff),
                    action="stop" if verdict.stop else "continue",
                    ladder=self._ladder(trial),
                )
            )
        return verdict

    def _rule(self, trial: PlannedTrial) -> StoppingRule:
        ladder = self._ladder(trial)
        if ladder not in self._rules:
            self._rules[ladder] = make_rule(self._spec.early_terminate, trial.config.epochs)
        return self._rules[ladder]

    def _ladder(self, trial: PlannedTrial) -> str:
        metric, level = self._spec.metric.name, level_of(self._spec, trial.varied)
        ladder = f"{self._spec.early_terminate.type}, {trial.config.epochs} epochs"
        return ladder + (f", {metric}" if metric != "val_accuracy" else "") + (f", {level}" if level else "")

    def _record(self, state: TrialState, status: TrialStatus, error: str | None) -> TrialRecord:
        config, facts = state.planned.config, state.facts
        history = [state.history[epoch] for epoch in sorted(state.history)]
        known = [m for m in history if m.val_accuracy is not None and math.isfinite(m.val_accuracy)]
        best = max(known, key=lambda m: m.val_accuracy, default=None)
        last = history[-1] if history else None
        versions = replace(self._versions, torch=facts.torch_version, python=facts.python_version)
        return TrialRecord(
            sweep=self._spec.name,
            trial_id=state.trial_id,
            config_id=config.config_id,
            seed=config.seed,
            stage=state.planned.stage,
            profile=self._spec.profile,
            status=status,
            error=error,
            attempt=state.attempt,
            num_parameters=state.planned.num_parameters,
            best_val_accuracy=best.val_accuracy if best else None,
            best_epoch=best.epoch if best else None,
            last_val_accuracy=last.val_accuracy if last else None,
            test_accuracy=last.test_accuracy if last else None,
            metrics=last.metrics if last else None,
            epochs_run=last.epoch if last else 0,
            train_seconds=sum(metrics.epoch_seconds for metrics in history),
            images_per_second=statistics.median(m.images_per_second for m in history) if history else None,
            peak_memory_bytes=facts.peak_memory_bytes,
            device=facts.device,
            precision_used=facts.precision_used,
            compile_used=facts.compile_used,
            execution=facts.execution,
            hostname=facts.hostname,
            node_ip=state.node_ip,
            started_at=state.started_at,
            finished_at=datetime.now(UTC),
            versions=versions,
            git_commit=self._git_commit,
        )


def _key(decision: Decision) -> tuple[str, int, str, str]:
    return decision.trial_id, decision.epoch, decision.ladder, decision.action


class Display(Protocol):
    """What shows the progress of a run."""

    def update(self, state: TrialState) -> None:
        """A trial has started, reported or ended."""

    def message(self, text: str) -> None:
        """Something that the user should know."""
