"""Live progress of a sweep: running trials and a bar on a terminal, only lines in a file. No ray."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from flexres_tune.display.format import format_value
from flexres_tune.display.notebook import NotebookLive, shows_in_notebook
from flexres_tune.display.terminal import UNLIMITED_WIDTH, escape_for_console
from flexres_tune.records import TrialRecord, TrialStatus
from flexres_tune.search.base import History
from flexres_tune.spec import Metric, PlannedTrial
from flexres_tune.spec.metrics import is_shown_in_percent
from flexres_tune.sweep.journal import TrialState
from flexres_tune.text import escape, format_duration, last_line, shorten

MAX_RUNNING_LINES = 8  # running trials that are shown; on a cluster there may be hundreds
SAY_AFTER_S = 3.0  # a wait that takes longer says what it is, also in a file
REFRESH_PER_S = 4

STYLES = {
    TrialStatus.COMPLETED: "green",
    TrialStatus.STOPPED: "yellow",
    TrialStatus.PAUSED: "cyan",
    TrialStatus.INTERRUPTED: "yellow",
    TrialStatus.DIVERGED: "red",
    TrialStatus.OUT_OF_MEMORY: "red",
    TrialStatus.FAILED: "bold red",
}


@dataclass(frozen=True)
class Best:
    """The best value of the metric so far, and the trial that reached it."""

    score: float  # higher is better
    trial: str


class SweepProgress:
    """Progress over the epochs of all trials, so that the bar moves before a long trial ends.

    A stopped trial's remaining epochs count as done. Time left = epochs left / epochs per second, counted since the first
    report: before it, Ray and the trials' processes start, and trials that resume repeat what they have.

    Args:
        title: the stage, such as `optim: confirm`.
        best: of earlier runs of the command.
    """

    def __init__(
        self,
        console: Console,
        num_trials: int,
        num_epochs: int,
        title: str = "",
        metric: Metric | None = None,
        best: Best | None = None,
    ):
        self._console, self._title, self._metric = console, title, metric or Metric()
        self._num_trials, self._num_epochs = num_trials, max(num_epochs, 1)
        self._done_epochs: dict[str, int] = {}
        self._num_done = 0  # sum of the above, maintained: adding up thousands of trials at every epoch is slow
        self._finished: set[str] = set()
        self._paused: set[str] = set()
        self._running: dict[str, TrialState] = {}
        self._best = best
        self._started_at = time.monotonic()
        self._counted_from: tuple[float, int] | None = None  # (time, epochs done) from which the speed is counted
        self._live: Live | NotebookLive | None = None
        if console.is_terminal:
            self._live = Live(
                get_renderable=self._render,
                console=console,
                transient=True,
                refresh_per_second=REFRESH_PER_S,
                redirect_stdout=False,
                redirect_stderr=False,
            )
        elif shows_in_notebook(console):
            self._live = NotebookLive(self._render)

    def __enter__(self) -> SweepProgress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc_info) -> None:
        if self._live is not None:
            self._live.stop()

    def message(self, text: str) -> None:
        """Print one line above the bar."""
        self._console.print(escape_for_console(text), highlight=False, soft_wrap=True)

    def update(self, state: TrialState) -> None:
        """A trial has started, finished an epoch, or ended."""
        trial_id, epochs = state.trial_id, state.planned.config.epochs
        if state.history:
            self._count(trial_id, max(state.history))
            if self._counted_from is None or (state.report is not None and state.report.is_repeat):
                self._counted_from = time.monotonic(), self._num_done
            score = state.score(self._metric)
            if score is not None and (self._best is None or score > self._best.score):
                self._best = Best(score, describe(state.planned))
        if state.record is None:
            self._paused.discard(trial_id)
            self._running[trial_id] = state
            return
        self._running.pop(trial_id, None)
        if state.record.status == TrialStatus.PAUSED:
            self._paused.add(trial_id)
            self._print_finished(state)
        elif trial_id not in self._finished:
            self._finished.add(trial_id)
            if state.record.status != TrialStatus.INTERRUPTED:
                self._count(trial_id, epochs)
            self._print_finished(state)

    def _count(self, trial_id: str, num_epochs: int) -> None:
        before = self._done_epochs.get(trial_id, 0)
        self._done_epochs[trial_id] = max(before, num_epochs)  # a trial that resumes reports its history again
        self._num_done += self._done_epochs[trial_id] - before

    def _num_ended(self) -> int:
        """Trials that have ended or are paused now."""
        return len(self._finished | self._paused)

    def _render(self) -> RenderableType:
        """A line per running trial, and below them the bar with the sweep's figures, at most as wide as the terminal."""
        running = list(self._running.values())  # a copy: Tune's thread changes it
        lines: list[RenderableType] = [self._running_line(state) for state in running[:MAX_RUNNING_LINES]]
        if len(running) > MAX_RUNNING_LINES:
            lines.append(Text(f"  and {len(running) - MAX_RUNNING_LINES} more running trials", style="dim"))
        bar = Table.grid(padding=(0, 1))
        bar.add_column(width=min(16, self._console.width // 6))
        bar.add_column(no_wrap=True, overflow="ellipsis")
        figures = Text(self._figures(), no_wrap=True, overflow="ellipsis")
        bar.add_row(ProgressBar(total=self._num_epochs, completed=self._num_done), figures)
        lines.append(bar)
        if self._best is not None:
            best = f"best {self._show(self._best.score)} ({escape(self._best.trial)})"
            lines.append(Text(best, no_wrap=True, overflow="ellipsis"))
        return Group(*lines)

    def _running_line(self, state: TrialState) -> Text:
        """`  epoch 3/20  val  81.20%  1,234 images/s  lr=0.1 seed=0`: what may be cut stands last."""
        epochs = state.planned.config.epochs
        last = state.history[max(state.history)] if state.history else None
        if last is None:
            text = f"  starting{'':<{2 * len(str(epochs))}}  {'':<28}"
        else:
            value = last.value(self._metric.name)
            value = "none" if value is None else self._show(self._metric.score(value))
            place = f"{last.epoch:>{len(str(epochs))}}/{epochs}"
            text = f"  epoch {place}  val {value:>7}  {last.images_per_second:>7,.0f} images/s"
        return Text(f"{text}  {escape(describe(state.planned))}", style="cyan", no_wrap=True, overflow="ellipsis")

    def _figures(self) -> str:
        parts = [f"{self._num_ended()}/{self._num_trials} trials"]
        elapsed = time.monotonic() - self._started_at
        parts.append(f"{format_duration(elapsed)} elapsed")
        since, before = self._counted_from or (self._started_at, 0)
        if self._num_done > before or self._num_done >= self._num_epochs:
            seconds_per_epoch = (time.monotonic() - since) / max(1, self._num_done - before)
            parts.append(f"{format_duration(max(0, self._num_epochs - self._num_done) * seconds_per_epoch)} left")
        elif not self._running:
            parts.append("starting the trials' processes")
        return " · ".join([*([escape(self._title)] if self._title else []), *parts])

    def _show(self, score: float) -> str:
        value = self._metric.score(score)
        return f"{value:.2%}" if is_shown_in_percent(self._metric.name) else f"{value:.4g}"

    def _print_finished(self, state: TrialState) -> None:
        record = state.record
        place = f"{self._num_ended():>{len(str(self._num_trials))}}/{self._num_trials}"
        width = self._console.width if self._console.is_terminal else UNLIMITED_WIDTH
        line = finished_line(place, record, state.planned, width)
        style = STYLES[TrialStatus(record.status)]
        self._console.print(f"[{style}]{escape_for_console(line)}[/]", highlight=False, soft_wrap=True)
        if record.error and record.status != TrialStatus.INTERRUPTED:
            last = last_line(record.error)
            self._console.print(f"    {escape_for_console(last[:300])}", style="red", highlight=False, soft_wrap=True)


def finished_line(place: str, record: TrialRecord, planned: PlannedTrial, width: int) -> str:
    """`3/18  completed    val  81.20%   20/20 epochs    4.0 s  lr=0.1 seed=0`: a trial that has ended.

    If that is wider than `width`, words and the time are left out, then names are abbreviated, then the rest is left out
    that is not the trial's own: a terminal shows a trial in one line, unless its values alone need more.
    """
    accuracy = "" if record.best_val_accuracy is None else f"val {record.best_val_accuracy:7.2%}"
    epochs, name = f"{record.epochs_run:>3}/{planned.config.epochs}", escape(describe(planned))
    short_name = escape(describe(planned, _abbreviations(planned.varied)))
    forms = (
        f"{place}  {record.status:<11}  {accuracy:<12}  {epochs} epochs  {format_duration(record.train_seconds):>7}  {name}",
        f"{place} {record.status:<9} {accuracy:<11} {epochs}  {name}",
        f"{place} {record.status:<9} {accuracy:<11} {epochs}  {short_name}",
        " ".join(filter(None, (place, record.status, accuracy.removeprefix("val").strip(), short_name))),
    )
    return next((form for form in forms if cell_len(form) <= width), forms[-1])


def describe(planned: PlannedTrial, names: Mapping[str, str] | None = None) -> str:
    """What distinguishes this trial from the others: `optimizer=sgd lr=0.1 seed=0`; `names` are other ones of the keys."""
    names = names or {}
    varied = [f"{names.get(key, key)}={shorten(format_value(value), 36)}" for key, value in planned.varied.items()]
    return " ".join([*varied, f"seed={planned.config.seed}"])


def _abbreviations(keys: Iterable[str]) -> dict[str, str]:
    """optimizer -> opt, weight_decay -> wd; keys that would have the same one keep their names."""
    words = {key: re.findall(r"[^\W_]+", key) for key in keys}
    short = {key: "".join(w[0] for w in each) if len(each) > 1 else key[:3] for key, each in words.items()}
    counts = Counter(short.values())
    return {key: name for key, name in short.items() if counts[name] == 1}


def best_of(trials: Iterable[PlannedTrial], history: History) -> Best | None:
    """The best of these trials in earlier runs."""
    found = [
        Best(past.score, describe(trial))
        for trial in trials
        if (past := history.trials.get(trial.config.trial_id)) is not None and past.score is not None
    ]
    return max(found, key=lambda best: best.score, default=None)


@contextlib.contextmanager
def waiting(console: Console, text: str) -> Iterator[None]:
    """Context of a step that may take long: a terminal shows `text` meanwhile, a file says it after SAY_AFTER_S."""
    if console.is_terminal:
        with console.status(escape_for_console(f"{text} ...")):
            yield
        return
    line = escape_for_console(f"{text} ...")
    timer = threading.Timer(SAY_AFTER_S, lambda: console.print(line, soft_wrap=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
