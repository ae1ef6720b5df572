"""Live progress of a sweep: a bar and lines on a terminal, only lines in a file. No ray."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from flexres_tune.display.terminal import escape_for_console
from flexres_tune.records import TrialStatus
from flexres_tune.sweep.journal import TrialState
from flexres_tune.text import format_duration, shorten

STYLES = {
    TrialStatus.COMPLETED: "green",
    TrialStatus.STOPPED: "yellow",
    TrialStatus.PAUSED: "cyan",
    TrialStatus.INTERRUPTED: "yellow",
    TrialStatus.DIVERGED: "red",
    TrialStatus.OUT_OF_MEMORY: "red",
    TrialStatus.FAILED: "bold red",
}


class SweepProgress:
    """Progress over the epochs of all trials, so that the bar moves before a long trial ends.

    A stopped trial's remaining epochs count as done. Time left = elapsed time * epochs left / epochs done.
    """

    def __init__(self, console: Console, num_trials: int, num_epochs: int):
        self._console = console
        self._num_trials, self._num_epochs = num_trials, max(num_epochs, 1)
        self._done_epochs: dict[str, int] = {}
        self._num_done = 0  # sum of the above, maintained: adding up thousands of trials at every epoch is slow
        self._finished: set[str] = set()
        self._paused: set[str] = set()
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
        """Print one line above the bar."""
        self._console.print(escape_for_console(text), highlight=False, soft_wrap=True)

    def update(self, state: TrialState) -> None:
        """A trial has started, finished an epoch, or ended."""
        trial_id, epochs = state.trial_id, state.planned.config.epochs
        if state.history:
            self._count(trial_id, max(state.history))
            accuracy = max(metrics.val_accuracy for metrics in state.history.values())
            if self._best is None or accuracy > self._best[0]:
                self._best = (accuracy, describe(state))
        if state.record is None:
            self._paused.discard(trial_id)
        elif state.record.status == TrialStatus.PAUSED:
            self._paused.add(trial_id)
            self._print_finished(state)
        elif trial_id not in self._finished:
            self._finished.add(trial_id)
            if state.record.status != TrialStatus.INTERRUPTED:
                self._count(trial_id, epochs)
            self._print_finished(state)
        self._bar.update(self._task, completed=self._num_done, text=escape_for_console(self._text()))

    def _count(self, trial_id: str, num_epochs: int) -> None:
        before = self._done_epochs.get(trial_id, 0)
        self._done_epochs[trial_id] = max(before, num_epochs)  # a trial that resumes reports its history again
        self._num_done += self._done_epochs[trial_id] - before

    def _num_ended(self) -> int:
        """Trials that have ended or are paused now."""
        return len(self._finished | self._paused)

    def _text(self) -> str:
        parts = [f"{self._num_ended()}/{self._num_trials} trials"]
        if self._num_done:
            elapsed = time.monotonic() - self._started_at
            left = elapsed * (self._num_epochs - self._num_done) / self._num_done
            parts.append(f"{format_duration(left)} left")
        if self._best:
            parts.append(f"best {self._best[0]:.2%} ({self._best[1]})")
        return " · ".join(parts)

    def _print_finished(self, state: TrialState) -> None:
        record = state.record
        accuracy = "" if record.best_val_accuracy is None else f"val {record.best_val_accuracy:7.2%}"
        width = len(str(self._num_trials))
        line = (
            f"{self._num_ended():>{width}}/{self._num_trials}  {record.status:<11}  {accuracy:<12}  "
            f"{record.epochs_run:>3}/{state.planned.config.epochs} epochs  {format_duration(record.train_seconds):>7}  "
            f"{describe(state)}"
        )
        style = STYLES[TrialStatus(record.status)]
        self._console.print(f"[{style}]{escape_for_console(line)}[/]", highlight=False, soft_wrap=True)
        if record.error and record.status != TrialStatus.INTERRUPTED:
            last = record.error.strip().splitlines()[-1]
            self._console.print(f"    {escape_for_console(last[:300])}", style="red", highlight=False, soft_wrap=True)


def describe(state: TrialState) -> str:
    """What distinguishes this trial from the others: `optimizer=sgd lr=0.1 seed=0`."""
    varied = [f"{key}={shorten(str(value), 36)}" for key, value in state.planned.varied.items()]
    return " ".join([*varied, f"seed={state.planned.config.seed}"])
