"""Train one trial in this process, without Ray: `python -m flexres_tune.train --model tiny --dataset digits`."""

from __future__ import annotations

import signal
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from flexres_tune import cli
from flexres_tune.errors import DivergedError, FlexResError
from flexres_tune.spec.architecture import Architecture
from flexres_tune.spec.own_code.source import CodeName, read_source
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.storage import AnyPath, make_path
from flexres_tune.text import join_words, plural
from flexres_tune.trial_options import read_config, read_own_values, with_options

if TYPE_CHECKING:
    from flexres_tune.records import EpochMetrics

EPILOG = """
Examples:

  python -m flexres_tune.train --model tiny --dataset digits --epochs 5 --batch-size 32

  python -m flexres_tune.train --model resnet22_2 --optimizer adamw --lr 1e-3 --epochs 20 --checkpoint resnet22.pt

  python -m flexres_tune.train --blocks 3,3 --channels 16,32 --dataset digits --augmentation crop,rotation

  python -m flexres_tune.train --model kernel_15 --kernel-size "[[1, 5], [3, 3], [1, 5]]" --dataset parquet:images

Lists are written with commas. With --checkpoint, typing the same command again resumes an interrupted trial.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(epilog=EPILOG)
@with_options({"Trial": TrialConfig, "Model: changes to --model": Architecture})
def train(
    model: Annotated[
        str | None,
        typer.Option(help="Name of a preset, such as resnet22_2, or FILE.py:NAME. Or give --blocks and --channels."),
    ] = None,
    max_parameters: Annotated[int, typer.Option(min=1, help="Refuse a model with more parameters.")] = 5_000_000,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="FILE", help="Save to this file after each epoch, and resume from it.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N. Default: the first GPU, or else the CPU.")
    ] = None,
    num_threads: Annotated[int | None, typer.Option(min=1, help="Number of CPU threads.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="An argument of your own code: model.width=64; repeatable."),
    ] = None,
    check: Annotated[
        str | None,
        typer.Option(
            metavar="[FIELD=]FILE.py:NAME", help="Check that your own code keeps its contract; train nothing."
        ),
    ] = None,
    **fields: str | None,
) -> None:
    """Train one trial: prints a line per epoch, and at the end the accuracy on validation and test images."""
    if check is not None:
        raise typer.Exit(check_code_of_user(check, set_ or ()))
    config, num_parameters = read_config({"model": model, **fields}, max_parameters, set_ or ())
    raise typer.Exit(
        run_trial(config, num_parameters, make_path(checkpoint) if checkpoint else None, device, num_threads)
    )


def check_code_of_user(text: str, own_values: Sequence[str]) -> int:
    """`--check`: print a line per rule of the contract; returns the exit status.

    Raises:
        FlexResError: the code cannot be found or imported, or it is not known what it is for.
    """
    from flexres_tune.training.contracts import FIELDS, check_contract, guess_field

    field, equals, reference = text.rpartition("=")
    if equals and field not in FIELDS:
        raise FlexResError(f"--check: must be for {join_words(FIELDS)}, but got {field[:50]!r}")
    source = read_source(reference, field or "model", Path(), allow_any=True)
    if source is None:
        raise FlexResError(f"--check: must name code, FILE.py:NAME or PACKAGE.MODULE:NAME, but got {reference[:100]!r}")
    code = CodeName(reference, source)
    field = field or guess_field(code)
    values = {
        key.partition(".")[2]: value for key, value in read_own_values(own_values).items() if key.startswith(field)
    }
    checks = check_contract(field, code, values)
    print(f"{reference} as {field}")
    for each in checks:
        found = each.problem or each.note
        print(f"{'FAILS' if each.problem else 'ok   '} {each.rule}{f': {found}' if found else ''}")
    return cli.EXIT_FAILED if any(each.problem for each in checks) else 0


def run_trial(
    config: TrialConfig,
    num_parameters: int,
    checkpoint: AnyPath | None = None,
    device_name: str | None = None,
    num_threads: int | None = None,
) -> int:
    """Train one trial, with progress and a summary on stdout; returns the exit status.

    Raises:
        FlexResError: the device, the data or the checkpoint cannot be used.
    """
    import torch  # not above: --help and a wrong option need not wait for torch

    from flexres_tune.datasets import load_trial_data, split_sizes
    from flexres_tune.training import Checkpointer, choose_execution, device, fit
    from flexres_tune.training.epoch import batch_sizes

    if num_threads is not None:
        torch.set_num_threads(num_threads)  # sums on a CPU may differ in the last digit between counts
    checkpointer = Checkpointer(checkpoint)
    execution = choose_execution(config, device.pick_device(device_name), checkpointer.precision(config.trial_id))
    data = load_trial_data(config, execution.device)
    num_images = len(data.train.labels)
    print(
        f"{config.model.name}, {num_parameters:,} parameters, on {config.dataset}: {split_sizes(config)}; "
        f"{device.device_name(execution.device)}, {execution.precision}{', compiled' if execution.compile else ''}",
        flush=True,
    )
    history = []
    num_steps = len(batch_sizes(num_images, config.batch_size))
    with _Interrupt() as interrupted, TrialProgress(config.epochs, num_steps) as progress:

        def should_stop() -> bool:  # called once per step
            progress.step()
            return interrupted()

        try:
            for metrics in fit(config, data, execution, checkpointer, should_stop):
                history.append(metrics)
                progress.epoch(metrics)
        except DivergedError as error:
            print(f"diverged: {error}", file=sys.stderr)
            return cli.EXIT_FAILED
        except (RuntimeError, MemoryError) as error:
            if not device.is_out_of_memory(error):
                raise
            print(f"out of memory: {error}; use a smaller --batch-size than {config.batch_size}", file=sys.stderr)
            return cli.EXIT_FAILED
    if len(history) < config.epochs:
        print(_how_to_resume(len(history), checkpoint), file=sys.stderr)
        return cli.EXIT_INTERRUPTED
    print(_summary(config, history, num_parameters))
    return 0


class TrialProgress:
    """Progress of one trial: a bar over its steps with the time left, and a line per epoch.

    Without a terminal only the lines are printed. Use it as a context, in which the bar is shown.
    """

    def __init__(self, num_epochs: int, num_steps_per_epoch: int, console: Console | None = None):
        self._num_epochs = num_epochs
        self._num_steps = num_steps_per_epoch
        self._num_steps_begun = 0  # of the current epoch
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
        self._num_steps_begun += 1
        self._bar.advance(self._task)

    def epoch(self, metrics: EpochMetrics) -> None:
        """An epoch has ended. Without any step it comes from a checkpoint, and does not count for the time left."""
        stored = self._num_steps_begun == 0
        self._num_steps_begun = 0
        if stored:
            self._bar.reset(self._task, completed=metrics.epoch * self._num_steps)
        width = len(str(self._num_epochs))
        self._console.print(
            f"epoch {metrics.epoch:>{width}}/{self._num_epochs}  "
            f"train loss {metrics.train_loss:.4f}, accuracy {metrics.train_accuracy:.2%}  "
            f"{_validation(metrics)}  "
            f"lr {metrics.lr:.2e}  {metrics.epoch_seconds:.1f} s" + ("  (from the checkpoint)" if stored else ""),
            soft_wrap=True,
        )


class _Interrupt:
    """Context that yields a function: whether Ctrl-C was pressed. A second Ctrl-C ends the process at once."""

    def __enter__(self) -> Callable[[], bool]:
        self._pressed = False
        self._before = signal.signal(signal.SIGINT, self._press)
        return lambda: self._pressed

    def _press(self, *_: Any) -> None:
        self._pressed = True
        signal.signal(signal.SIGINT, self._before)

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGINT, self._before)


def _validation(metrics: EpochMetrics) -> str:
    if metrics.val_loss is None or metrics.val_accuracy is None:
        return "no validation images"
    return f"validation loss {metrics.val_loss:.4f}, accuracy {metrics.val_accuracy:.2%}"


def _summary(config: TrialConfig, history: list[EpochMetrics], num_parameters: int) -> str:
    last, best = history[-1], max(history, key=lambda metrics: metrics.val_accuracy or 0.0)
    speed = statistics.median(metrics.images_per_second for metrics in history)
    seconds = sum(metrics.epoch_seconds for metrics in history)
    test = "" if last.test_accuracy is None else f", test {last.test_accuracy:.2%}"
    if last.val_accuracy is None:
        accuracies = f"trained on all training images{test} after epoch {last.epoch}"
    else:
        accuracies = (
            f"validation {last.val_accuracy:.2%}{test} after epoch {last.epoch} "
            f"(best validation {best.val_accuracy:.2%}, epoch {best.epoch})"
        )
    return (
        f"{accuracies}\n"
        f"{num_parameters:,} parameters, {speed:,.0f} images/s, {seconds:.1f} s of epochs, trial {config.trial_id}"
    )


def _how_to_resume(num_epochs: int, checkpoint: AnyPath | None) -> str:
    epochs = plural(num_epochs, "epoch")
    if checkpoint is None:
        return f"interrupted after {epochs}; with --checkpoint FILE it could be resumed"
    if num_epochs == 0:
        return f"interrupted in the first epoch; nothing was saved to {checkpoint}"
    return f"interrupted; {checkpoint} holds {epochs}: the same command resumes from there"


def main() -> None:
    cli.main(app)


if __name__ == "__main__":
    main()
