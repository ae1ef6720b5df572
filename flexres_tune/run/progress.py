"""Live progress of a sweep: a bar over trials on a terminal, plain lines elsewhere; without ray."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from flexres_tune.display.terminal import escape_for_console
from flexres_tune.records import TrialStatus
from flexres_tune.sweep.journal import TrialState

STYLES = {
    TrialStatus.COMPLETED: "green",
    TrialStatus.STOPPED: "yellow",
    TrialStatus.INTERRUPTED: "yellow",
    TrialStatus.DIVERGED: "red",
    TrialStatus.OUT_OF_MEMORY: "red",
    TrialStatus.FAILED: "bold red",
}


class SweepProgress:
    """Progress over the epochs of all trials, so that a long trial moves the bar before it ends.

    A stopped trial's remaining epochs count as done. The time left is elapsed time over the share done.
    """

    def __init__(self, console: Console, num_trials: int, num_epochs: int):
        self._console = console
        self._num_trials, self._num_epochs = num_trials, max(num_epochs, 1)
        self._num_finished = 0
        self._done_epochs: dict[str, int] = {}
        self._num_done = 0  # their sum, kept: to add up thousands of trials at every epoch would be felt
        self._finished: set[str] = set()
        self._best: tuple[float, str] | None = None
        self._started_at = time.monotonic()
        self._bar = Progress(
            BarColumn(bar_width=24),
            TextColumn("{task.fields[text]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("", total=self._num_epochs, text="starting Ray and the trial processes")

    def __enter__(self) -> SweepProgress:
        self._bar.start()
        return self

    def __exit__(self, *exc_info) -> None:
        self._bar.stop()

    def message(self, text: str) -> None:
        """One line above the bar."""
        self._console.print(escape_for_console(text), highlight=False, soft_wrap=True)

    def update(self, state: TrialState) -> None:
        """A trial has started, finished an epoch, or ended."""
        trial_id, epochs = state.trial_id, state.planned.config.epochs
        if state.history:
            self._count(trial_id, max(state.history))
            accuracy = max(metrics.val_accuracy for metrics in state.history.values())
            if self._best is None or accuracy > self._best[0]:
                self._best = (accuracy, describe(state))
        if state.record is not None and trial_id not in self._finished:
            self._finished.add(trial_id)
            self._num_finished += 1
            if state.record.status != TrialStatus.INTERRUPTED:
                self._count(trial_id, epochs)
            self._print_finished(state)
        self._bar.update(self._task, completed=self._num_done, text=escape_for_console(self._text()))

    def _count(self, trial_id: str, num_epochs: int) -> None:
        self._num_done += num_epochs - self._done_epochs.get(trial_id, 0)
        self._done_epochs[trial_id] = num_epochs

    def _text(self) -> str:
        parts = [f"{self._num_finished}/{self._num_trials} trials"]
        if self._num_done:
            elapsed = time.monotonic() - self._started_at
            left = elapsed * (self._num_epochs - self._num_done) / self._num_done
            parts.append(f"{duration(left)} left")
        if self._best:
            parts.append(f"best {self._best[0]:.2%} ({self._best[1]})")
        return " · ".join(parts)

    def _print_finished(self, state: TrialState) -> None:
        record = state.record
        accuracy = "" if record.best_val_accuracy is None else f"val {record.best_val_accuracy:7.2%}"
        width = len(str(self._num_trials))
        line = (
            f"{self._num_finished:>{width}}/{self._num_trials}  {record.status:<11}  {accuracy:<12}  "
            f"{record.epochs_run:>3}/{state.planned.config.epochs} epochs  {duration(record.train_seconds):>7}  "
            f"{describe(state)}"
        )
        style = STYLES[TrialStatus(record.status)]
        self._console.print(f"[{style}]{escape_for_console(line)}[/]", highlight=False, soft_wrap=True)
        if record.error and record.status != TrialStatus.INTERRUPTED:
            last = record.error.strip().splitlines()[-1]
            self._console.print(f"    {escape_for_console(last[:300])}", style="red", highlight=False, soft_wrap=True)


def describe(state: TrialState) -> str:
    """What tells this trial from the others: `optimizer=sgd lr=0.1 seed=0`."""
    varied = [f"{key}={_short(value)}" for key, value in state.planned.varied.items()]
    return " ".join([*varied, f"seed={state.planned.config.seed}"])


def duration(seconds: float) -> str:
    """`48 s`, `3 min 20 s`, `2 h 05 min`; a decimal below 10 s."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def _short(value) -> str:
    text = str(value)
    return text if len(text) <= 40 else f"{text[:20]}…{text[-15:]}"
