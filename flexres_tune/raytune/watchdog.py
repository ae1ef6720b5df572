"""Watchdog: a trial that has reported nothing for too long is ended, with its process."""

from __future__ import annotations

import time

import ray
from ray.tune.experiment import Trial

from flexres_tune.sweep.journal import Journal

POLL_PERIOD_S = 0.5


class Watchdog:
    """Kills the process of a trial that hangs, in Python or in C: it may not be able to hear anything else."""

    def __init__(self, journal: Journal, timeout_s: float | None):
        """Args:
        timeout_s: seconds between two reports, and before the first; None for any number.
        """
        self._journal = journal
        self._timeout_s = timeout_s
        self._looked_at = 0.0
        self.ended: dict[str, str] = {}  # trial_id -> why

    def look(self, trials: list[Trial], now: float) -> None:
        """End what hangs; its failure comes back as any other process's death, but is not retried."""
        if self._timeout_s is None or now - self._looked_at < POLL_PERIOD_S:
            return
        self._looked_at = now
        for trial in trials:
            if trial.status != Trial.RUNNING:
                continue
            trial_id = trial.config["trial_id"]
            state = self._journal.states.get(trial_id)
            if state is None or trial_id in self.ended or time.monotonic() - state.heard_at < self._timeout_s:
                continue
            last = max(state.history, default=0)
            self.ended[trial_id] = (
                f"TimeoutError: no report for {self._timeout_s:g} s (--trial-timeout) after epoch {last}; its process "
                "was ended. Where an epoch takes longer than that, give a longer --trial-timeout"
            )
            trial.max_failures = 0  # it would hang again
            actor = trial.temporary_state.ray_actor
            if actor is not None:
                ray.kill(actor)
