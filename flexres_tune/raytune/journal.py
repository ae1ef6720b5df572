"""What the driver knows of each trial, judged and written to the tables as it comes in; without ray."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from flexres_tune.raytune.job import TrialFacts, TrialReport
from flexres_tune.raytune.stopping import RULES, StoppingRule, Verdict
from flexres_tune.records import Decision, EpochMetrics, EpochRecord, TrialRecord, TrialStatus, Versions
from flexres_tune.results.writer import SweepWriter
from flexres_tune.spec import PlannedTrial, SweepSpec


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
    record: TrialRecord | None = None  # set once the row is written

    @property
    def trial_id(self) -> str:
        return self.planned.config.trial_id


class Journal:
    """Judges reports by one stopping rule per number of epochs, and writes epochs, decisions and trials.

    Trials with different budgets are never compared at the same rung. Confirmed trials are not judged at all.
    """

    def __init__(self, spec: SweepSpec, writer: SweepWriter, versions: Versions, git_commit: str | None):
        self._spec = spec
        self._writer = writer
        self._versions = versions
        self._git_commit = git_commit
        self._rules: dict[int, StoppingRule] = {}
        self._decided: set[tuple[str, int]] = set()
        self.states: dict[str, TrialState] = {}

    def replay(self, epochs: Iterable[Mapping[str, Any]], budgets: Mapping[str, int]) -> None:
        """Rebuild the rules from rows of `epochs`, in the order in which they were written.

        Args:
            epochs: mappings with trial_id, epoch and the metric's column.
            budgets: each trial's number of epochs; rows of other trials are passed over.
        """
        name = self._spec.metric.name
        for row in epochs:
            if row["trial_id"] in budgets:
                self._judge(row["trial_id"], budgets[row["trial_id"]], row["epoch"], row[name])
                self._decided.add((row["trial_id"], row["epoch"]))

    def start(self, planned: PlannedTrial, attempt: int, node_ip: str | None = None) -> TrialState:
        """A trial begins, or begins again after its process died."""
        state = TrialState(planned, attempt, datetime.now(UTC), node_ip)
        self.states[state.trial_id] = state
        return state

    def should_stop(self, trial_id: str, report: TrialReport) -> bool:
        """Judge one report; a decision that is new goes to `decisions`."""
        state, metrics = self.states[trial_id], report.metrics
        config = state.planned.config
        if metrics is None or report.status is not None or state.planned.stage != "screen":
            return False
        value = getattr(metrics, self._spec.metric.name)
        verdict = self._judge(trial_id, config.epochs, metrics.epoch, value)
        if verdict is None:
            return False
        if (trial_id, metrics.epoch) not in self._decided:
            self._decided.add((trial_id, metrics.epoch))
            self._writer.add_decision(
                Decision(
                    sweep=self._spec.name,
                    trial_id=trial_id,
                    epoch=metrics.epoch,
                    rung=verdict.rung,
                    value=value,
                    cutoff=None if verdict.cutoff is None else self._spec.metric.score(verdict.cutoff),
                    action="stop" if verdict.stop else "continue",
                    ladder=f"{self._spec.early_terminate.type}, {config.epochs} epochs",
                )
            )
        state.was_stopped = verdict.stop
        return verdict.stop

    def add(self, trial_id: str, report: TrialReport) -> None:
        """Take in one report of a running trial."""
        state = self.states[trial_id]
        state.facts, state.report = report.facts, report
        if report.metrics is not None:
            state.history[report.metrics.epoch] = report.metrics
            self._writer.add_epoch(
                EpochRecord(**asdict(report.metrics), sweep=self._spec.name, trial_id=trial_id, attempt=state.attempt)
            )

    def finish(self, trial_id: str, status: TrialStatus | None = None, error: str | None = None) -> TrialRecord:
        """Write a trial's row. Status and error come from its last report unless given here."""
        state = self.states[trial_id]
        if status is None:
            if state.report is not None and state.report.status is not None:
                status, error = state.report.status, state.report.error
            else:
                status = TrialStatus.STOPPED if state.was_stopped else TrialStatus.INTERRUPTED
        state.record = self._record(state, status, error)
        self._writer.add_trial(state.record, state.planned.config)
        return state.record

    def finish_interrupted(self) -> list[TrialState]:
        """Write the rows of all trials that were started and have none yet."""
        unfinished = [state for state in self.states.values() if state.record is None]
        for state in unfinished:
            self.finish(state.trial_id, TrialStatus.INTERRUPTED)
        return unfinished

    def _judge(self, trial_id: str, epochs: int, epoch: int, value: float) -> Verdict | None:
        if epoch >= epochs:
            return None
        if epochs not in self._rules:
            self._rules[epochs] = RULES[self._spec.early_terminate.type](self._spec.early_terminate, epochs)
        return self._rules[epochs].judge(trial_id, epoch, self._spec.metric.score(value))

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
