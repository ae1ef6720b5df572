"""Fail fast: if the first trials of a run all end with the same error, no further trial starts."""

from __future__ import annotations

import re

from flexres_tune.records import TrialStatus
from flexres_tune.sweep.journal import TrialState
from flexres_tune.text import last_line

NUM_SAME_ERRORS = 5
_VARIES = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{8,}(?:-\d+)?\b|[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?", re.IGNORECASE)


class FailFast:
    """Watches the trials of one run until `error` is set, or until a trial shows that the sweep can work.

    Only trials that end as `failed` count: one that diverges or runs out of memory says something about its
    configuration only. A trial that runs and has trained for more epochs than each of those that failed shows that the
    error does not concern all of them, so it postpones the end: with 64 slots, five bad configurations may be the
    first to end.
    """

    def __init__(self) -> None:
        self.error: str | None = None  # last line of the error that ended the run
        self._can_work = False  # a trial has ended without failing
        self._failed: dict[str, str] = {}  # trial_id -> its error without what varies
        self._epochs: dict[str, int] = {}  # trial_id -> epochs that it has reported, while it runs
        self._most_epochs = 0  # of a trial that failed

    def update(self, state: TrialState) -> None:
        """A trial has started, finished an epoch, or ended."""
        if self._can_work or self.error is not None:
            return
        if state.record is None:
            self._epochs[state.trial_id] = len(state.history)
            return
        self._epochs.pop(state.trial_id, None)
        if state.record.status == TrialStatus.FAILED:
            line = last_line(state.record.error, "unknown error")
            self._failed[state.trial_id] = without_what_varies(line, state.trial_id)
            self._most_epochs = max(self._most_epochs, len(state.history))
            self._can_work = len(set(self._failed.values())) > 1
            if len(self._failed) >= NUM_SAME_ERRORS and not self._can_work and not self._one_gets_further():
                self.error = line
        elif state.record.status != TrialStatus.INTERRUPTED:
            self._can_work = True

    def message(self, command: str) -> str:
        """What happened, and the command that continues."""
        return (
            f"the first {len(self._failed)} trials ended with the same error, so no further trial starts:\n{self.error}\n"
            f"mend its cause; to continue: {command}"
        )

    def _one_gets_further(self) -> bool:
        return any(epochs > self._most_epochs for epochs in self._epochs.values())


def without_what_varies(line: str, trial_id: str) -> str:
    """The line with `#` for the trial's id, hashes, addresses and numbers, so that two trials can be compared."""
    return _VARIES.sub("#", line.replace(trial_id, "#"))
