"""Run a sweep: `python -m flexres_tune.run sweeps/optim.yaml`."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flexres_tune import cli
from flexres_tune.errors import FlexResError
from flexres_tune.run.option_values import LoggerName, check_logger, parse_statuses
from flexres_tune.text import escape

EPILOG = """
Examples:

  python -m flexres_tune.run sweeps/optim.yaml

  python -m flexres_tune.run sweeps/optim.yaml --dry-run

  python -m flexres_tune.run sweeps/lr.yaml --profile none --set base.epochs=2 --max-concurrent 1

Running the same command again runs only what is missing.
"""

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


class Stages(StrEnum):
    """Which stages of a sweep to run."""

    all = "all"
    screen = "screen"
    confirm = "confirm"


@app.command(epilog=EPILOG)
def run(
    sweep: Annotated[Path, typer.Argument(help="The sweep file, such as sweeps/optim.yaml.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the trials; start nothing.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="With --dry-run: measure on this machine how long an epoch takes.")
    ] = False,
    price: Annotated[
        float | None, typer.Option(min=0, metavar="USD", help="With --dry-run: price of a worker per hour.")
    ] = None,
    head_price: Annotated[
        float | None, typer.Option(min=0, metavar="USD", help="With --price: price of a cluster's head per hour.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="With --price: estimate for this many workers with one GPU each.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one value of the file; may be repeated."),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="Profile of the file; none: the file as written; auto: laptop if there is no GPU.")
    ] = "auto",
    storage: Annotated[
        str,
        typer.Option(metavar="FOLDER|URL", help="Folder of the tables, or s3://BUCKET/... or gs://BUCKET/..."),
    ] = "results",
    stage: Annotated[Stages, typer.Option(help="Run only the screening or only the confirmation.")] = Stages.all,
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="Run at most this many trials at once.")] = None,
    address: Annotated[
        str | None, typer.Option(help="Ray cluster to join; auto: one that runs on this machine.")
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Start Ray on this machine even if it belongs to a cluster.")
    ] = False,
    reuse: Annotated[
        bool, typer.Option("--reuse/--no-reuse", help="Copy the rows of trials that another sweep has completed.")
    ] = True,
    retry: Annotated[
        str | None,
        typer.Option(metavar="STATUSES", help="Run trials with these statuses again: failed,out_of_memory,diverged."),
    ] = None,
    trial_timeout: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="Kill a trial that has not reported an epoch for SECONDS."),
    ] = None,
    logger: Annotated[
        list[LoggerName] | None,
        typer.Option(help="Also log epochs there; may be repeated. Its package must be installed."),
    ] = None,
    allow_code: Annotated[
        bool,
        typer.Option(
            "--allow-code", help="Let the sweep file name code outside of its folder and in installed packages."
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Ray's own messages too.")] = False,
) -> None:
    """Run the trials of a sweep that are not in the tables yet."""
    _say_on_terminal(f"reading {escape(str(sweep))} ...\r")  # the imports below take a second
    from flexres_tune.cluster.ray_processes import RayLostError
    from flexres_tune.estimate.price import DryRun, Price
    from flexres_tune.run.restart import ReloadRequested, reload_command, restart_command
    from flexres_tune.run.session import Session
    from flexres_tune.storage import make_path
    from flexres_tune.sweep.options import RunOptions

    options = RunOptions(
        profile=profile,
        overrides=tuple(set_ or ()),
        stage=stage.value,
        reuse=reuse,
        retry=parse_statuses((retry or "").split(",")),
        storage=make_path(storage),
        address=address,
        local=local,
        max_concurrent=max_concurrent,
        trial_timeout_s=trial_timeout,
        loggers=tuple(logger or ()),
        allow_code=allow_code,
        verbose=verbose,
    )
    _say_on_terminal("\x1b[2K")
    session = Session(sweep, options)
    for name, value in (("--measure", measure or None), ("--price", price)):
        if value is not None and not dry_run:
            raise FlexResError(f"{name} belongs to --dry-run; add --dry-run, or leave out {name}")
    if price is None and (head_price is not None or workers is not None):
        raise FlexResError("--head-price and --workers need --price")
    if dry_run:
        money = None if price is None else Price(price, head_price or 0.0, workers or 1)
        raise typer.Exit(session.list_trials(DryRun(measure, money)))
    for name in options.loggers:
        check_logger(name)
    try:
        raise typer.Exit(session.run().status)
    except RayLostError as error:
        restart_command(error)
    except ReloadRequested as request:
        reload_command(request)


def _say_on_terminal(text: str) -> None:
    """Show text that the next line overwrites; nothing in a file."""
    if sys.stdout.isatty():
        sys.stdout.write(text)
        sys.stdout.flush()


def _is_keyboard_interrupt(error: BaseException | None) -> bool:
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def main() -> None:
    """Entry point. After an interruption all rows are written; Python's own exit would wait for Ray's threads."""
    try:
        cli.main(app)
    except SystemExit as end:
        if end.code == cli.EXIT_INTERRUPTED:
            if _is_keyboard_interrupt(end):  # Ctrl-C before the session handles signals
                from flexres_tune.run.restart import typed_caller

                print(typed_caller().interrupted_line)
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(cli.EXIT_INTERRUPTED)
        raise


if __name__ == "__main__":
    main()
