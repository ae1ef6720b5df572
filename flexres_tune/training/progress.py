"""Progress of one trial: a bar over its steps with time left, a line an epoch; only the lines where no terminal is."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flexres_tune.records import EpochMetrics


class TrialProgress:
    """Told of each step and each epoch; a context, in which the bar is shown.

    An epoch without steps of its own comes from a checkpoint: it moves the bar and leaves the estimate of time alone.
    """

    def __init__(self, num_epochs: int, num_steps_per_epoch: int, console: Console | None = None):
        self._num_epochs = num_epochs
        self._num_steps = num_steps_per_epoch
        self._num_steps_seen = 0
        self._console = console or Console(highlight=False)
        columns = (BarColumn(), TaskProgressColumn(), TextColumn("{task.description}"))
        times = (TimeElapsedColumn(), TextColumn("elapsed,"), TimeRemainingColumn(compact=True), TextColumn("left"))
        self._bar = Progress(*columns, *times, console=self._console, disable=not self._console.is_terminal)
        self._task = self._bar.add_task("", total=num_epochs * num_steps_per_epoch)

    def __enter__(self) -> TrialProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def step(self) -> None:
        """A training step is about to start."""
        self._num_steps_seen += 1
        self._bar.advance(self._task)

    def epoch(self, metrics: EpochMetrics) -> None:
        """An epoch has ended."""
        stored = self._num_steps_seen == 0
        self._num_steps_seen = 0
        if stored:
            self._bar.reset(self._task, completed=metrics.epoch * self._num_steps)
        width = len(str(self._num_epochs))
        self._console.print(
            f"epoch {metrics.epoch:>{width}}/{self._num_epochs}  "
            f"train loss {metrics.train_loss:.4f}, accuracy {metrics.train_accuracy:.2%}  "
            f"validation loss {metrics.val_loss:.4f}, accuracy {metrics.val_accuracy:.2%}  "
            f"lr {metrics.lr:.2e}  {metrics.epoch_seconds:.1f} s" + ("  (from the checkpoint)" if stored else ""),
            soft_wrap=True,
        )
