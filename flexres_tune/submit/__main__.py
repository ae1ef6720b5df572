"""Run a sweep on a cluster from one's laptop: `python -m flexres_tune.submit cluster/gpu.yaml sweeps/optim.yaml`."""

from __future__ import annotations

import secrets
import shlex
import signal
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

import flexres_tune
from flexres_tune import cli
from flexres_tune.errors import FlexResError

if TYPE_CHECKING:
    from flexres_tune.submit.client import Follower

EPILOG = """
Examples, after `ray up -y ~/gpu.yaml`:

  python -m flexres_tune.submit ~/gpu.yaml sweeps/optim.yaml

  python -m flexres_tune.submit ~/gpu.yaml sweeps/optim.yaml --profile none --max-concurrent 8

  python -m flexres_tune.submit ~/gpu.yaml sweeps/optim.yaml --attach

  python -m flexres_tune.submit ~/gpu.yaml sweeps/optim.yaml --fetch

Any other option is one of `run`, and goes along. Ctrl-C, or a closed laptop, ends the watching and not the run.
"""
EXIT_NOT_FOUND = 127  # a shell's, where there is no such command
REFUSED = {
    "dry_run": "--dry-run lists trials without a cluster: python -m flexres_tune.run SWEEP --dry-run",
    "local": "--local would train on the head alone; leave it out",
    "address": "--address is the head's own; leave it out",
}

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(epilog=EPILOG, context_settings={"ignore_unknown_options": True, "allow_extra_args": True})
def submit(
    ctx: typer.Context,
    cluster: Annotated[Path, typer.Argument(help="The file that `ray up` was given.", show_default=False)],
    sweep: Annotated[Path, typer.Argument(help="The sweep file, such as sweeps/optim.yaml.", show_default=False)],
    attach: Annotated[bool, typer.Option("--attach", help="Follow a run that was submitted before.")] = False,
    fetch: Annotated[bool, typer.Option("--fetch", help="Bring the sweep's tables and report here.")] = False,
    stop: Annotated[bool, typer.Option("--stop", help="Ctrl-C for the run: it saves where it is, and ends.")] = False,
    last: Annotated[int | None, typer.Option(min=0, help="With --attach: only so many lines before now.")] = None,
    into: Annotated[Path, typer.Option(help="With --fetch: the results folder here.")] = Path("results"),
    checkpoints: Annotated[bool, typer.Option("--checkpoints", help="With --fetch: the checkpoints, too.")] = False,
    storage: Annotated[
        str | None, typer.Option(help="Folder for the tables on the cluster; else what the cluster file says.")
    ] = None,
    python: Annotated[
        str | None, typer.Option(help="Python on the cluster's head; else what the cluster file says.")
    ] = None,
) -> None:
    """Send the working tree to a cluster's head, run a sweep there, and follow it; exit as it does."""
    from flexres_tune.display.terminal import escape_for_console, make_console
    from flexres_tune.submit.client import Follower
    from flexres_tune.submit.cluster_file import read_cluster_file
    from flexres_tune.submit.ray_exec import Head

    _check_options(ctx.params, ctx.args)
    name = _sweep_name(sweep) if attach or fetch or stop else _check_sweep(sweep, ctx.args)
    head = Head(read_cluster_file(cluster, python, storage))
    console = make_console()

    def show(line: str) -> None:
        console.print(escape_for_console(line), soft_wrap=True)

    follower = Follower(head, name, show)
    again = shlex.join(["python", "-m", "flexres_tune.submit", str(cluster), str(sweep)])
    try:
        if stop:
            status = follower.stop()
        elif attach:
            status = follower.attach(last)
        else:
            with tempfile.TemporaryDirectory(prefix="flexres_tune_") as folder:
                archive, inside = _send(follower, sweep, Path(folder))
            if fetch:
                num_files = follower.fetch(archive, into, checkpoints)
                show(f"{into / name}: {num_files} files; next: {_query(name, into)}")
                return
            show(f"to detach: Ctrl-C; to follow again: {again} --attach")
            status = follower.start(archive, [inside, *ctx.args], _environment(console.width))
    except KeyboardInterrupt:
        _leave(follower, again)
    except FlexResError as error:
        raise FlexResError(_with_way_back(error, follower, again)) from None
    if status == EXIT_NOT_FOUND:
        raise FlexResError(
            f"{head.cluster.python}: must be a Python on the head of {cluster}, but is not; name another with --python"
        )
    raise typer.Exit(status)


def _check_options(params: dict[str, Any], args: list[str]) -> None:
    """Options that would be ignored are refused."""
    if wrong := [str(params[name]) for name in ("cluster", "sweep") if str(params[name]).startswith("-")]:
        raise FlexResError(
            f"the cluster file and the sweep file must come first, but got {wrong[0]}; options after them"
        )
    chosen = [f"--{name}" for name in ("attach", "fetch", "stop") if params[name]]
    if len(chosen) > 1:
        raise FlexResError(f"{' and '.join(chosen)}: one at a time")
    if chosen and args:
        raise FlexResError(f"{chosen[0]} takes none of run's options, but got {' '.join(args)[:100]}")
    if params["last"] is not None and not params["attach"]:
        raise FlexResError("--last needs --attach")
    if (params["checkpoints"] or params["into"] != Path("results")) and not params["fetch"]:
        raise FlexResError("--checkpoints and --into need --fetch")


def _check_sweep(sweep: Path, args: list[str]) -> str:
    """The sweep's name; run's options and the whole file are checked here, before anything is sent."""
    from flexres_tune.run.__main__ import app as run_app
    from flexres_tune.spec import load_sweep

    context = typer.main.get_command(run_app).make_context("run", [str(sweep), *args])
    given = context.params
    for name, message in REFUSED.items():
        if given[name]:
            raise FlexResError(message)
    return load_sweep(str(sweep), profile=given["profile"], overrides=tuple(given["set_"] or ())).name


def _sweep_name(sweep: Path) -> str:
    """The name that stands in the file, whatever else may be wrong with it by now."""
    from flexres_tune.names import name_problem
    from flexres_tune.spec.yaml_file import read_yaml

    name = read_yaml(str(sweep)).data.get("name")
    if problem := name_problem(name):
        raise FlexResError(f"{sweep}: name: {problem}")
    return name


def _send(follower: Follower, sweep: Path, folder: Path) -> tuple[str, str]:
    """The working tree to the head's home: (the archive there, the sweep file in it)."""
    from flexres_tune.submit.bundle import pack_tree

    archive = f".flexres_tune-{secrets.token_hex(6)}.zip"
    sent = pack_tree(Path(flexres_tune.__file__).parents[1], sweep, folder / archive)
    cluster = follower.head.cluster
    follower.show(
        f"{follower.sweep}: {sent.num_files} files ({sent.num_bytes / 1e3:,.0f} kB) to cluster {cluster.name}"
    )
    follower.head.put(folder / archive, f"~/{archive}")
    return archive, sent.sweep


def _environment(num_columns: int) -> list[str]:
    """What the run is told of this terminal and of this working tree."""
    from flexres_tune.provenance import SENT_COMMIT, git_commit

    commit = git_commit()
    return [f"COLUMNS={num_columns}", *([f"{SENT_COMMIT}={commit}"] if commit else [])]


def _query(name: str, into: Path) -> str:
    words = ["python", "-m", "flexres_tune.query", "leaderboard", "--sweep", name]
    return shlex.join([*words, *(["--results", str(into)] if into != Path("results") else [])])


def _leave(follower: Follower, again: str) -> NoReturn:
    if follower.is_followed:
        follower.show(f"detached: the run goes on; to follow it again: {again} --attach; to end it: {again} --stop")
    else:
        follower.show(f"interrupted before the head had answered; whether the run is there, says: {again} --attach")
    raise SystemExit(cli.EXIT_INTERRUPTED)


def _with_way_back(error: FlexResError, follower: Follower, again: str) -> str:
    return f"{error}\nthe run goes on; to follow it again: {again} --attach" if follower.is_followed else str(error)


def main() -> None:
    """Entry point. SIGTERM and SIGHUP do what Ctrl-C does, so that no `ray exec` is left running."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores SIGHUP, and so do we then
            signal.signal(number, signal.default_int_handler)
    cli.main(app)


if __name__ == "__main__":
    main()
