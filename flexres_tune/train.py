"""Train one trial in this process, without Ray: `python -m flexres_tune.train --model tiny --dataset digits`."""

from __future__ import annotations

import signal
import statistics
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from flexres_tune import cli
from flexres_tune.errors import DivergedError
from flexres_tune.spec.trial import TrialConfig
from flexres_tune.storage import AnyPath, make_path
from flexres_tune.trial_options import read_config, with_trial_options

if TYPE_CHECKING:
    from flexres_tune.records import EpochMetrics

EPILOG = """
Examples:

  python -m flexres_tune.train --model tiny --dataset digits --epochs 5 --batch-size 32

  python -m flexres_tune.train --model resnet22_2 --optimizer adamw --lr 1e-3 --epochs 20 --checkpoint resnet22.pt

  python -m flexres_tune.train --blocks 3,3 --channels 16,32 --dataset digits --augmentation crop,rotation

  python -m flexres_tune.train --model kernel_15 --kernel-size "[[1, 5], [3, 3], [1, 5]]" --dataset parquet:images

Lists are written with commas. With --checkpoint the same command goes on where it was interrupted.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(epilog=EPILOG)
@with_trial_options
def train(
    model: Annotated[
        str | None, typer.Option(help="A preset's name, such as resnet22_2; or give --blocks and --channels.")
    ] = None,
    max_parameters: Annotated[int, typer.Option(min=1, help="Refuse a model with more parameters.")] = 5_000_000,
    checkpoint: Annotated[
        str | None, typer.Option(metavar="FILE", help="File to go on from, and to save to after each epoch.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="cpu, cuda or cuda:N; if absent the first GPU, or the CPU.")
    ] = None,
    num_threads: Annotated[int | None, typer.Option(min=1, help="Threads on a CPU.")] = None,
    **fields: str | None,
) -> None:
    """Train one trial; a line an epoch, and its accuracy on the validation and the test images."""
    config, num_parameters = read_config({"model": model, **fields}, max_parameters)
    raise typer.Exit(
        run_trial(config, num_parameters, make_path(checkpoint) if checkpoint else None, device, num_threads)
    )


def run_trial(
    config: TrialConfig,
    num_parameters: int,
    checkpoint: AnyPath | None = None,
    device_name: str | None = None,
    num_threads: int | None = None,
) -> int:
    """Train with progress and a summary on stdout; returns the exit status.

    Raises:
        FlexResError: the device, the data or the checkpoint cannot be used.
    """
    from flexres_tune.datasets import load_dataset  # here, so that --help and a wrong option do not wait for torch
    from flexres_tune.training import choose_execution, device, fit
    from flexres_tune.training.epoch import batch_sizes
    from flexres_tune.training.progress import TrialProgress

    if num_threads is not None:
        device.set_num_threads(num_threads)
    execution = choose_execution(config, device.pick_device(device_name))
    data = load_dataset(config.dataset, execution.device, config.num_train_images)
    num_images = len(data.train.labels)
    print(
        f"{config.model.name}, {num_parameters:,} parameters, on {num_images:,} images of {config.dataset}; "
        f"{device.device_name(execution.device)}, {execution.precision}{', compiled' if execution.compile else ''}",
        flush=True,
    )
    history = []
    num_steps = len(batch_sizes(num_images, config.batch_size))
    with _Interrupt() as interrupted, TrialProgress(config.epochs, num_steps) as progress:

        def should_stop() -> bool:  # asked once a step
            progress.step()
            return interrupted()

        try:
            for metrics in fit(config, data, execution, checkpoint, should_stop=should_stop):
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
        print(_how_to_go_on(len(history), checkpoint), file=sys.stderr)
        return cli.EXIT_INTERRUPTED
    print(_summary(config, history, num_parameters))
    return 0


class _Interrupt:
    """Ctrl-C as a question: the first is answered at the next step, a second ends the process at once."""

    def __enter__(self) -> Callable[[], bool]:
        self._pressed = False
        self._before = signal.signal(signal.SIGINT, self._press)
        return lambda: self._pressed

    def _press(self, *_: Any) -> None:
        self._pressed = True
        signal.signal(signal.SIGINT, self._before)

    def __exit__(self, *_: Any) -> None:
        signal.signal(signal.SIGINT, self._before)


def _summary(config: TrialConfig, history: list[EpochMetrics], num_parameters: int) -> str:
    last, best = history[-1], max(history, key=lambda metrics: metrics.val_accuracy)
    speed = statistics.median(metrics.images_per_second for metrics in history)
    seconds = sum(metrics.epoch_seconds for metrics in history)
    return (
        f"validation {last.val_accuracy:.2%}, test {last.test_accuracy:.2%} after epoch {last.epoch} "
        f"(best validation {best.val_accuracy:.2%}, epoch {best.epoch})\n"
        f"{num_parameters:,} parameters, {speed:,.0f} images/s, {seconds:.1f} s of epochs, trial {config.trial_id}"
    )


def _how_to_go_on(num_epochs: int, checkpoint: AnyPath | None) -> str:
    from flexres_tune.text import plural

    epochs = plural(num_epochs, "epoch")
    if checkpoint is None:
        return f"interrupted after {epochs}; with --checkpoint FILE a trial goes on where it was interrupted"
    if num_epochs == 0:
        return f"interrupted before the first epoch was finished; nothing was saved to {checkpoint}"
    return f"interrupted; {checkpoint} holds {epochs}: the same command goes on from there"


def main() -> None:
    cli.main(app)


if __name__ == "__main__":
    main()
