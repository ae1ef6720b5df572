"""Run a sweep: `python -m flexres_tune.run sweeps/optim.yaml`."""

from __future__ import annotations

import importlib
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from flexres_tune import cli
from flexres_tune.errors import FlexResError
from flexres_tune.records import TrialStatus

EPILOG = """
Examples:

  python -m flexres_tune.run sweeps/optim.yaml

  python -m flexres_tune.run sweeps/optim.yaml --dry-run

  python -m flexres_tune.run sweeps/lr.yaml --profile none --set base.epochs=2 --max-concurrent 1

Running the same command again runs only what is missing.
"""

MAX_RAY_LOSSES = 3  # so often the command starts itself again where Ray's own processes died
LOSSES = "FLEXRES_TUNE_RAY_LOSSES"  # environment variable that counts them, from one process to the next

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


class LoggerName(StrEnum):
    """Loggers of Ray Tune that --logger can add; raytune/loggers.py has a row for each."""

    tensorboard = "tensorboard"
    wandb = "wandb"
    mlflow = "mlflow"


LOGGER_PACKAGES = {LoggerName.tensorboard: "tensorboardX", LoggerName.wandb: "wandb", LoggerName.mlflow: "mlflow"}


class Stages(StrEnum):
    """Which stages of a sweep to run."""

    all = "all"
    screen = "screen"
    confirm = "confirm"


@app.command(epilog=EPILOG)
def run(
    sweep: Annotated[Path, typer.Argument(help="The sweep file, such as sweeps/optim.yaml.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the trials and stop.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override one value of the file; may be repeated."),
    ] = None,
    profile: Annotated[
        str, typer.Option(help="NAME of a profile, none (the file as written), or auto: laptop where there is no GPU.")
    ] = "auto",
    storage: Annotated[
        str,
        typer.Option(metavar="FOLDER|URL", help="Where the tables go: a folder, s3://BUCKET/... or gs://BUCKET/..."),
    ] = "results",
    stage: Annotated[Stages, typer.Option(help="Run only the screening, or only the confirmation.")] = Stages.all,
    max_concurrent: Annotated[int | None, typer.Option(min=1, help="Run at most this many trials at once.")] = None,
    address: Annotated[str | None, typer.Option(help="Ray cluster to join, or auto for one on this machine.")] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Start Ray on this machine even if a cluster is there.")
    ] = False,
    reuse: Annotated[
        bool, typer.Option("--reuse/--no-reuse", help="Take over rows of trials that another sweep has completed.")
    ] = True,
    retry: Annotated[
        str | None,
        typer.Option(metavar="STATUSES", help="Run trials again that ended so: failed,out_of_memory,diverged."),
    ] = None,
    trial_timeout: Annotated[
        float | None,
        typer.Option(min=1, metavar="SECONDS", help="End a trial that reports no epoch for so long."),
    ] = None,
    logger: Annotated[
        list[LoggerName] | None, typer.Option(help="Log epochs there too; may be repeated. Needs its package.")
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", help="Show Ray's own messages too.")] = False,
) -> None:
    """Run the trials of a sweep that the tables do not hold yet."""
    from flexres_tune.run.session import Session
    from flexres_tune.storage import make_path

    session = Session(
        file=sweep,
        overrides=tuple(set_ or ()),
        profile=profile,
        storage=make_path(storage),
        stage=stage.value,
        max_concurrent=max_concurrent,
        address=address,
        local=local,
        verbose=verbose,
        loggers=tuple(logger or ()),
        reuse=reuse,
        retry=_statuses(retry),
        trial_timeout_s=trial_timeout,
    )
    if dry_run:
        raise typer.Exit(session.list_trials())
    for name in logger or ():
        check_logger(name)
    from flexres_tune.cluster.ray_processes import RayLostError

    try:
        raise typer.Exit(session.run())
    except RayLostError as error:
        _start_again(error)


def check_logger(name: LoggerName) -> None:
    """Raise FlexResError if a logger cannot work: its package is missing, or wandb has no account. Imports no ray."""
    package = LOGGER_PACKAGES[name]
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise FlexResError(f"--logger {name} needs the package {package}: {error}; pip install {package}") from None
    if name == LoggerName.wandb and not _has_wandb_account():
        raise FlexResError(
            "--logger wandb needs an account: run `wandb login`, set WANDB_API_KEY, or set WANDB_MODE=offline to write "
            "below the results folder"
        )


def _has_wandb_account() -> bool:
    import wandb

    offline = os.environ.get("WANDB_MODE") in ("offline", "disabled")
    return offline or bool(os.environ.get("WANDB_API_KEY") or getattr(wandb.api, "api_key", None))


def _statuses(text: str | None) -> tuple[TrialStatus, ...]:
    """`failed,diverged` as statuses; only those that a second try may change."""
    may = (TrialStatus.FAILED, TrialStatus.OUT_OF_MEMORY, TrialStatus.DIVERGED)
    names = [name.strip() for name in (text or "").split(",") if name.strip()]
    for name in names:
        if name not in may:
            raise FlexResError(f"--retry: each must be one of {', '.join(may)}, but got {name[:60]!r}; commas between")
    return tuple(map(TrialStatus, names))


def main() -> None:
    """Entry point. After an interruption all rows are written; Python's own exit would wait for Ray's threads."""
    try:
        cli.main(app)
    except SystemExit as end:
        if end.code == cli.EXIT_INTERRUPTED:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(cli.EXIT_INTERRUPTED)
        raise


def _start_again(error: Exception) -> None:
    """Put a new driver in this one's place: the same command, which runs what is missing."""
    from flexres_tune.cluster.ray_processes import kill_children

    num_losses = int(os.environ.get(LOSSES, 0)) + 1
    if num_losses > MAX_RAY_LOSSES:
        print(f"{error}, for the {num_losses}th time; the same command goes on", file=sys.stderr, flush=True)
        os._exit(1)  # Tune's thread still waits, and would keep the process
    print(f"{error}; the command starts itself again, and the trials go on from their checkpoints", flush=True)
    os.environ[LOSSES] = str(num_losses)
    sys.stderr.flush()
    kill_children()
    os.execv(sys.executable, [sys.executable, "-m", "flexres_tune.run", *sys.argv[1:]])


if __name__ == "__main__":
    main()
