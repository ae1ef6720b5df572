"""What the driver knows of each trial, judged and written to the tables as it comes in; without ray."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Protocol

import pyarrow as pa

from flexres_tune.records import Decision, EpochMetrics, EpochRecord, TrialRecord, TrialStatus, Versions
from flexres_tune.results.writer import SweepWriter
from flexres_tune.search.early_stopping import STOPPING_RULES, StoppingRule, Verdict
from flexres_tune.spec import PlannedTrial, SweepSpec
from flexres_tune.sweep.worker import TrialFacts, TrialReport


@dataclass
class TrialState:
    """One trial of this session, from its start to its row."""

    planned: PlannedTrial
    attempt: int
    started_at: datetime
    node_ip: str | None = None
    facts: TrialFacts = field(default_factory=TrialFacts)
    history: dict[int, EpochMetrics] = field(default_factory=dict)
    report: TrialReport | None = None  # the last one
    was_stopped: bool = False
    heard_at: float = field(default_factory=time.monotonic)  # of the start or the last report
    record: TrialRecord | None = None  # set once the row is written

    @property
    def trial_id(self) -> str:
        return self.planned.config.trial_id


class Journal:
    """Judges reports by one stopping rule per number of epochs, and writes epochs, decisions and trials.

    Trials with different budgets are never compared at the same rung. Confirmed trials are not judged at all.
    Ray's thread tells it what happens, under `lock`; once closed it takes in nothing more.
    """

    def __init__(self, spec: SweepSpec, writer: SweepWriter, versions: Versions, git_commit: str | None):
        self._spec = spec
        self._writer = writer
        self._versions = versions
        self._git_commit = git_commit
        self._rules: dict[int, StoppingRule] = {}
        self._decided: set[tuple[str, int]] = set()
        self.states: dict[str, TrialState] = {}
        self.lock = threading.RLock()
        self.is_closed = False

    def replay(self, epochs: pa.Table, budgets: Mapping[str, int], decisions: Iterable[Mapping[str, Any]] = ()) -> None:
        """Rebuild the rules from the tables, so that the same decisions follow as if nothing had been interrupted.

        A decision that was taken stays taken: what it was compared with stands in no other table, because an epoch
        that was computed again has moved to the end of `epochs`. Where the driver was killed between the two tables,
        the decision is taken again, and written.

        Args:
            epochs: trial_id, epoch and the metric's column, in the order written.
            budgets: number of epochs of each trial of the sweep as it is now; other trials' rows are passed over, for
                nothing of another base or data set belongs on the same ladder.
            decisions: rows of `decisions`; those of another metric or rule are passed over.
        """
        name = self._spec.metric.name
        for row in decisions:
            trial_id, epoch = row["trial_id"], row["epoch"]
            if trial_id in budgets and row["ladder"] == self._ladder(budgets[trial_id]):
                cutoff = None if row["cutoff"] is None else self._spec.metric.score(row["cutoff"])
                self._rule(budgets[trial_id]).remember(
                    trial_id, epoch, Verdict(row["rung"], cutoff, row["action"] == "stop")
                )
                self._decided.add((trial_id, epoch))
        if not budgets or not epochs.num_rows:  # an empty prefix on object storage has no tables, and so no columns
            return
        for trial_id, epoch, value in zip(*(epochs[c].to_pylist() for c in ("trial_id", "epoch", name)), strict=True):
            if trial_id in budgets and epoch is not None and value is not None:
                self._decide(trial_id, budgets[trial_id], epoch, value)

    def start(self, planned: PlannedTrial, attempt: int, node_ip: str | None = None) -> TrialState:
        """A trial begins, or begins again after its process died."""
        state = TrialState(planned, attempt, datetime.now(UTC), node_ip)
        if not self.is_closed:
            self.states[state.trial_id] = state
            if self._spec.method == "tpe":
                # drawn as the sweep goes: if the driver is killed, nothing but this row knows what the trial was
                self._writer.add_trial(self._record(state, TrialStatus.INTERRUPTED, None), planned.config)
        return state

    def should_stop(self, trial_id: str, report: TrialReport) -> bool:
        """Judge one report; a decision that is new goes to `decisions`."""
        state, metrics = self.states[trial_id], report.metrics
        if self.is_closed or metrics is None or report.status is not None or state.planned.stage != "screen":
            return False
        value = getattr(metrics, self._spec.metric.name)
        verdict = self._decide(trial_id, state.planned.config.epochs, metrics.epoch, value)
        state.was_stopped = verdict is not None and verdict.stop
        return state.was_stopped

    def add(self, trial_id: str, report: TrialReport) -> None:
        """Take in one report of a running trial."""
        if self.is_closed:
            return
        state = self.states[trial_id]
        state.facts, state.report, state.heard_at = report.facts, report, time.monotonic()
        if report.metrics is not None:
            state.history[report.metrics.epoch] = report.metrics
            attempt = max(1, state.attempt - 1) if report.is_repeat else state.attempt
            record = EpochRecord(**asdict(report.metrics), sweep=self._spec.name, trial_id=trial_id, attempt=attempt)
            self._writer.add_epoch(record, report.is_repeat)

    def finish(self, trial_id: str, status: TrialStatus | None = None, error: str | None = None) -> TrialRecord | None:
        """Write a trial's row. Status and error come from its last report unless given here."""
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
        """Write the rows of all trials that were started and have none yet; from now on take in nothing."""
        with self.lock:
            unfinished = [state for state in self.states.values() if state.record is None]
            for state in unfinished:
                self.finish(state.trial_id, TrialStatus.INTERRUPTED)
            self.is_closed = True
        return unfinished

    def _decide(self, trial_id: str, epochs: int, epoch: int, value: float) -> Verdict | None:
        """The verdict on an epoch before the last; written the first time."""
        if epoch >= epochs:
            return None
        verdict = self._rule(epochs).judge(trial_id, epoch, self._spec.metric.score(value))
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
                    ladder=self._ladder(epochs),
                )
            )
        return verdict

    def _rule(self, epochs: int) -> StoppingRule:
        if epochs not in self._rules:
            self._rules[epochs] = STOPPING_RULES[self._spec.early_terminate.type](self._spec.early_terminate, epochs)
        return self._rules[epochs]

    def _ladder(self, epochs: int) -> str:
        metric = self._spec.metric.name
        ladder = f"{self._spec.early_terminate.type}, {epochs} epochs"
        return ladder if metric == "val_accuracy" else f"{ladder}, {metric}"

    def _record(self, state: TrialState, status: TrialStatus, error: str | None) -> TrialRecord:
        config, facts = state.planned.config, state.facts
        history = [state.history[epoch] for epoch in sorted(state.history)]
        best = max((m for m in history if math.isfinite(m.val_accuracy)), key=lambda m: m.val_accuracy, default=None)
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


class Display(Protocol):
    """Hears of every change to a trial, and what else a person should know."""

    def update(self, state: TrialState) -> None: ...

    def message(self, text: str) -> None: ...
