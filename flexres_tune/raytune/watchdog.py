"""Watchdog: kills the process of a trial that has not reported for too long."""

from __future__ import annotations

import ray
from ray.tune.experiment import Trial

from flexres_tune.sweep.journal import Journal

POLL_PERIOD_S = 0.5
START_S = 60.0  # more until the first report: a process starts, imports torch, decodes data and compiles the model


class Watchdog:
    """Enforces --trial-timeout. It kills the process, because a trial that hangs in C cannot react to anything else."""

    def __init__(self, journal: Journal, timeout_s: float | None):
        """`timeout_s` is the most time between two reports; START_S more before the first. None: no limit."""
        self._journal = journal
        self._timeout_s = timeout_s
        self._checked_at = 0.0
        self.ended: dict[str, str] = {}  # trial_id -> error message

    def check(self, trials: list[Trial], now: float) -> None:
        """Kill trials that hang. Tune sees a process that died, and does not retry it."""
        if self._timeout_s is None or now - self._checked_at < POLL_PERIOD_S:
            return
        self._checked_at = now
        for trial in trials:
            if trial.status != Trial.RUNNING:
                continue
            trial_id = trial.config["trial_id"]
            state = self._journal.states.get(trial_id)
            if state is None or state.record is not None or trial_id in self.ended:
                continue
            has_started = state.report is not None
            if now - state.reported_at < self._timeout_s + (0 if has_started else START_S):
                continue
            when = f"after epoch {max(state.history, default=0)}" if has_started else f"and {START_S:g} s to start"
            self.ended[trial_id] = (
                f"TimeoutError: no report for {self._timeout_s:g} s (--trial-timeout) {when}; its process was killed. "
                "If an epoch takes longer than that, use a larger --trial-timeout"
            )
            trial.max_failures = 0  # a retry would hang again
            actor = trial.temporary_state.ray_actor
            if actor is not None:
                ray.kill(actor)
